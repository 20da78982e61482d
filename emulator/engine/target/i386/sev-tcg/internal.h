/*
 * SEV-ES and SEV-SNP for guests that TCG runs: what the parts share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TCG_INTERNAL_H
#define SEV_TCG_INTERNAL_H

#include "cpu.h"
#include "exec/cpu-common.h"
#include "exec/soc-cache.h"
#include "system/confidential-guest-support.h"
#include "../sev.h"
#include "../sev-tcg.h"
#include "rmp-table.h"

#define SEV_PAGE_SIZE 4096
#define SEV_PAGE_BITS 12
#define SEV_NO_ADDRESS (~(uint64_t)0)

/* ASID of the only guest. */
#define SEV_ASID 1

/* #VC exit codes that come from page faults (APM volume 2, 15.36.10). */
#define SEV_VC_NPF 0x400
#define SEV_VC_UNVALIDATED 0x404

/* ---- the objects (guest.c) ---- */

#define TYPE_SEV_TCG_COMMON "sev-tcg-common"
#define TYPE_SEV_TCG_GUEST "sev-tcg-guest"
#define TYPE_SEV_SNP_TCG_GUEST "sev-snp-tcg-guest"
OBJECT_DECLARE_SIMPLE_TYPE(SevTcgCommon, SEV_TCG_COMMON)
OBJECT_DECLARE_SIMPLE_TYPE(SevTcgGuest, SEV_TCG_GUEST)
OBJECT_DECLARE_SIMPLE_TYPE(SevSnpTcgGuest, SEV_SNP_TCG_GUEST)

typedef enum SevCipher {
    SEV_CIPHER_AUTO,
    SEV_CIPHER_AESNI,
    SEV_CIPHER_PORTABLE,
} SevCipher;

struct SevTcgCommon {
    ConfidentialGuestSupport parent_obj;

    uint32_t cbitpos;
    uint32_t reduced_phys_bits;
    uint32_t cache_pages;
    SevCipher cipher;
    bool kernel_hashes;
    bool debug_swap;
    bool require_secret_memory;
    bool have_key;
    uint8_t key[SOC_XEX_KEY_SIZE];
    bool have_swap;
    uint64_t swap[2];           /* x-launch-swap: addresses of two pages */
    bool launched;
    Error *migration_blocker;
    Notifier machine_done;
    VMChangeStateEntry *vm_state;
};

struct SevTcgGuest {
    SevTcgCommon parent_obj;

    uint32_t policy;
};

struct SevSnpTcgGuest {
    SevTcgCommon parent_obj;

    uint64_t policy;
    uint8_t guest_visible_workarounds[16];
    uint8_t id_block[96];
    uint8_t id_auth[4096];
    uint8_t host_data[32];
    bool have_id_block;
    bool have_id_auth;
    bool author_key_enabled;
    bool vcek_disabled;
    bool strict;
    SocBacking private_memory;
    char *firmware_socket;
};

/* The object that the machine uses, or NULL. */
SevTcgCommon *sev_tcg_common(void);
SevTcgGuest *sev_tcg_guest(void);
SevSnpTcgGuest *sev_snp_tcg_guest(void);
/* SEV_FEATURES of every vCPU: measured, and what AP creation must ask for. */
uint64_t sev_tcg_features(void);

void sev_tcg_add_properties(ObjectClass *oc);
void sev_tcg_guest_add_properties(ObjectClass *oc);
void sev_snp_tcg_add_properties(ObjectClass *oc);

/* ---- counters ---- */

typedef struct SevTcgStats {
    uint64_t vc;                /* #VC raised */
    uint64_t vc_unvalidated;
    uint64_t vc_mmio;
    uint64_t msr_exits;
    uint64_t page_exits;
    uint64_t malformed_exits;
    uint64_t pvalidate;
    uint64_t rmpadjust;
    uint64_t psmash;
    uint64_t to_private;        /* pages, asked for by the guest */
    uint64_t to_shared;
    uint64_t implicit_private;  /* pages converted because they were accessed */
    uint64_t implicit_shared;
    uint64_t guest_requests;
    uint64_t refused_writes;    /* of the host's into pages of the guest's */
    uint64_t nested_faults;
    uint64_t events[256];       /* NAE events below 0x100, */
    uint64_t vmm_events[32];    /* and those from 0x80000000 */
} SevTcgStats;

extern SevTcgStats sev_tcg_stats;

#define sev_tcg_count(field) qatomic_inc(&sev_tcg_stats.field)

/* ---- memory (rmp.c) ---- */

typedef enum SevMemory {
    SEV_MEMORY_DRAM,            /* has an RMP entry */
    SEV_MEMORY_ALIAS,           /* DRAM under another address than its own */
    SEV_MEMORY_ROM,
    SEV_MEMORY_MMIO,
} SevMemory;

extern SevRmp sev_tcg_rmp;

/* What lies at a guest-physical address; @page only for DRAM. */
SevMemory sev_tcg_memory_at(CPUState *cs, hwaddr gpa, uint64_t *page);
/* Where the host maps a page of DRAM, and at which address the guest sees it. */
uint8_t *sev_tcg_host_page(uint64_t page);
uint64_t sev_tcg_gfn_of(uint64_t page);
/* The inverse; past the last page for what is no DRAM. */
uint64_t sev_tcg_page_of(uint64_t gfn);
/* The page that the host's nested page table gives for @page. */
uint64_t sev_tcg_nested(uint64_t page);

