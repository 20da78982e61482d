/*
 * The reverse map table: entries, checks and the instructions that change it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * AMD64 Architecture Programmer's Manual volume 2, 15.36.  The order of the
 * checks is that of sevkit's software model (sevkit/model/rmp_checks.py), and
 * a test compares the two.  This header and its source build outside QEMU too.
 */
#ifndef SEV_TCG_RMP_TABLE_H
#define SEV_TCG_RMP_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define SEV_RMP_LARGE_PAGES 512
#define SEV_VMPLS 4

/* Permission bits of a VMPL. */
#define SEV_PERM_READ 1
#define SEV_PERM_WRITE 2
#define SEV_PERM_EXECUTE_USER 4
#define SEV_PERM_EXECUTE_SUPERVISOR 8
#define SEV_PERM_FULL 15

/* What RMPUPDATE, PVALIDATE, RMPADJUST and PSMASH leave in EAX. */
enum {
    SEV_RMP_SUCCESS = 0,
    SEV_RMP_FAIL_INPUT = 1,
    SEV_RMP_FAIL_PERMISSION = 2,
    SEV_RMP_FAIL_INUSE = 3,
    SEV_RMP_FAIL_OVERLAP = 4,
    SEV_RMP_FAIL_SIZEMISMATCH = 6,
};

/* The 16 bytes of Milan and Genoa. */
typedef struct SevRmpEntry {
    uint64_t assigned:1;
    uint64_t large:1;
    uint64_t immutable:1;
    uint64_t subpages:9;    /* first page of 2 MiB: assigned pages behind it */
    uint64_t gfn:39;
    uint64_t asid:10;
    uint64_t vmsa:1;
    uint64_t validated:1;
    uint64_t lock:1;
    uint8_t perms[SEV_VMPLS];
    uint32_t reserved;
} SevRmpEntry;

typedef struct SevRmp {
    SevRmpEntry *entries;
    uint64_t pages;
} SevRmp;

/* The check that an access fails; SEV_RMP_PASS if it may go on. */
typedef enum SevRmpCheck {
    SEV_RMP_PASS,
    SEV_RMP_ASSIGNED,
    SEV_RMP_ASID,
    SEV_RMP_SIZE,
    SEV_RMP_GPA,
    SEV_RMP_IMMUTABLE,
    SEV_RMP_VALIDATED,      /* #VC to the guest; all others exit to the host */
    SEV_RMP_VMSA,
    SEV_RMP_VMPL,
} SevRmpCheck;

/* An access by a guest: to which address, through which mapping, for what. */
typedef struct SevRmpAccess {
    uint64_t gfn;
    uint16_t asid;
    uint8_t vmpl;
    uint8_t wants;          /* SEV_PERM_* */
    bool mapping_large;
} SevRmpAccess;

const char *sev_rmp_check_name(SevRmpCheck check);

/* The entry that rules @page; @gfn is what it says of this very page. */
SevRmpEntry *sev_rmp_lookup(const SevRmp *rmp, uint64_t page, uint64_t *gfn);

/* Checks of accesses. */
SevRmpCheck sev_rmp_check_private(const SevRmp *rmp, uint64_t page,
                                  const SevRmpAccess *access);
SevRmpCheck sev_rmp_check_shared_write(const SevRmp *rmp, uint64_t page);
SevRmpCheck sev_rmp_check_host_write(const SevRmp *rmp, uint64_t page,
                                     bool mapping_large);

/* The host's instructions.  They return EAX. */
int sev_rmp_update(SevRmp *rmp, uint64_t page, const SevRmpEntry *asked);
int sev_rmp_smash(SevRmp *rmp, uint64_t page);

/*
 * The guest's instructions.  They return EAX, or set @fault and change
 * nothing.  @unchanged is what PVALIDATE leaves in the carry flag.
 */
int sev_rmp_validate(SevRmp *rmp, uint64_t page, const SevRmpAccess *access,
                     bool large, bool validate, bool *unchanged,
                     SevRmpCheck *fault);
int sev_rmp_adjust(SevRmp *rmp, uint64_t page, const SevRmpAccess *access,
                   bool large, unsigned target, uint8_t perms, bool vmsa,
                   SevRmpCheck *fault);

#endif /* SEV_TCG_RMP_TABLE_H */
