/*
 * AMD SEV for guests that TCG runs: properties of the objects
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "qemu/cutils.h"
#include "internal.h"

static const char *const cipher_names[] = { "auto", "aesni", "portable" };
static const char *const memory_names[] = {
    [SOC_BACKING_CIPHERTEXT] = "ciphertext", [SOC_BACKING_HOLE] = "hole",
};

static bool is_fixed(const char *name, Error **errp)
{
    if (soc_cache_active()) {
        error_setg(errp, "%s is fixed once the guest is set up", name);
    }
    return soc_cache_active();
}

/* ---- words ---- */

static char *get_cipher(Object *obj, Error **errp)
{
    if (soc_cache_active()) {
        return g_strdup(soc_cache_aesni() ? "aesni" : "portable");
    }
    return g_strdup(cipher_names[SEV_TCG_COMMON(obj)->cipher]);
}

static void set_cipher(Object *obj, const char *value, Error **errp)
{
    for (int i = 0; i < ARRAY_SIZE(cipher_names); i++) {
        if (!strcmp(value, cipher_names[i])) {
            SEV_TCG_COMMON(obj)->cipher = i;
            return;
        }
    }
    error_setg(errp, "cipher must be auto, aesni or portable");
}

static char *get_private_memory(Object *obj, Error **errp)
{
    return g_strdup(memory_names[SEV_SNP_TCG_GUEST(obj)->private_memory]);
}

static void set_private_memory(Object *obj, const char *value, Error **errp)
{
    if (is_fixed("private-memory", errp)) {
        return;
    }
    for (int i = SOC_BACKING_CIPHERTEXT; i < ARRAY_SIZE(memory_names); i++) {
        if (!strcmp(value, memory_names[i])) {
            SEV_SNP_TCG_GUEST(obj)->private_memory = i;
            return;
        }
    }
    error_setg(errp, "private-memory must be ciphertext or hole");
}

static char *get_firmware_socket(Object *obj, Error **errp)
{
    return g_strdup(SEV_SNP_TCG_GUEST(obj)->firmware_socket);
}

static void set_firmware_socket(Object *obj, const char *value, Error **errp)
{
    SevSnpTcgGuest *sev = SEV_SNP_TCG_GUEST(obj);

    if (!is_fixed("firmware-socket", errp)) {
        g_free(sev->firmware_socket);
        sev->firmware_socket = g_strdup(value);
    }
}

static void set_debug_key(Object *obj, const char *value, Error **errp)
{
    SevTcgCommon *sev = SEV_TCG_COMMON(obj);

    sev->have_key = strlen(value) == 2 * SOC_XEX_KEY_SIZE;
    for (int i = 0; sev->have_key && i < SOC_XEX_KEY_SIZE; i++) {
        int hi = g_ascii_xdigit_value(value[2 * i]);
        int lo = g_ascii_xdigit_value(value[2 * i + 1]);

        sev->have_key = hi >= 0 && lo >= 0;
        sev->key[i] = hi << 4 | lo;
    }
    if (!sev->have_key) {
        error_setg(errp, "debug-key must be %d hexadecimal digits",
                   2 * SOC_XEX_KEY_SIZE);
        return;
    }
    warn_report("%s: the memory is encrypted with a key that is"
                " written on the command line (debug-key)",
                object_get_typename(obj));
}

static void set_launch_swap(Object *obj, const char *value, Error **errp)
{
    SevTcgCommon *sev = SEV_TCG_COMMON(obj);
    const char *rest;

    if (is_fixed("x-launch-swap", errp)) {
        return;
    }
    sev->have_swap = !qemu_strtou64(value, &rest, 0, &sev->swap[0]) &&
        *rest == '/' && !qemu_strtou64(rest + 1, NULL, 0, &sev->swap[1]) &&
        !((sev->swap[0] | sev->swap[1]) % SEV_PAGE_SIZE);
    if (!sev->have_swap) {
        error_setg(errp, "x-launch-swap must be two addresses of pages, as"
                   " 0xffc41000/0xffc42000");
    }
}

static void set_cache_op(Object *obj, const char *value, Error **errp)
{
    static const char *const names[] = { "wbnoinvd", "wbinvd", "invd" };

    if (!soc_cache_active()) {
        error_setg(errp, "the guest's memory is not set up yet");
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        if (!strcmp(value, names[i])) {
            soc_cache_operate(i);
            return;
        }
    }
    error_setg(errp, "cache-op must be wbnoinvd (write back), wbinvd (write"
               " back and drop) or invd (drop)");
}

static char *get_cache_protection(Object *obj, Error **errp)
{
    if (!soc_cache_active()) {
        return g_strdup("none");
    }
    return g_strdup(soc_cache_secret() ? "memfd_secret" : "dontdump");
}

static char *get_launch_digest(Object *obj, Error **errp)
{
    return sev_tcg_launch_digest();
}

/* ---- blobs in base64, as sev-snp-guest takes them ---- */

typedef struct Blob {
    const char *name, *description;
    size_t offset, size;
    size_t given;               /* offset of a flag, or 0 */
} Blob;

