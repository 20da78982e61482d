/*
 * AMD SEV for guests that TCG runs: the objects
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * They take the place of sev-guest and sev-snp-guest on a command line for
 * hardware:
 *
 *   -object sev-tcg-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,policy=0x5
 *   -object sev-snp-tcg-guest,id=sev0,cbitpos=51,reduced-phys-bits=1
 *   -machine confidential-guest-support=sev0
 *
 * The encryption itself is in accel/tcg/soc-cache.c.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qapi/error.h"
#include "qom/object-alloc.h"
#include "qom/object_interfaces.h"
#include "exec/memory.h"
#include "hw/boards.h"
#include "hw/i386/pc.h"
#include "hw/i386/x86.h"
#include "migration/blocker.h"
#include "system/runstate.h"
#include "system/system.h"
#include "system/tcg.h"
#include "digest.h"

#define DEFAULT_CBITPOS 51
#define DEFAULT_REDUCED_PHYS_BITS 1
#define DEFAULT_CACHE_PAGES 16384
#define MIN_CACHE_PAGES 256
#define DEFAULT_SNP_POLICY 0x30000

/* APM volume 2, 15.34.10: SEV_STATUS. */
#define SEV_STATUS_SEV 1
#define SEV_STATUS_ES 2
#define SEV_STATUS_SNP 4
#define SEV_STATUS_DEBUG_SWAP (1 << 7)

/* SEV-SNP firmware ABI, guest policy. */
#define SNP_POLICY_MUST_BE_ONE (1ull << 17)
#define SNP_POLICY_DEFINED ((1ull << 25) - 1)
#define SNP_POLICY_UNSUPPORTED (1ull << 24)     /* ciphertext hiding */
#define FIRMWARE_ABI 0x0139                     /* 1.57 */

typedef struct SevTcgCommonClass {
    ConfidentialGuestSupportClass parent_class;
} SevTcgCommonClass;

OBJECT_DEFINE_ABSTRACT_TYPE(SevTcgCommon, sev_tcg_common, SEV_TCG_COMMON,
                            CONFIDENTIAL_GUEST_SUPPORT)
OBJECT_DEFINE_SIMPLE_TYPE_WITH_INTERFACES(SevTcgGuest, sev_tcg_guest,
                                          SEV_TCG_GUEST, SEV_TCG_COMMON,
                                          { TYPE_USER_CREATABLE }, { NULL })
OBJECT_DEFINE_SIMPLE_TYPE_WITH_INTERFACES(SevSnpTcgGuest, sev_snp_tcg_guest,
                                          SEV_SNP_TCG_GUEST, SEV_TCG_COMMON,
                                          { TYPE_USER_CREATABLE }, { NULL })

uint64_t sev_c_bit_mask;

static Object *machine_guest(void)
{
    return current_machine ? OBJECT(current_machine->cgs) : NULL;
}

SevTcgCommon *sev_tcg_common(void)
{
    return (SevTcgCommon *)object_dynamic_cast(machine_guest(),
                                               TYPE_SEV_TCG_COMMON);
}

SevTcgGuest *sev_tcg_guest(void)
{
    return (SevTcgGuest *)object_dynamic_cast(machine_guest(),
                                              TYPE_SEV_TCG_GUEST);
}

SevSnpTcgGuest *sev_snp_tcg_guest(void)
{
    return (SevSnpTcgGuest *)object_dynamic_cast(machine_guest(),
                                                 TYPE_SEV_SNP_TCG_GUEST);
}

/* ---- what the rest of target/i386 and hw/i386 asks ---- */

bool sev_enabled(void)
{
    return sev_tcg_common() != NULL;
}

bool sev_snp_enabled(void)
{
    return sev_snp_tcg_guest() != NULL;
}

bool sev_es_enabled(void)
{
    SevTcgGuest *sev = sev_tcg_guest();

    return sev ? sev->policy & SEV_POLICY_ES : sev_snp_enabled();
}

uint64_t sev_tcg_features(void)
{
    return (sev_snp_enabled() ? SEV_FEATURES_SNP : 0) |
           (sev_tcg_common()->debug_swap ? SEV_FEATURES_DEBUG_SWAP : 0);
}

uint32_t sev_get_cbit_position(void)
{
    SevTcgCommon *sev = sev_tcg_common();

    return sev ? sev->cbitpos : 0;
}

uint32_t sev_get_reduced_phys_bits(void)
{
    SevTcgCommon *sev = sev_tcg_common();

    return sev ? sev->reduced_phys_bits : 0;
}

uint64_t sev_get_status_msr(void)
{
    return (sev_enabled() ? SEV_STATUS_SEV : 0) |
           (sev_es_enabled() ? SEV_STATUS_ES : 0) |
           (sev_snp_enabled() ? SEV_STATUS_SNP : 0) |
           (sev_enabled() && sev_tcg_common()->debug_swap
            ? SEV_STATUS_DEBUG_SWAP : 0);
}

