/*
 * AMD SEV for guests that TCG runs: the object sev-tcg-guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Takes the place of sev-guest on a command line for hardware:
 *
 *   -object sev-tcg-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x3
 *   -machine confidential-guest-support=sev0
 *
 * The encryption itself is in accel/tcg/soc-cache.c.  There is no firmware, so
 * no launch measurement, secret injection or attestation.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-misc-target.h"
#include "qapi/visitor.h"
#include "qom/object_interfaces.h"
#include "exec/memory.h"
#include "exec/soc-cache.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "migration/blocker.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "system/confidential-guest-support.h"
#include "system/runstate.h"
#include "system/system.h"
#include "system/tcg.h"
#include "sev.h"

#define TYPE_SEV_TCG_GUEST "sev-tcg-guest"
OBJECT_DECLARE_SIMPLE_TYPE(SevTcgGuest, SEV_TCG_GUEST)

#define DEFAULT_CBITPOS 51
#define DEFAULT_REDUCED_PHYS_BITS 1
#define DEFAULT_CACHE_PAGES 16384
#define MIN_CACHE_PAGES 256

/* APM volume 2, 15.34.10: SEV_STATUS, bit 0. */
#define SEV_STATUS_SEV 1

typedef enum SevTcgCipher { CIPHER_AUTO, CIPHER_AESNI, CIPHER_PORTABLE } Cipher;
static const char *const cipher_names[] = { "auto", "aesni", "portable" };

struct SevTcgGuest {
    ConfidentialGuestSupport parent_obj;

    uint32_t policy;
    uint32_t cbitpos;
    uint32_t reduced_phys_bits;
    uint32_t cache_pages;
    Cipher cipher;
    bool require_secret_memory;
    bool have_key;
    uint8_t key[SOC_XEX_KEY_SIZE];
    bool launched;
    Error *migration_blocker;
    Notifier machine_done;
    VMChangeStateEntry *vm_state;
};

OBJECT_DEFINE_SIMPLE_TYPE_WITH_INTERFACES(SevTcgGuest, sev_tcg_guest,
                                          SEV_TCG_GUEST,
                                          CONFIDENTIAL_GUEST_SUPPORT,
                                          { TYPE_USER_CREATABLE }, { NULL })

uint64_t sev_c_bit_mask;

/* The object that the machine uses, or NULL. */
static SevTcgGuest *machine_guest(void)
{
    Object *cgs = current_machine ? OBJECT(current_machine->cgs) : NULL;

    return (SevTcgGuest *)object_dynamic_cast(cgs, TYPE_SEV_TCG_GUEST);
}

/* ---- what the rest of target/i386 and hw/i386 asks ---- */

bool sev_enabled(void)
{
    return machine_guest() != NULL;
}

uint32_t sev_get_cbit_position(void)
{
    SevTcgGuest *sev = machine_guest();

    return sev ? sev->cbitpos : 0;
}

uint32_t sev_get_reduced_phys_bits(void)
{
    SevTcgGuest *sev = machine_guest();

    return sev ? sev->reduced_phys_bits : 0;
}

uint64_t sev_get_status_msr(void)
{
    return sev_enabled() ? SEV_STATUS_SEV : 0;
}

/* The flash is not DRAM: it stays as it is and reads as plaintext. */
int sev_encrypt_flash(hwaddr gpa, uint8_t *ptr, uint64_t len, Error **errp)
{
    return 0;
}

int sev_es_save_reset_vector(void *flash_ptr, uint64_t flash_size)
{
    return 0;
}

void sev_es_set_reset_vector(CPUState *cpu)
{
}

void pc_system_parse_sev_metadata(uint8_t *flash_ptr, size_t flash_size)
{
}

/* As sev-guest with kernel-hashes=off. */
bool sev_add_kernel_loader_hashes(SevKernelLoaderContext *ctx, Error **errp)
{
    return false;
}

/* ---- monitor commands ---- */

static SevTcgGuest *guest_or_error(Error **errp)
{
    SevTcgGuest *sev = machine_guest();

    if (!sev) {
        error_setg(errp, "SEV is not enabled in this guest");
    }
    return sev;
}