#define BLOB(name, field, given, text) { \
        name, text, offsetof(SevSnpTcgGuest, field), \
        sizeof_field(SevSnpTcgGuest, field), given }
static const Blob blobs[] = {
    BLOB("guest-visible-workarounds", guest_visible_workarounds, 0,
         "16 bytes for the secrets page, in base64"),
    BLOB("host-data", host_data, 0, "32 bytes for the report, in base64"),
    BLOB("id-block", id_block, offsetof(SevSnpTcgGuest, have_id_block),
         "96 bytes: the owner's ID block, in base64"),
    BLOB("id-auth", id_auth, offsetof(SevSnpTcgGuest, have_id_auth),
         "4096 bytes: ID authentication information, in base64"),
};
#undef BLOB

static void get_blob(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    const Blob *blob = opaque;
    g_autofree char *text = g_base64_encode((guchar *)obj + blob->offset,
                                            blob->size);

    visit_type_str(v, name, &text, errp);
}

static void set_blob(Object *obj, Visitor *v, const char *name, void *opaque,
                     Error **errp)
{
    const Blob *blob = opaque;
    g_autofree char *text = NULL;
    g_autofree guchar *data = NULL;
    size_t size;

    if (is_fixed(name, errp) || !visit_type_str(v, name, &text, errp)) {
        return;
    }
    data = g_base64_decode(text, &size);
    if (!data || size != blob->size) {
        error_setg(errp, "%s must be %zu bytes in base64, not %zu", name,
                   blob->size, size);
        return;
    }
    memcpy((char *)obj + blob->offset, data, size);
    if (blob->given) {
        *(bool *)((char *)obj + blob->given) = true;
    }
}

static void add_blobs(ObjectClass *oc)
{
    for (int i = 0; i < ARRAY_SIZE(blobs); i++) {
        object_class_property_add(oc, blobs[i].name, "str", get_blob, set_blob,
                                  NULL, (void *)&blobs[i]);
        object_class_property_set_description(oc, blobs[i].name,
                                              blobs[i].description);
    }
}

/* ---- switches: @opaque is an offset into the object ---- */

static void get_switch(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    visit_type_bool(v, name, (bool *)((char *)obj + (uintptr_t)opaque), errp);
}

static void set_switch(Object *obj, Visitor *v, const char *name, void *opaque,
                       Error **errp)
{
    if (!is_fixed(name, errp)) {
        visit_type_bool(v, name, (bool *)((char *)obj + (uintptr_t)opaque),
                        errp);
    }
}

static void add_switch(ObjectClass *oc, const char *name, size_t offset,
                       const char *description)
{
    object_class_property_add(oc, name, "bool", get_switch, set_switch, NULL,
                              (void *)(uintptr_t)offset);
    object_class_property_set_description(oc, name, description);
}

/* QEMU's name for it on hardware: say why, not only that there is no such. */
static void refuse_secure_tsc(Object *obj, bool value, Error **errp)
{
    if (value) {
        error_setg(errp, "secure-tsc=on: not emulated, since times have no"
                   " meaning in an emulator");
    }
}

/* ---- numbers ---- */

static void get_number(Object *obj, Visitor *v, const char *name,
                       void *opaque, Error **errp)
{
    visit_type_uint32(v, name, (uint32_t *)((char *)obj + (uintptr_t)opaque),
                      errp);
}

static void set_number(Object *obj, Visitor *v, const char *name,
                       void *opaque, Error **errp)
{
    if (!is_fixed(name, errp)) {
        visit_type_uint32(v, name,
                          (uint32_t *)((char *)obj + (uintptr_t)opaque), errp);
    }
}

static void add_number(ObjectClass *oc, const char *name, size_t offset,
                       const char *description)
{
    object_class_property_add(oc, name, "uint32", get_number, set_number, NULL,
                              (void *)(uintptr_t)offset);
    object_class_property_set_description(oc, name, description);
}

static void get_snp_policy(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    visit_type_uint64(v, name, &SEV_SNP_TCG_GUEST(obj)->policy, errp);
}

static void set_snp_policy(Object *obj, Visitor *v, const char *name,
                           void *opaque, Error **errp)
{
    if (!is_fixed(name, errp)) {
        visit_type_uint64(v, name, &SEV_SNP_TCG_GUEST(obj)->policy, errp);
    }
}

/* ---- read-only counters and addresses ---- */

typedef struct Readings {
    SocCacheStats stats;
    uint64_t dram_address, dram_size, cache_address, cache_size;
    uint64_t private_address, private_size;
} Readings;

static void get_reading(Object *obj, Visitor *v, const char *name,
                        void *opaque, Error **errp)
{
    Readings r = {
        .dram_address = soc_cache_map.dram,
        .dram_size = soc_cache_map.dram_size,
        .cache_address = soc_cache_map.slots,
        .cache_size = soc_cache_map.slots_size,
    };
    size_t private_size = 0;
    uint64_t value;

    if (soc_cache_active()) {
        r.private_address = (uintptr_t)soc_cache_private_map(&private_size);
        r.private_size = private_size;
    }
    soc_cache_get_stats(&r.stats);
    value = *(uint64_t *)((char *)&r + (uintptr_t)opaque);
    visit_type_uint64(v, name, &value, errp);
}

