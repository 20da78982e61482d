/*
 * SEV-SNP: the RMP check of each access, and how the host reacts
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The software TLB caches the outcome of a check as the hardware's does, so
 * each change that takes a right away flushes the TLBs of all vCPUs.  The host
 * behaves as KVM and QEMU do: it converts a page that the guest accesses in the
 * other way, unless strict=on, and splits a 2 MiB entry when it must.
 */
#include "qemu/osdep.h"
#include "qemu/thread.h"
#include "qapi/error.h"
#include "exec/cputlb.h"
#include "exec/memory.h"
#include "exec/ram_addr.h"
#include "hw/boards.h"
#include "hw/i386/x86.h"
#include "host.h"

SevRmp sev_tcg_rmp;
SevTcgStats sev_tcg_stats;
static QemuMutex rmp_mutex;

void sev_tcg_rmp_lock(void)
{
    qemu_mutex_lock(&rmp_mutex);
}

void sev_tcg_rmp_unlock(void)
{
    qemu_mutex_unlock(&rmp_mutex);
}

void sev_tcg_flush(CPUState *cs)
{
    tlb_flush_all_cpus_synced(cs);
}

/* ---- the host's side: page states (lock held) ---- */

static void smash(uint64_t page)
{
    if (sev_rmp_smash(&sev_tcg_rmp, page & ~(SEV_RMP_LARGE_PAGES - 1ull)) ==
        SEV_RMP_SUCCESS) {
        sev_tcg_count(psmash);
    }
}

/*
 * What the shared memory holds goes away, as with guest_memfd; pages of
 * hugetlbfs are allocated in advance and stay, as in QEMU's kvm_convert_memory.
 */
static void discard_shared(uint64_t page, unsigned count)
{
    RAMBlock *block = current_machine->ram->ram_block;
    uint64_t offset = page << SEV_PAGE_BITS;

    if (offset < current_machine->ram_size &&
        qemu_ram_pagesize(block) == qemu_real_host_page_size()) {
        ram_block_discard_range(block, offset, (size_t)count << SEV_PAGE_BITS);
    }
}

/* @page to the guest, as one entry of @count pages. */
static void assign(uint64_t page, unsigned count)
{
    SevRmpEntry entry = {
        .assigned = 1, .asid = SEV_ASID, .gfn = sev_tcg_gfn_of(page),
        .large = count > 1,
    };

    if (sev_rmp_update(&sev_tcg_rmp, page, &entry) == SEV_RMP_SUCCESS) {
        discard_shared(page, count);
    }
}

static void unassign(uint64_t page, unsigned count)
{
    const SevRmpEntry none = { 0 };

    if (sev_rmp_update(&sev_tcg_rmp, page, &none) == SEV_RMP_SUCCESS) {
        soc_cache_discard(page, count);
    }
}

static bool is_assigned(uint64_t page)
{
    uint64_t gfn;

    return sev_rmp_lookup(&sev_tcg_rmp, page, &gfn)->assigned;
}

static bool is_large(uint64_t page)
{
    uint64_t gfn;
    const SevRmpEntry *e = sev_rmp_lookup(&sev_tcg_rmp, page, &gfn);

    return e->assigned && e->large;
}

static void change_one(uint64_t page, unsigned op)
{
    if (op == SEV_PAGE_PRIVATE && !is_assigned(page)) {
        assign(page, 1);
        sev_tcg_count(to_private);
    } else if (op == SEV_PAGE_SHARED && is_assigned(page)) {
        if (is_large(page)) {
            smash(page);
        }
        unassign(page, 1);
        sev_tcg_count(to_shared);
    }
}

static bool none_assigned(uint64_t page)
{
    const SevRmpEntry *head = &sev_tcg_rmp.entries[page];

    return !head->assigned && !head->subpages;
}

/*
 * May the 512 pages from @page on be one entry?  They are, unless RAM ends or
 * goes on above the hole below 4 GiB before the last: that is where the
 * machine's options put it, at any page.
 */
static bool fits_large(uint64_t page)
{
    uint64_t first = sev_tcg_gfn_of(page);
    uint64_t last = page + SEV_RMP_LARGE_PAGES - 1;

    return page % SEV_RMP_LARGE_PAGES == 0 &&
           first % SEV_RMP_LARGE_PAGES == 0 && last < sev_tcg_rmp.pages &&
           sev_tcg_gfn_of(last) == first + SEV_RMP_LARGE_PAGES - 1;
}