SevInfo *qmp_query_sev(Error **errp)
{
    SevTcgGuest *sev = guest_or_error(errp);
    SevInfo *info;

    if (!sev) {
        return NULL;
    }
    info = g_new0(SevInfo, 1);
    info->enabled = soc_cache_active();
    info->state = sev->launched ? SEV_STATE_RUNNING : SEV_STATE_LAUNCH_UPDATE;
    info->sev_type = SEV_GUEST_TYPE_SEV;
    info->u.sev.policy = sev->policy;
    info->u.sev.handle = 1;
    return info;
}

/*
 * Answers without a guest too, as on hardware.  There is no firmware: the
 * certificates and the processor's identity are empty.
 */
SevCapability *qmp_query_sev_capabilities(Error **errp)
{
    SevTcgGuest *sev = machine_guest();
    SevCapability *cap;

    if (!tcg_enabled()) {
        error_setg(errp, "SEV is emulated under TCG only");
        return NULL;
    }
    cap = g_new0(SevCapability, 1);
    cap->pdh = g_strdup("");
    cap->cert_chain = g_strdup("");
    cap->cpu0_id = g_strdup("");
    cap->cbitpos = sev ? sev->cbitpos : DEFAULT_CBITPOS;
    cap->reduced_phys_bits = sev ? sev->reduced_phys_bits
                                 : DEFAULT_REDUCED_PHYS_BITS;
    return cap;
}

SevLaunchMeasureInfo *qmp_query_sev_launch_measure(Error **errp)
{
    error_setg(errp, "emulated SEV has no firmware: no launch measurement");
    return NULL;
}

void qmp_sev_inject_launch_secret(const char *packet_header, const char *secret,
                                  bool has_gpa, uint64_t gpa, Error **errp)
{
    error_setg(errp, "emulated SEV has no firmware: no launch secrets");
}

SevAttestationReport *qmp_query_sev_attestation_report(const char *mnonce,
                                                       Error **errp)
{
    error_setg(errp, "emulated SEV has no firmware: no attestation report");
    return NULL;
}

void hmp_info_sev(Monitor *mon, const QDict *qdict)
{
    SevTcgGuest *sev = machine_guest();
    SocCacheStats stats;

    if (!sev) {
        monitor_printf(mon, "SEV is not enabled\n");
        return;
    }
    soc_cache_get_stats(&stats);
    monitor_printf(mon, "SEV type: sev (emulated)\n"
                   "state: %s\npolicy: 0x%x\nC-bit: %u\ncache: %s, %s\n"
                   "resident: %" PRIu64 " encryptions: %" PRIu64
                   " decryptions: %" PRIu64 " evictions: %" PRIu64 "\n",
                   sev->launched ? "running" : "launch-update",
                   sev->policy, sev->cbitpos,
                   soc_cache_secret() ? "memfd_secret" : "dontdump",
                   soc_cache_aesni() ? "aesni" : "portable", stats.resident,
                   stats.encryptions, stats.decryptions, stats.evictions);
}

/* ---- starting up ---- */

static bool check_config(SevTcgGuest *sev, Error **errp)
{
    if (!tcg_enabled()) {
        error_setg(errp, "sev-tcg-guest needs -accel tcg; with KVM on an AMD"
                   " host use sev-guest");
    } else if (sev->cbitpos < 32 || sev->cbitpos > 51) {
        error_setg(errp, "cbitpos=%u: the C-bit is a bit from 32 to 51",
                   sev->cbitpos);
    } else if (sev->reduced_phys_bits > 0x3f) {
        error_setg(errp, "reduced-phys-bits=%u: at most 63",
                   sev->reduced_phys_bits);
    } else if (sev->policy & (SEV_POLICY_ES | ~0xffff003fu)) {
        error_setg(errp, "policy 0x%x: only plain SEV is emulated (no SEV-ES),"
                   " reserved bits must be zero", sev->policy);
    } else if (sev->cache_pages < MIN_CACHE_PAGES) {
        error_setg(errp, "cache-pages=%u: at least %u", sev->cache_pages,
                   MIN_CACHE_PAGES);
    } else if (sev->cipher == CIPHER_AESNI && !soc_xex_have_aesni()) {
        error_setg(errp, "cipher=aesni: this processor has no AES-NI");
    } else {
        return true;
    }
    return false;
}