/*
 * SEV and SEV-ES measure the image but leave it as it is: it reads as
 * plaintext.  SEV-SNP measures it at its launch.
 */
int sev_encrypt_flash(hwaddr gpa, uint8_t *ptr, uint64_t len, Error **errp)
{
    if (!sev_snp_enabled()) {
        sev_tcg_measure_bytes(ptr, len);
    }
    return sev_tcg_swap_firmware(gpa, ptr, len, errp) ? 0 : -1;
}

/* ---- starting up ---- */

static bool check_common(SevTcgCommon *sev, Error **errp)
{
    const char *type = object_get_typename(OBJECT(sev));

    if (!tcg_enabled()) {
        error_setg(errp, "%s needs -accel tcg; with KVM on an AMD host use"
                   " sev-guest or sev-snp-guest", type);
    } else if (sev->cbitpos < 32 || sev->cbitpos > 51) {
        error_setg(errp, "cbitpos=%u: the C-bit is a bit from 32 to 51",
                   sev->cbitpos);
    } else if (sev->reduced_phys_bits > 0x3f) {
        error_setg(errp, "reduced-phys-bits=%u: at most 63",
                   sev->reduced_phys_bits);
    } else if (sev->cache_pages < MIN_CACHE_PAGES) {
        error_setg(errp, "cache-pages=%u: at least %u", sev->cache_pages,
                   MIN_CACHE_PAGES);
    } else if (sev->debug_swap && !sev_es_enabled()) {
        error_setg(errp, "debug-swap=on: the debug registers are in the save"
                   " area of SEV-ES and SEV-SNP guests only");
    } else if (sev->cipher == SEV_CIPHER_AESNI && !soc_xex_have_aesni()) {
        error_setg(errp, "cipher=aesni: this processor has no AES-NI");
    } else {
        return true;
    }
    return false;
}

static bool check_policy(Error **errp)
{
    SevTcgGuest *sev = sev_tcg_guest();
    uint64_t policy;

    if (sev) {
        if (sev->policy & ~0xffff003fu) {
            error_setg(errp, "policy 0x%x: reserved bits must be zero",
                       sev->policy);
            return false;
        }
        return true;
    }
    policy = sev_snp_tcg_guest()->policy;
    if (policy & ~SNP_POLICY_DEFINED || policy & SNP_POLICY_UNSUPPORTED ||
        !(policy & SNP_POLICY_MUST_BE_ONE) || (policy & 0xffff) > FIRMWARE_ABI) {
        error_setg(errp, "policy 0x%" PRIx64 ": LAUNCH_START fails with"
                   " POLICY_FAILURE (bit 17 must be one, reserved bits zero,"
                   " the ABI at most 1.57, no ciphertext hiding)", policy);
        return false;
    }
    return true;
}

static bool has_vmport(MachineState *machine)
{
    return object_dynamic_cast(OBJECT(machine), TYPE_PC_MACHINE) &&
           PC_MACHINE(machine)->vmport == ON_OFF_AUTO_ON;
}

static bool check_machine(MachineState *machine, Error **errp)
{
    if (!object_dynamic_cast(OBJECT(machine), TYPE_X86_MACHINE)) {
        error_setg(errp, "emulated SEV needs an x86 machine with PCI");
    } else if (X86_MACHINE(machine)->smm == ON_OFF_AUTO_ON) {
        error_setg(errp, "emulated SEV does not emulate SMM: use smm=off");
    } else if (sev_es_enabled() && has_vmport(machine)) {
        error_setg(errp, "vmport reads and writes the registers, which are"
                   " encrypted: use vmport=off");
    } else if (runstate_check(RUN_STATE_INMIGRATE)) {
        error_setg(errp, "an emulated SEV guest cannot come from another"
                   " machine: start it without -incoming");
    } else if (machine->maxram_size > machine->ram_size) {
        error_setg(errp, "emulated SEV does not emulate memory hotplug");
    } else if (!machine->ram || !memory_region_is_ram(machine->ram)) {
        error_setg(errp, "emulated SEV needs all RAM in one block (no NUMA)");
    } else if (sev_snp_enabled() &&
               !memory_region_size(&X86_MACHINE(machine)->bios)) {
        error_setg(errp, "SEV-SNP needs its firmware with -bios (no pflash,"
                   " as on hardware)");
    } else {
        return true;
    }
    return false;
}

static void tampered(uint32_t page)
{
    if (current_cpu) {
        sev_tcg_host_fault(current_cpu, sev_tcg_gfn_of(page) << SEV_PAGE_BITS,
                           "INTEGRITY");
    }
}