/* All of a 2 MiB page at once, if its entries allow it. */
static bool change_large(uint64_t page, unsigned op)
{
    if (!fits_large(page)) {
        return false;
    }
    if (op == SEV_PAGE_PRIVATE && none_assigned(page)) {
        assign(page, SEV_RMP_LARGE_PAGES);
        qatomic_add(&sev_tcg_stats.to_private, SEV_RMP_LARGE_PAGES);
        return true;
    }
    if (op == SEV_PAGE_SHARED && is_large(page)) {
        unassign(page, SEV_RMP_LARGE_PAGES);
        qatomic_add(&sev_tcg_stats.to_shared, SEV_RMP_LARGE_PAGES);
        return true;
    }
    return false;
}

bool sev_tcg_change_page(CPUState *cs, uint64_t gfn, unsigned op, bool large)
{
    unsigned count = large ? SEV_RMP_LARGE_PAGES : 1;
    bool done = true;
    uint64_t page;

    if (op < SEV_PAGE_PRIVATE || op > SEV_PAGE_UNSMASH ||
        (large && gfn % SEV_RMP_LARGE_PAGES)) {
        return false;
    }
    sev_tcg_rmp_lock();
    for (unsigned i = 0; i < count && done; i++) {
        if (sev_tcg_memory_at(cs, (gfn + i) << SEV_PAGE_BITS, &page) !=
            SEV_MEMORY_DRAM) {
            done = false;
        } else if (op == SEV_PAGE_SMASH) {
            smash(page);
            break;
        } else if (i == 0 && large && change_large(page, op)) {
            break;
        } else {
            change_one(page, op);
        }
    }
    sev_tcg_rmp_unlock();
    return done;
}

/* ---- the check of a TLB fill ---- */

static uint8_t wanted(MMUAccessType type, int mmu_idx)
{
    switch (type) {
    case MMU_DATA_STORE:
        return SEV_PERM_WRITE;
    case MMU_INST_FETCH:
        return is_mmu_index_user(mmu_idx) ? SEV_PERM_EXECUTE_USER
                                          : SEV_PERM_EXECUTE_SUPERVISOR;
    default:
        return SEV_PERM_READ;
    }
}

/* What the TLB entry may allow beyond the access that made it. */
static int allowed(const SevRmpEntry *e, unsigned vmpl, int mmu_idx)
{
    uint8_t perms = e->perms[vmpl];
    uint8_t execute = is_mmu_index_user(mmu_idx) ? SEV_PERM_EXECUTE_USER
                                                 : SEV_PERM_EXECUTE_SUPERVISOR;

    return (perms & SEV_PERM_READ ? PAGE_READ : 0) |
           (perms & SEV_PERM_WRITE && !e->vmsa ? PAGE_WRITE : 0) |
           (perms & execute ? PAGE_EXEC : 0);
}

static bool strict(void)
{
    return sev_snp_tcg_guest()->strict;
}

static SevRmpCheck check_private(CPUState *cs, uint64_t page, uint64_t gfn,
                                 MMUAccessType type, int mmu_idx, int *prot)
{
    SevRmpAccess access = {
        .gfn = gfn, .asid = SEV_ASID, .vmpl = cpu_env(cs)->sev.vmpl,
        .wants = wanted(type, mmu_idx),
    };
    SevRmpCheck check = sev_rmp_check_private(&sev_tcg_rmp, page, &access);
    uint64_t entry_gfn;

    if (check == SEV_RMP_ASSIGNED && !strict()) {
        /* KVM: the exit for a memory fault makes the page private. */
        assign(page, 1);
        sev_tcg_count(implicit_private);
        check = sev_rmp_check_private(&sev_tcg_rmp, page, &access);
    }
    if (check == SEV_RMP_PASS) {
        *prot &= allowed(sev_rmp_lookup(&sev_tcg_rmp, page, &entry_gfn),
                         access.vmpl, mmu_idx);
    }
    return check;
}

static SevRmpCheck check_shared(CPUState *cs, uint64_t page,
                                MMUAccessType type, int *prot)
{
    if (likely(!is_assigned(page))) {
        return SEV_RMP_PASS;
    }
    if (strict()) {
        *prot &= ~PAGE_WRITE;
        return type == MMU_DATA_STORE
            ? sev_rmp_check_shared_write(&sev_tcg_rmp, page) : SEV_RMP_PASS;
    }
    change_one(page, SEV_PAGE_SHARED);
    sev_tcg_count(implicit_shared);
    sev_tcg_flush(cs);
    return SEV_RMP_PASS;
}