static bool check_machine(MachineState *machine, Error **errp)
{
    if (!object_dynamic_cast(OBJECT(machine), TYPE_X86_MACHINE)) {
        error_setg(errp, "sev-tcg-guest needs an x86 machine with PCI");
    } else if (X86_MACHINE(machine)->smm == ON_OFF_AUTO_ON) {
        error_setg(errp, "sev-tcg-guest does not emulate SMM: use smm=off");
    } else if (machine->maxram_size > machine->ram_size) {
        error_setg(errp, "sev-tcg-guest does not emulate memory hotplug");
    } else if (!machine->ram || !memory_region_is_ram(machine->ram)) {
        error_setg(errp, "sev-tcg-guest needs all RAM in one block (no NUMA)");
    } else {
        return true;
    }
    return false;
}

static bool start(SevTcgGuest *sev, Error **errp)
{
    MachineState *machine = current_machine;
    SocCacheConfig config = {
        .pages = sev->cache_pages,
        .require_secret = sev->require_secret_memory,
        .aesni = sev->cipher != CIPHER_PORTABLE,
        .key = sev->have_key ? sev->key : NULL,
    };

    if (!check_config(sev, errp) || !check_machine(machine, errp)) {
        return false;
    }
    error_setg(&sev->migration_blocker,
               "emulated SEV: the guest's key does not leave this process");
    if (migrate_add_blocker(&sev->migration_blocker, errp) < 0) {
        return false;
    }
    if (!soc_cache_start(memory_region_get_ram_ptr(machine->ram),
                         memory_region_size(machine->ram), &config, errp)) {
        return false;
    }
    explicit_bzero(sev->key, sizeof(sev->key));
    sev_c_bit_mask = 1ull << sev->cbitpos;
    machine->cgs->ready = true;
    return true;
}

/* All RAM exists, nothing has been loaded into it, no vCPU has run. */
static void machine_done(Notifier *notifier, void *data)
{
    SevTcgGuest *sev = container_of(notifier, SevTcgGuest, machine_done);
    Error *err = NULL;

    if (machine_guest() != sev) {
        return;
    }
    if (!start(sev, &err)) {
        error_report_err(err);
        exit(1);
    }
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    if (running) {
        ((SevTcgGuest *)opaque)->launched = true;
    }
}

/* ---- properties ---- */

static char *get_cipher(Object *obj, Error **errp)
{
    SevTcgGuest *sev = SEV_TCG_GUEST(obj);

    if (soc_cache_active()) {
        return g_strdup(soc_cache_aesni() ? "aesni" : "portable");
    }
    return g_strdup(cipher_names[sev->cipher]);
}

static void set_cipher(Object *obj, const char *value, Error **errp)
{
    for (int i = 0; i < ARRAY_SIZE(cipher_names); i++) {
        if (!strcmp(value, cipher_names[i])) {
            SEV_TCG_GUEST(obj)->cipher = i;
            return;
        }
    }
    error_setg(errp, "cipher must be auto, aesni or portable");
}