bool sev_tcg_rmp_start(Error **errp);
/* The firmware gives @page to the guest, validated. */
void sev_tcg_rmp_launch(uint64_t page);
void sev_tcg_rmp_lock(void);
void sev_tcg_rmp_unlock(void);
void sev_tcg_flush(CPUState *cs);
/* Is the page at @gpa DRAM that the host may read and write as shared? */
bool sev_tcg_is_shared(CPUState *cs, hwaddr gpa, uint64_t *page);

typedef enum SevPageOp {
    SEV_PAGE_PRIVATE = 1,
    SEV_PAGE_SHARED = 2,
    SEV_PAGE_SMASH = 3,
    SEV_PAGE_UNSMASH = 4,
} SevPageOp;

/*
 * A page-state change that the guest asked for.  False if there is no such
 * page or operation.  The caller flushes the TLBs afterwards.
 */
bool sev_tcg_change_page(CPUState *cs, uint64_t gfn, unsigned op, bool large);

/* ---- stopping (host.c) ---- */

/* The host cannot go on: report, tell QMP, stop the machine. */
void sev_tcg_host_fault(CPUState *cs, uint64_t gpa, const char *check);
/* Leave the vCPU loop once the machine has been stopped. */
G_NORETURN void sev_tcg_leave(CPUState *cs, uintptr_t ra);

/* ---- #VC (vc.c), GHCB (ghcb.c, events.c) ---- */

G_NORETURN void sev_tcg_raise_vc(CPUX86State *env, uint32_t code, uintptr_t ra);
void sev_tcg_msr_protocol(CPUX86State *env, uint64_t request);
void sev_tcg_page_protocol(CPUX86State *env, uint64_t gpa);
/* The guest gave up, or what it asks cannot be answered. Does not return. */
G_NORETURN void sev_tcg_terminate(CPUX86State *env, unsigned set,
                                  unsigned reason);
/* What the guest asks ends the machine, as under KVM.  Does not return. */
G_NORETURN void sev_tcg_unusable(CPUX86State *env, const char *what,
                                 uint64_t value);
uint64_t sev_tcg_hv_features(void);

/* ---- save areas (vmsa.c) ---- */

void sev_tcg_vmsa_reset(CPUX86State *env, uint8_t *page, uint32_t eip);
void sev_tcg_vmsa_save(CPUX86State *env, uint8_t *page);
void sev_tcg_vmsa_load(CPUX86State *env, const uint8_t *page);
/* VMGEXIT SNP_AP_CREATION; false if the input is invalid. */
bool sev_tcg_create_vcpu(CPUX86State *env, uint64_t info, uint64_t vmsa_gpa,
                         uint64_t features);
void sev_tcg_hold(CPUX86State *env, SevHold hold, uint64_t ghcb_gpa);

/* SEV_FEATURES of the save area. */
#define SEV_FEATURES_SNP (1 << 0)
#define SEV_FEATURES_DEBUG_SWAP (1 << 5)

/* ---- what QEMU's own tools see (sealed.c) ---- */

/* From now on nobody reads or writes the registers: SEV-ES and SEV-SNP. */
void sev_tcg_seal_registers(void);
/* No log shows private code, or sealed registers.  Fails if one does now. */
bool sev_tcg_forbid_logs(Error **errp);

/* ---- launch (launch.c, digest.c) ---- */

typedef enum SevPageType {
    SEV_PAGE_TYPE_NORMAL = 1,
    SEV_PAGE_TYPE_VMSA = 2,
    SEV_PAGE_TYPE_ZERO = 3,
    SEV_PAGE_TYPE_UNMEASURED = 4,
    SEV_PAGE_TYPE_SECRETS = 5,
    SEV_PAGE_TYPE_CPUID = 6,
} SevPageType;

bool sev_tcg_launch(Error **errp);
/* x-launch-swap: exchange two pages of the firmware image in memory. */
bool sev_tcg_swap_firmware(uint64_t gpa, uint8_t *image, uint64_t size,
                           Error **errp);
/* 32 bytes (SEV, SEV-ES) or 48 (SEV-SNP), as hexadecimal digits. */
char *sev_tcg_launch_digest(void);
uint32_t sev_tcg_ap_entry(void);

/* ---- the firmware's view of the guest (psp.c) ---- */

#define SEV_VMPCK_SIZE 32

typedef struct SevGuestContext {
    uint8_t digest[48];
    uint64_t policy;
    uint8_t vmpck[SEV_VMPLS][SEV_VMPCK_SIZE];
    uint64_t message_count[SEV_VMPLS];
    uint8_t report_id[32];
    uint8_t host_data[32];
    uint8_t id_key_digest[48];
    uint8_t author_key_digest[48];
    uint8_t family_id[16];
    uint8_t image_id[16];
    uint32_t guest_svn;
} SevGuestContext;

/* In secret memory; NULL before the launch. */
extern SevGuestContext *sev_tcg_context;

/* LAUNCH_START and LAUNCH_FINISH. */
bool sev_tcg_context_start(Error **errp);
bool sev_tcg_context_finish(Error **errp);

#endif /* SEV_TCG_INTERNAL_H */