static bool refuse(CPUState *cs, uint64_t gpa, uint32_t vc, SevRmpCheck check)
{
    cpu_env(cs)->sev.fault = (SevFault) {
        .gpa = gpa, .vc = vc, .check = check,
    };
    return false;
}

static bool check_dram(CPUState *cs, CPUTLBEntryFull *full, uint64_t page,
                       MMUAccessType type, int mmu_idx)
{
    uint64_t gfn = full->phys_addr >> SEV_PAGE_BITS;
    int prot = full->prot;
    SevRmpCheck check;

    page = sev_tcg_nested(page);
    sev_tcg_rmp_lock();
    check = full->encrypted
        ? check_private(cs, page, gfn, type, mmu_idx, &prot)
        : check_shared(cs, page, type, &prot);
    sev_tcg_rmp_unlock();
    full->prot = prot;
    if (likely(check == SEV_RMP_PASS)) {
        return true;
    }
    return refuse(cs, full->phys_addr,
                  check == SEV_RMP_VALIDATED ? SEV_VC_UNVALIDATED : 0, check);
}

bool sev_tcg_check_fill(CPUState *cs, CPUTLBEntryFull *full,
                        MMUAccessType type, int mmu_idx)
{
    uint64_t page;

    if (unlikely(sev_tcg_tracing)) {
        sev_tcg_trace(cs, full, type);
    }
    switch (sev_tcg_memory_at(cs, full->phys_addr, &page)) {
    case SEV_MEMORY_DRAM:
        return sev_tcg_level < SEV_TCG_SNP ||
               check_dram(cs, full, page, type, mmu_idx);
    case SEV_MEMORY_ALIAS:
        /*
         * The image below 1 MiB.  KVM's guests have a copy there, which no
         * guest has validated.
         */
        return sev_tcg_level < SEV_TCG_SNP || !full->encrypted ||
               refuse(cs, full->phys_addr, SEV_VC_UNVALIDATED,
                      SEV_RMP_VALIDATED);
    case SEV_MEMORY_ROM:
        /* A store into flash is a command for the device: exits. */
        full->prot &= ~PAGE_WRITE;
        return type != MMU_DATA_STORE ||
               refuse(cs, full->phys_addr, SEV_VC_NPF, SEV_RMP_PASS);
    default:
        return refuse(cs, full->phys_addr, SEV_VC_NPF, SEV_RMP_PASS);
    }
}

void sev_tcg_raise_fault(CPUState *cs, uintptr_t ra)
{
    SevFault *fault = &cpu_env(cs)->sev.fault;

    if (fault->vc) {
        sev_tcg_raise_vc(cpu_env(cs), fault->vc, ra);
    }
    sev_tcg_host_fault(cs, fault->gpa, sev_rmp_check_name(fault->check));
    sev_tcg_leave(cs, ra);
}

/* ---- start ---- */

/* Pre-Guest to Guest-Valid: LAUNCH_UPDATE. */
void sev_tcg_rmp_launch(uint64_t page)
{
    SevRmpEntry *e = &sev_tcg_rmp.entries[page];

    if (is_large(page)) {
        smash(page);
    }
    e->validated = 1;
    e->perms[0] = SEV_PERM_FULL;
}

/* All memory is the guest's until it says otherwise, as with guest_memfd. */
bool sev_tcg_rmp_start(Error **errp)
{
    MachineState *machine = current_machine;
    uint64_t ram = machine->ram_size >> SEV_PAGE_BITS, page = 0;
    uint64_t pages = ram +
        (memory_region_size(&X86_MACHINE(machine)->bios) >> SEV_PAGE_BITS);

    qemu_mutex_init(&rmp_mutex);
    sev_tcg_rmp = (SevRmp) {
        .entries = soc_secret_alloc(pages * sizeof(SevRmpEntry)),
        .pages = pages,
    };
    while (page < pages) {
        bool large = page < ram && fits_large(page);

        assign(page, large ? SEV_RMP_LARGE_PAGES : 1);
        page += large ? SEV_RMP_LARGE_PAGES : 1;
    }
    return true;
}