static void set_debug_key(Object *obj, const char *value, Error **errp)
{
    SevTcgGuest *sev = SEV_TCG_GUEST(obj);

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
    warn_report("sev-tcg-guest: the memory is encrypted with a key that is"
                " written on the command line (debug-key)");
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

static bool get_require_secret(Object *obj, Error **errp)
{
    return SEV_TCG_GUEST(obj)->require_secret_memory;
}

static void set_require_secret(Object *obj, bool value, Error **errp)
{
    SEV_TCG_GUEST(obj)->require_secret_memory = value;
}

/* Read-only counters and addresses; @opaque is an offset into Readings. */
typedef struct Readings {
    SocCacheStats stats;
    uint64_t dram_address, dram_size, cache_address, cache_size;
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
    uint64_t value;

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
#undef READING
};

static uint32_t *number_field(Object *obj, void *offset)
{
    return (uint32_t *)((char *)obj + (uintptr_t)offset);
}

static void get_number(Object *obj, Visitor *v, const char *name,
                       void *opaque, Error **errp)
{
    visit_type_uint32(v, name, number_field(obj, opaque), errp);
}

static void set_number(Object *obj, Visitor *v, const char *name,
                       void *opaque, Error **errp)
{
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }
    if (soc_cache_active()) {
        error_setg(errp, "%s is fixed once the guest is set up", name);
        return;
    }
    *number_field(obj, opaque) = value;
}

static const struct {
    const char *name, *description;
    size_t offset;
} numbers[] = {
#define NUMBER(name, field, text) { name, text, offsetof(SevTcgGuest, field) }
    NUMBER("policy", policy, "guest policy, as for sev-guest"),
    NUMBER("cbitpos", cbitpos, "C-bit location in page table entries"),
    NUMBER("reduced-phys-bits", reduced_phys_bits,
           "physical address bits that the guest loses"),
    NUMBER("cache-pages", cache_pages, "pages of plaintext kept at most"),
#undef NUMBER
};

static void add_settings(ObjectClass *oc)
{
    for (int i = 0; i < ARRAY_SIZE(numbers); i++) {
        object_class_property_add(oc, numbers[i].name, "uint32", get_number,
                                  set_number, NULL,
                                  (void *)(uintptr_t)numbers[i].offset);
        object_class_property_set_description(oc, numbers[i].name,
                                              numbers[i].description);
    }
    object_class_property_add_str(oc, "cipher", get_cipher, set_cipher);
    object_class_property_set_description(oc, "cipher",
        "auto, aesni or portable; reads as the one in use");
    object_class_property_add_str(oc, "debug-key", NULL, set_debug_key);
    object_class_property_set_description(oc, "debug-key",
        "64 hexadecimal digits: data key and tweak key, for tests only");
    object_class_property_add_bool(oc, "require-secret-memory",
                                   get_require_secret, set_require_secret);
    object_class_property_set_description(oc, "require-secret-memory",
        "refuse to start where memfd_secret memory is not to be had");
    object_class_property_add_str(oc, "cache-op", NULL, set_cache_op);
    object_class_property_set_description(oc, "cache-op",
        "set to wbnoinvd, wbinvd or invd to act on the whole SoC cache");
    object_class_property_add_str(oc, "cache-protection",
                                  get_cache_protection, NULL);
    object_class_property_set_description(oc, "cache-protection",
        "memfd_secret, or dontdump where that is missing (weaker)");
}

static void sev_tcg_guest_class_init(ObjectClass *oc, void *data)
{
    add_settings(oc);
    for (int i = 0; i < ARRAY_SIZE(readings); i++) {
        object_class_property_add(oc, readings[i].name, "uint64", get_reading,
                                  NULL, NULL,
                                  (void *)(uintptr_t)readings[i].offset);
        object_class_property_set_description(oc, readings[i].name,
                                              readings[i].description);
    }
}

static void sev_tcg_guest_init(Object *obj)
{
    SevTcgGuest *sev = SEV_TCG_GUEST(obj);

    sev->policy = SEV_POLICY_NODBG;
    sev->cbitpos = DEFAULT_CBITPOS;
    sev->reduced_phys_bits = DEFAULT_REDUCED_PHYS_BITS;
    sev->cache_pages = DEFAULT_CACHE_PAGES;
    sev->machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&sev->machine_done);
    sev->vm_state = qemu_add_vm_change_state_handler(vm_state_changed, sev);
}

static void sev_tcg_guest_finalize(Object *obj)
{
    SevTcgGuest *sev = SEV_TCG_GUEST(obj);

    qemu_remove_machine_init_done_notifier(&sev->machine_done);
    qemu_del_vm_change_state_handler(sev->vm_state);
}