static bool start_cache(SevTcgCommon *sev, Error **errp)
{
    MachineState *machine = current_machine;
    SevSnpTcgGuest *snp = sev_snp_tcg_guest();
    MemoryRegion *bios = &X86_MACHINE(machine)->bios;
    SocCacheConfig config = {
        .pages = sev->cache_pages,
        .backing = snp ? snp->private_memory : SOC_BACKING_RAM,
        .extra = snp ? memory_region_get_ram_ptr(bios) : NULL,
        .extra_size = snp ? memory_region_size(bios) : 0,
        .require_secret = sev->require_secret_memory,
        .aesni = sev->cipher != SEV_CIPHER_PORTABLE,
        .key = sev->have_key ? sev->key : NULL,
    };

    soc_cache_on_tampering = tampered;
    return soc_cache_start(memory_region_get_ram_ptr(machine->ram),
                           memory_region_size(machine->ram), &config, errp);
}

static bool start(SevTcgCommon *sev, Error **errp)
{
    if (!check_common(sev, errp) || !check_policy(errp) ||
        !check_machine(current_machine, errp) ||
        (!sev->have_key && !sev_tcg_forbid_logs(errp))) {
        return false;
    }
    error_setg(&sev->migration_blocker,
               "emulated SEV: the guest's key does not leave this process");
    if (migrate_add_blocker(&sev->migration_blocker, errp) < 0 ||
        !start_cache(sev, errp)) {
        return false;
    }
    explicit_bzero(sev->key, sizeof(sev->key));
    sev_c_bit_mask = 1ull << sev->cbitpos;
    if (!sev_tcg_launch(errp)) {
        return false;
    }
    if (sev_tcg_level >= SEV_TCG_ES) {
        sev_tcg_seal_registers();
    }
    current_machine->cgs->ready = true;
    return true;
}

/* All RAM exists, nothing has been loaded into it, no vCPU has run. */
static void machine_done(Notifier *notifier, void *data)
{
    SevTcgCommon *sev = container_of(notifier, SevTcgCommon, machine_done);
    Error *err = NULL;

    if (!sev_tcg_common()) {
        error_setg(&err, "%s is not in use: give -machine"
                   " confidential-guest-support=%s, or the guest's memory is"
                   " not encrypted", object_get_typename(OBJECT(sev)),
                   object_get_canonical_path_component(OBJECT(sev)));
    } else if (sev_tcg_common() != sev || start(sev, &err)) {
        return;
    }
    error_report_err(err);
    exit(1);
}

static void vm_state_changed(void *opaque, bool running, RunState state)
{
    if (running) {
        ((SevTcgCommon *)opaque)->launched = true;
        soc_cache_finish_launch();
    }
}

/*
 * The registers of SEV-ES and SEV-SNP guests are not for the host's eyes: the
 * vCPUs lie in secret memory.
 */
static void *place_object(ObjectClass *oc, size_t size)
{
    return object_class_dynamic_cast(oc, TYPE_X86_CPU) && sev_es_enabled()
        ? soc_secret_alloc(size) : NULL;
}

/* ---- the classes ---- */

static void sev_tcg_common_class_init(ObjectClass *oc, void *data)
{
    sev_tcg_add_properties(oc);
}

static void sev_tcg_common_init(Object *obj)
{
    SevTcgCommon *sev = SEV_TCG_COMMON(obj);

    sev->cbitpos = DEFAULT_CBITPOS;
    sev->reduced_phys_bits = DEFAULT_REDUCED_PHYS_BITS;
    sev->cache_pages = DEFAULT_CACHE_PAGES;
    object_alloc_hook = place_object;
    sev->machine_done.notify = machine_done;
    qemu_add_machine_init_done_notifier(&sev->machine_done);
    sev->vm_state = qemu_add_vm_change_state_handler(vm_state_changed, sev);
}

static void sev_tcg_common_finalize(Object *obj)
{
    SevTcgCommon *sev = SEV_TCG_COMMON(obj);

    qemu_remove_machine_init_done_notifier(&sev->machine_done);
    qemu_del_vm_change_state_handler(sev->vm_state);
}

/* The object that a machine uses holds its guest together. */
static bool can_be_deleted(UserCreatable *object)
{
    return OBJECT(object) != machine_guest();
}

static void sev_tcg_guest_class_init(ObjectClass *oc, void *data)
{
    USER_CREATABLE_CLASS(oc)->can_be_deleted = can_be_deleted;
    sev_tcg_guest_add_properties(oc);
}

static void sev_tcg_guest_init(Object *obj)
{
    SEV_TCG_GUEST(obj)->policy = SEV_POLICY_NODBG;
}

static void sev_tcg_guest_finalize(Object *obj)
{
}

static void sev_snp_tcg_guest_class_init(ObjectClass *oc, void *data)
{
    USER_CREATABLE_CLASS(oc)->can_be_deleted = can_be_deleted;
    sev_snp_tcg_add_properties(oc);
}

static void sev_snp_tcg_guest_init(Object *obj)
{
    SevSnpTcgGuest *sev = SEV_SNP_TCG_GUEST(obj);

    sev->policy = DEFAULT_SNP_POLICY;
    sev->private_memory = SOC_BACKING_CIPHERTEXT;
}

static void sev_snp_tcg_guest_finalize(Object *obj)
{
    g_free(SEV_SNP_TCG_GUEST(obj)->firmware_socket);
}