static const struct {
    const char *name, *description;
    size_t offset;
} readings[] = {
#define READING(name, field, text) { name, text, offsetof(Readings, field) }
    READING("encryptions", stats.encryptions,
            "pages encrypted on their way to DRAM"),
    READING("decryptions", stats.decryptions,
            "pages decrypted into the SoC cache"),
    READING("evictions", stats.evictions, "rounds of making room"),
    READING("clean-drops", stats.clean_drops,
            "pages that left the cache unwritten"),
    READING("device-writebacks", stats.device_writebacks,
            "pages that left the cache for a device or a shared mapping"),
    READING("resident", stats.resident, "pages in the SoC cache"),
    READING("dram-address", dram_address,
            "where this process maps the guest's DRAM"),
    READING("dram-size", dram_size, "bytes of DRAM"),
    READING("cache-address", cache_address,
            "where this process maps the SoC cache"),
    READING("cache-size", cache_size, "bytes of the SoC cache's mapping"),
    READING("private-address", private_address,
            "SEV-SNP: where this process maps the private memory, read-only;"
            " 0 if it does not"),
    READING("private-size", private_size, "bytes of that mapping"),
#undef READING
};

static void add_readings(ObjectClass *oc)
{
    for (int i = 0; i < ARRAY_SIZE(readings); i++) {
        object_class_property_add(oc, readings[i].name, "uint64", get_reading,
                                  NULL, NULL,
                                  (void *)(uintptr_t)readings[i].offset);
        object_class_property_set_description(oc, readings[i].name,
                                              readings[i].description);
    }
}

/* ---- the classes' lists ---- */

static void add_word(ObjectClass *oc, const char *name,
                     char *(*get)(Object *, Error **),
                     void (*set)(Object *, const char *, Error **),
                     const char *description)
{
    object_class_property_add_str(oc, name, get, set);
    object_class_property_set_description(oc, name, description);
}

void sev_tcg_add_properties(ObjectClass *oc)
{
    add_number(oc, "cbitpos", offsetof(SevTcgCommon, cbitpos),
               "C-bit location in page table entries");
    add_number(oc, "reduced-phys-bits",
               offsetof(SevTcgCommon, reduced_phys_bits),
               "physical address bits that the guest loses");
    add_number(oc, "cache-pages", offsetof(SevTcgCommon, cache_pages),
               "pages of plaintext kept at most");
    add_switch(oc, "kernel-hashes", offsetof(SevTcgCommon, kernel_hashes),
               "measure kernel, initrd and command line through hashes");
    add_switch(oc, "debug-swap", offsetof(SevTcgCommon, debug_swap),
               "the guest owns its debug registers: no exit for DR7");
    object_class_property_add_bool(oc, "secure-tsc", NULL, refuse_secure_tsc);
    add_switch(oc, "require-secret-memory",
               offsetof(SevTcgCommon, require_secret_memory),
               "refuse to start where memfd_secret memory is not to be had");
    add_word(oc, "cipher", get_cipher, set_cipher,
             "auto, aesni or portable; reads as the one in use");
    add_word(oc, "debug-key", NULL, set_debug_key,
             "64 hexadecimal digits: data key and tweak key, for tests only");
    add_word(oc, "x-launch-swap", NULL, set_launch_swap,
             "the host exchanges two pages of the firmware image at launch");
    add_word(oc, "cache-op", NULL, set_cache_op,
             "set to wbnoinvd, wbinvd or invd to act on the whole SoC cache");
    add_word(oc, "cache-protection", get_cache_protection, NULL,
             "memfd_secret, or dontdump where that is missing (weaker)");
    add_word(oc, "launch-digest", get_launch_digest, NULL,
             "the launch measurement, in hexadecimal digits");
    add_readings(oc);
}

void sev_tcg_guest_add_properties(ObjectClass *oc)
{
    add_number(oc, "policy", offsetof(SevTcgGuest, policy),
               "guest policy, as for sev-guest; bit 2: SEV-ES");
}

void sev_snp_tcg_add_properties(ObjectClass *oc)
{
    object_class_property_add(oc, "policy", "uint64", get_snp_policy,
                              set_snp_policy, NULL, NULL);
    object_class_property_set_description(oc, "policy",
        "guest policy, as for sev-snp-guest");
    add_blobs(oc);
    add_switch(oc, "author-key-enabled",
               offsetof(SevSnpTcgGuest, author_key_enabled),
               "id-auth holds an author key");
    add_switch(oc, "vcek-disabled", offsetof(SevSnpTcgGuest, vcek_disabled),
               "reports are not to be signed with the chip's key");
    add_switch(oc, "strict", offsetof(SevSnpTcgGuest, strict),
               "stop instead of converting a page that the guest accesses in"
               " the other way");
    add_word(oc, "private-memory", get_private_memory, set_private_memory,
             "ciphertext: dumps show it; hole: the process does not map it");
    add_word(oc, "firmware-socket", get_firmware_socket, set_firmware_socket,
             "Unix socket of the firmware model that signs reports");
}
