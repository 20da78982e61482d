/*
 * The reverse map table: entries, checks and the instructions that change it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "rmp-table.h"
#include <string.h>

static const char *const check_names[] = {
    [SEV_RMP_PASS] = "none",
    [SEV_RMP_ASSIGNED] = "RMP_ASSIGNED",
    [SEV_RMP_ASID] = "RMP_ASID",
    [SEV_RMP_SIZE] = "RMP_SIZE",
    [SEV_RMP_GPA] = "RMP_GPA",
    [SEV_RMP_IMMUTABLE] = "RMP_IMMUTABLE",
    [SEV_RMP_VALIDATED] = "RMP_VALIDATED",
    [SEV_RMP_VMSA] = "RMP_VMSA",
    [SEV_RMP_VMPL] = "RMP_VMPL",
};

/* Stands for pages that no table covers: nobody's. */
static const SevRmpEntry nobody;

const char *sev_rmp_check_name(SevRmpCheck check)
{
    return check_names[check];
}

static uint64_t first_of(uint64_t page)
{
    return page & ~(uint64_t)(SEV_RMP_LARGE_PAGES - 1);
}

SevRmpEntry *sev_rmp_lookup(const SevRmp *rmp, uint64_t page, uint64_t *gfn)
{
    uint64_t first = first_of(page);
    SevRmpEntry *e;

    if (page >= rmp->pages) {
        *gfn = 0;
        return (SevRmpEntry *)&nobody;
    }
    e = &rmp->entries[first];
    if (e->assigned && e->large) {
        *gfn = e->gfn + (page - first);
        return e;
    }
    e = &rmp->entries[page];
    *gfn = e->gfn;
    return e;
}

/* The checks that all of a guest's private accesses and instructions begin with. */
static SevRmpCheck check_owner(const SevRmpEntry *e, uint64_t gfn,
                               const SevRmpAccess *access, bool size_matters)
{
    if (!e->assigned) {
        return SEV_RMP_ASSIGNED;
    }
    if (e->asid != access->asid) {
        return SEV_RMP_ASID;
    }
    if (size_matters && access->mapping_large && !e->large) {
        return SEV_RMP_SIZE;
    }
    if (gfn != access->gfn) {
        return SEV_RMP_GPA;
    }
    return e->immutable ? SEV_RMP_IMMUTABLE : SEV_RMP_PASS;
}

SevRmpCheck sev_rmp_check_private(const SevRmp *rmp, uint64_t page,
                                  const SevRmpAccess *access)
{
    uint64_t gfn;
    const SevRmpEntry *e = sev_rmp_lookup(rmp, page, &gfn);
    SevRmpCheck check = check_owner(e, gfn, access, true);

    if (check != SEV_RMP_PASS) {
        return check;
    }
    if (!e->validated) {
        return SEV_RMP_VALIDATED;
    }
    if (e->vmsa && (access->wants & SEV_PERM_WRITE)) {
        return SEV_RMP_VMSA;
    }
    if (access->wants & ~e->perms[access->vmpl]) {
        return SEV_RMP_VMPL;
    }
    return SEV_RMP_PASS;
}

SevRmpCheck sev_rmp_check_shared_write(const SevRmp *rmp, uint64_t page)
{
    uint64_t gfn;

    return sev_rmp_lookup(rmp, page, &gfn)->assigned ? SEV_RMP_ASSIGNED
                                                     : SEV_RMP_PASS;
}

SevRmpCheck sev_rmp_check_host_write(const SevRmp *rmp, uint64_t page,
                                     bool mapping_large)
{
    uint64_t gfn;
    const SevRmpEntry *e = sev_rmp_lookup(rmp, page, &gfn);

    if (e->assigned) {
        return SEV_RMP_ASSIGNED;
    }
    /* A 2 MiB mapping that covers somebody's 4 KiB pages. */
    if (mapping_large && page < rmp->pages && !e->large &&
        rmp->entries[first_of(page)].subpages) {
        return SEV_RMP_SIZE;
    }
    return SEV_RMP_PASS;
}

/* Store an entry and keep the number of assigned pages behind the first. */
static void store(SevRmp *rmp, uint64_t page, SevRmpEntry entry)
{
    SevRmpEntry *old = &rmp->entries[page];
    bool was_assigned = old->assigned;

    entry.subpages = old->subpages;
    *old = entry;
    if (page != first_of(page) && was_assigned != entry.assigned) {
        rmp->entries[first_of(page)].subpages += entry.assigned ? 1 : -1;
    }
}

/*
 * Page states that the host may ask for: Hypervisor, Guest-Invalid, Pre-Guest
 * and Firmware (SEV-SNP firmware ABI, page states).
 */
static bool may_ask_for(const SevRmpEntry *e)
{
    if (!e->assigned) {
        return !e->asid && !e->immutable;
    }
    return e->asid || (e->immutable && !e->gfn);
}

int sev_rmp_update(SevRmp *rmp, uint64_t page, const SevRmpEntry *asked)
{
    SevRmpEntry new = {
        .assigned = asked->assigned, .large = asked->large,
        .immutable = asked->immutable, .gfn = asked->gfn, .asid = asked->asid,
    };
    const SevRmpEntry *head, *old;

    if (page >= rmp->pages ||
        (new.large && (page != first_of(page) ||
                       new.gfn % SEV_RMP_LARGE_PAGES ||
                       page + SEV_RMP_LARGE_PAGES > rmp->pages)) ||
        !may_ask_for(&new) || (!new.asid && new.gfn)) {
        return SEV_RMP_FAIL_INPUT;
    }
    head = &rmp->entries[first_of(page)];
    old = &rmp->entries[page];
    if (old->immutable) {
        return SEV_RMP_FAIL_PERMISSION;
    }
    if (head != old && head->assigned && head->large) {
        return SEV_RMP_FAIL_OVERLAP;
    }
    if (new.large && head->subpages) {
        return SEV_RMP_FAIL_OVERLAP;
    }
    if (new.assigned && new.asid && old->assigned && old->asid == new.asid &&
        old->gfn == new.gfn && old->large == new.large) {
        new.validated = old->validated;
        new.vmsa = old->vmsa;
        memcpy(new.perms, old->perms, sizeof(new.perms));
    }
    store(rmp, page, new);
    return SEV_RMP_SUCCESS;
}

int sev_rmp_smash(SevRmp *rmp, uint64_t page)
{
    SevRmpEntry *e;

    if (page >= rmp->pages || page != first_of(page)) {
        return SEV_RMP_FAIL_INPUT;
    }
    e = &rmp->entries[page];
    if (!e->assigned || !e->large) {
        return SEV_RMP_FAIL_INPUT;
    }
    if (e->immutable) {
        return SEV_RMP_FAIL_PERMISSION;
    }
    e->large = false;
    e->subpages = 0;
    for (unsigned i = 1; i < SEV_RMP_LARGE_PAGES; i++) {
        e[i] = *e;
        e[i].gfn = e->gfn + i;
    }
    e->subpages = SEV_RMP_LARGE_PAGES - 1;
    return SEV_RMP_SUCCESS;
}

int sev_rmp_validate(SevRmp *rmp, uint64_t page, const SevRmpAccess *access,
                     bool large, bool validate, bool *unchanged,
                     SevRmpCheck *fault)
{
    uint64_t gfn;
    SevRmpEntry *e = sev_rmp_lookup(rmp, page, &gfn);

    *unchanged = false;
    *fault = SEV_RMP_PASS;
    if (access->vmpl) {
        return SEV_RMP_FAIL_PERMISSION;
    }
    if (large && access->gfn % SEV_RMP_LARGE_PAGES) {
        return SEV_RMP_FAIL_INPUT;
    }
    *fault = check_owner(e, gfn, access, false);
    if (*fault != SEV_RMP_PASS) {
        return SEV_RMP_SUCCESS;
    }
    if (large && !e->large) {
        return SEV_RMP_FAIL_SIZEMISMATCH;
    }
    if (e->large && !large) {
        *fault = SEV_RMP_SIZE;
        return SEV_RMP_SUCCESS;
    }
    *unchanged = e->validated == validate;
    if (!*unchanged) {
        e->validated = validate;
        e->vmsa = false;
        memset(e->perms, 0, sizeof(e->perms));
        e->perms[0] = validate ? SEV_PERM_FULL : 0;
    }
    return SEV_RMP_SUCCESS;
}

int sev_rmp_adjust(SevRmp *rmp, uint64_t page, const SevRmpAccess *access,
                   bool large, unsigned target, uint8_t perms, bool vmsa,
                   SevRmpCheck *fault)
{
    uint64_t gfn;
    SevRmpEntry *e = sev_rmp_lookup(rmp, page, &gfn);

    *fault = SEV_RMP_PASS;
    if (target >= SEV_VMPLS || perms >> 5 ||
        (large && access->gfn % SEV_RMP_LARGE_PAGES)) {
        return SEV_RMP_FAIL_INPUT;
    }
    if (target <= access->vmpl) {
        return SEV_RMP_FAIL_PERMISSION;
    }
    *fault = check_owner(e, gfn, access, false);
    if (*fault == SEV_RMP_PASS && !e->validated) {
        *fault = SEV_RMP_VALIDATED;
    }
    if (*fault != SEV_RMP_PASS) {
        return SEV_RMP_SUCCESS;
    }
    if (large != e->large) {
        return SEV_RMP_FAIL_SIZEMISMATCH;
    }
    /* Nobody gives what he does not have. */
    if (perms & ~e->perms[access->vmpl]) {
        return SEV_RMP_FAIL_PERMISSION;
    }
    if (vmsa && access->vmpl) {
        return SEV_RMP_FAIL_PERMISSION;
    }
    e->perms[target] = perms;
    if (!access->vmpl) {
        e->vmsa = vmsa;
    }
    return SEV_RMP_SUCCESS;
}
