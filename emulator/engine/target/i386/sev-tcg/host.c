/*
 * The hostile host: what an operator of a VMM may try on SEV guests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The host owns the nested page table and the instructions RMPUPDATE and
 * PSMASH, and it reads and writes memory by physical address.  The processor
 * checks what it does as it does on hardware: a refusal is an error that names
 * the check.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-sev-host-target.h"
#include "qapi/qapi-events-sev-host-target.h"
#include "exec/address-spaces.h"
#include "exec/cputlb.h"
#include "exec/memory.h"
#include "exec/tb-flush.h"
#include "exec/soc-cache.h"
#include "hw/boards.h"
#include "hw/i386/apic.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "host.h"

/* ---- when a guest cannot go on ---- */

void sev_tcg_host_fault(CPUState *cs, uint64_t gpa, const char *check)
{
    BQL_LOCK_GUARD();

    sev_tcg_count(nested_faults);
    error_report("SEV: nested page fault at %#" PRIx64 " (%s): the host stops"
                 " the guest", gpa, check);
    qapi_event_send_sev_host_fault(gpa, check, cs->cpu_index);
    vm_stop(RUN_STATE_INTERNAL_ERROR);
}

void sev_tcg_leave(CPUState *cs, uintptr_t ra)
{
    cs->exception_index = EXCP_INTERRUPT;
    cpu_loop_exit_restore(cs, ra);
}

/* ---- pages by the guest's address ---- */

bool sev_host_active(Error **errp)
{
    if (!soc_cache_active()) {
        error_setg(errp, "SEV is not enabled in this guest");
        return false;
    }
    return true;
}

static bool snp(Error **errp)
{
    if (sev_tcg_level < SEV_TCG_SNP) {
        error_setg(errp, "only SEV-SNP guests have a reverse map table");
        return false;
    }
    return true;
}

/* The page of DRAM whose own address is @gpa. */
static bool own_page(uint64_t gpa, uint64_t *page, Error **errp)
{
    if (!sev_host_active(errp)) {
        return false;
    }
    if (sev_tcg_memory_at(first_cpu, gpa, page) != SEV_MEMORY_DRAM) {
        error_setg(errp, "no memory of the guest's at %#" PRIx64, gpa);
        return false;
    }
    return true;
}

bool sev_host_mapped_page(uint64_t gpa, uint64_t *page, Error **errp)
{
    if (!own_page(gpa, page, errp)) {
        return false;
    }
    *page = sev_tcg_nested(*page);
    return true;
}

static bool ram_page(uint64_t gpa, uint64_t *page, Error **errp)
{
    if (!own_page(gpa, page, errp)) {
        return false;
    }
    if (*page >= current_machine->ram_size >> SEV_PAGE_BITS) {
        error_setg(errp, "%#" PRIx64 " is in the firmware image: only RAM can"
                   " be mapped elsewhere", gpa);
        return false;
    }
    return true;
}

void sev_host_pause_guest(void)
{
    pause_all_vcpus();
}

void sev_host_resume_guest(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        tlb_flush(cs);
    }
    tb_flush(first_cpu);
    if (runstate_is_running()) {
        resume_all_vcpus();
    }
}

/* ---- the nested page table ---- */

static uint32_t *nested_table(void)
{
    uint64_t pages = current_machine->ram_size >> SEV_PAGE_BITS;

    if (!soc_cache_map.nested) {
        uint32_t *table = g_new(uint32_t, pages);

        for (uint64_t i = 0; i < pages; i++) {
            table[i] = i;
        }
        soc_cache_map.nested = table;
    }
    return soc_cache_map.nested;
}

void qmp_x_sev_host_remap(uint64_t gpa, uint64_t to_gpa, Error **errp)
{
    uint64_t page, to;

    if (ram_page(gpa, &page, errp) && ram_page(to_gpa, &to, errp)) {
        sev_host_pause_guest();
        nested_table()[page] = nested_table()[to];
        sev_host_resume_guest();
    }
}

void qmp_x_sev_host_alias(uint64_t gpa, uint64_t to_gpa, Error **errp)
{
    qmp_x_sev_host_remap(to_gpa, gpa, errp);
}

void qmp_x_sev_host_swap(uint64_t gpa, uint64_t to_gpa, Error **errp)
{
    uint64_t page, to;

    if (ram_page(gpa, &page, errp) && ram_page(to_gpa, &to, errp)) {
        uint32_t *table, first;

        sev_host_pause_guest();
        table = nested_table();
        first = table[page];
        table[page] = table[to];
        table[to] = first;
        sev_host_resume_guest();
    }
}

void qmp_x_sev_host_restore(Error **errp)
{
    if (sev_host_active(errp) && soc_cache_map.nested) {
        sev_host_pause_guest();
        for (uint64_t i = 0;
             i < current_machine->ram_size >> SEV_PAGE_BITS; i++) {
            soc_cache_map.nested[i] = i;
        }
        sev_host_resume_guest();
    }
}

/* ---- RMPUPDATE and PSMASH ---- */

static const char *result_name(int eax)
{
    switch (eax) {
    case SEV_RMP_FAIL_INPUT:
        return "FAIL_INPUT";
    case SEV_RMP_FAIL_PERMISSION:
        return "FAIL_PERMISSION";
    case SEV_RMP_FAIL_INUSE:
        return "FAIL_INUSE";
    case SEV_RMP_FAIL_OVERLAP:
        return "FAIL_OVERLAP";
    default:
        return "FAIL_SIZEMISMATCH";
    }
}

static bool succeeded(const char *instruction, int eax, Error **errp)
{
    if (eax != SEV_RMP_SUCCESS) {
        error_setg(errp, "%s: %s", instruction, result_name(eax));
    }
    return eax == SEV_RMP_SUCCESS;
}

#define MAX_ENTRY_BITS 51       /* of an address in an entry */

/* Split a 2 MiB entry first, as a host must before it takes one page of it. */
static int update(uint64_t page, const SevRmpEntry *entry)
{
    uint64_t gfn;
    int eax;

    sev_tcg_rmp_lock();
    if (!entry->large && sev_rmp_lookup(&sev_tcg_rmp, page, &gfn)->large) {
        sev_rmp_smash(&sev_tcg_rmp, page & ~(SEV_RMP_LARGE_PAGES - 1ull));
    }
    eax = sev_rmp_update(&sev_tcg_rmp, page, entry);
    sev_tcg_rmp_unlock();
    return eax;
}

void qmp_x_sev_host_unassign(uint64_t gpa, Error **errp)
{
    const SevRmpEntry none = { 0 };
    uint64_t page;

    if (sev_host_mapped_page(gpa, &page, errp) && snp(errp)) {
        sev_host_pause_guest();
        succeeded("RMPUPDATE", update(page, &none), errp);
        sev_host_resume_guest();
    }
}

void qmp_x_sev_host_replace(uint64_t gpa, Error **errp)
{
    const SevRmpEntry none = { 0 };
    SevRmpEntry fresh = {
        .assigned = 1, .asid = SEV_ASID, .gfn = gpa >> SEV_PAGE_BITS,
    };
    uint64_t page;

    if (sev_host_mapped_page(gpa, &page, errp) && snp(errp)) {
        sev_host_pause_guest();
        if (succeeded("RMPUPDATE", update(page, &none), errp)) {
            soc_cache_discard(page, 1);
            succeeded("RMPUPDATE", update(page, &fresh), errp);
        }
        sev_host_resume_guest();
    }
}

void qmp_x_sev_host_rmpupdate(uint64_t gpa, bool has_assigned, bool assigned,
                              bool has_asid, uint16_t asid, bool has_entry_gpa,
                              uint64_t entry_gpa, bool has_immutable,
                              bool immutable, bool has_large, bool large,
                              Error **errp)
{
    bool to_guest = !has_assigned || assigned;
    SevRmpEntry entry = {
        .assigned = to_guest, .immutable = has_immutable && immutable,
        .asid = has_asid ? asid : to_guest ? SEV_ASID : 0,
        .large = has_large && large,
    };
    uint64_t page;

    if (entry.asid != (has_asid ? asid : entry.asid) ||
        (has_entry_gpa && entry_gpa >> MAX_ENTRY_BITS)) {
        error_setg(errp, "RMPUPDATE: FAIL_INPUT: the entry has no bits for"
                   " this ASID or address");
        return;
    }
    entry.gfn = (has_entry_gpa ? entry_gpa : entry.asid ? gpa : 0)
        >> SEV_PAGE_BITS;
    if (sev_host_mapped_page(gpa, &page, errp) && snp(errp)) {
        sev_host_pause_guest();
        succeeded("RMPUPDATE", update(page, &entry), errp);
        sev_host_resume_guest();
    }
}

void qmp_x_sev_host_psmash(uint64_t gpa, Error **errp)
{
    uint64_t page;
    int eax;

    if (sev_host_mapped_page(gpa, &page, errp) && snp(errp)) {
        sev_host_pause_guest();
        sev_tcg_rmp_lock();
        eax = sev_rmp_smash(&sev_tcg_rmp, page);
        sev_tcg_rmp_unlock();
        succeeded("PSMASH", eax, errp);
        sev_host_resume_guest();
    }
}

static const char *state_name(const SevRmpEntry *e)
{
    if (!e->assigned) {
        return "hypervisor";
    }
    if (!e->asid) {
        return e->immutable ? "firmware" : "reclaim";
    }
    if (e->immutable) {
        return e->validated ? "pre-swap" : "pre-guest";
    }
    return e->validated ? "guest-valid" : "guest-invalid";
}

SevHostPage *qmp_x_sev_host_rmp(uint64_t gpa, Error **errp)
{
    SevHostPage *info;
    SevRmpEntry e;
    uint64_t page, gfn;

    if (!sev_host_mapped_page(gpa, &page, errp) || !snp(errp)) {
        return NULL;
    }
    sev_tcg_rmp_lock();
    e = *sev_rmp_lookup(&sev_tcg_rmp, page, &gfn);
    sev_tcg_rmp_unlock();
    info = g_new0(SevHostPage, 1);
    *info = (SevHostPage) {
        .gpa = gpa, .page = page, .state = g_strdup(state_name(&e)),
        .assigned = e.assigned, .validated = e.validated,
        .immutable = e.immutable, .vmsa = e.vmsa, .large = e.large,
        .asid = e.asid, .entry_gpa = gfn << SEV_PAGE_BITS,
    };
    for (int i = SEV_VMPLS - 1; i >= 0; i--) {
        QAPI_LIST_PREPEND(info->perms, e.perms[i]);
    }
    return info;
}

/* ---- reading and writing by physical address ---- */

bool sev_host_within_page(uint64_t gpa, uint64_t size, Error **errp)
{
    if (!size || size > SEV_PAGE_SIZE - gpa % SEV_PAGE_SIZE) {
        error_setg(errp, "%" PRIu64 " bytes at %#" PRIx64 " do not lie within"
                   " a page", size, gpa);
        return false;
    }
    return true;
}

static SevRmpCheck host_write_check(uint64_t page)
{
    SevRmpCheck check = SEV_RMP_PASS;

    if (sev_tcg_level >= SEV_TCG_SNP) {
        sev_tcg_rmp_lock();
        check = sev_rmp_check_host_write(&sev_tcg_rmp, page, false);
        sev_tcg_rmp_unlock();
    }
    return check;
}

void qmp_x_sev_host_write(uint64_t gpa, const char *text, Error **errp)
{
    g_autofree uint8_t *data = NULL;
    SevRmpCheck check;
    uint64_t page;
    size_t size;
    uint8_t *to;

    data = g_base64_decode(text, &size);
    if (!sev_host_mapped_page(gpa, &page, errp) ||
        !sev_host_within_page(gpa, size, errp)) {
        return;
    }
    check = host_write_check(page);
    if (check != SEV_RMP_PASS) {
        sev_tcg_count(refused_writes);
        error_setg(errp, "%s: #PF in the host with the RMP bit: the page at"
                   " %#" PRIx64 " is not the hypervisor's",
                   sev_rmp_check_name(check), gpa);
        return;
    }
    sev_host_pause_guest();
    to = sev_tcg_host_page(page) + gpa % SEV_PAGE_SIZE;
    soc_cache_before_device_write(to, size);
    memcpy(to, data, size);
    sev_host_resume_guest();
}

SevHostData *sev_host_data(const uint8_t *data, size_t size, bool private)
{
    SevHostData *info = g_new0(SevHostData, 1);

    info->data = g_base64_encode(data, size);
    info->q_private = private;
    return info;
}

SevHostData *qmp_x_sev_host_read(uint64_t gpa, uint32_t size, Error **errp)
{
    uint8_t buf[SEV_PAGE_SIZE];
    uint64_t page;
    bool private;

    if (!sev_host_mapped_page(gpa, &page, errp) ||
        !sev_host_within_page(gpa, size, errp)) {
        return NULL;
    }
    private = host_write_check(page) != SEV_RMP_PASS;
    if (private) {
        soc_cache_read_ciphertext(page, buf);
    } else {
        memcpy(buf, sev_tcg_host_page(page), SEV_PAGE_SIZE);
    }
    return sev_host_data(buf + gpa % SEV_PAGE_SIZE, size, private);
}

/* Of an index in 64 bits, which is not one of 32. */
static CPUState *vcpu_at(int64_t index)
{
    return index == (int)index ? qemu_get_cpu(index) : NULL;
}

SevHostData *qmp_x_sev_host_vmsa(int64_t vcpu, Error **errp)
{
    uint8_t buf[SEV_PAGE_SIZE] QEMU_ALIGNED(64);
    CPUState *cs = vcpu_at(vcpu);
    bool sealed = sev_tcg_level >= SEV_TCG_ES;

    if (!sev_host_active(errp)) {
        return NULL;
    }
    if (!cs) {
        error_setg(errp, "no vCPU %" PRId64, vcpu);
        return NULL;
    }
    sev_host_pause_guest();
    sev_tcg_vmsa_save(cpu_env(cs), buf);
    if (sealed) {
        /* A page of its own beyond the guest's memory. */
        soc_cache_encrypt(soc_cache_pages() + vcpu, buf);
    }
    if (runstate_is_running()) {
        resume_all_vcpus();
    }
    return sev_host_data(buf, SEV_PAGE_SIZE, sealed);
}

/* ---- interrupts ---- */

void qmp_x_sev_host_inject(uint8_t vector, bool has_vcpu, int64_t vcpu,
                           Error **errp)
{
    CPUState *cs = vcpu_at(has_vcpu ? vcpu : 0);

    if (!sev_host_active(errp)) {
        return;
    }
    if (!cs || vector < 16) {
        error_setg(errp, "no such vCPU, or a vector below 16");
        return;
    }
    /* As a device would, by a message. */
    address_space_stl_le(&address_space_memory,
                         APIC_DEFAULT_ADDRESS | X86_CPU(cs)->apic_id << 12,
                         vector, MEMTXATTRS_UNSPECIFIED, NULL);
}

/* ---- access rights in the nested page table ---- */

#define MAX_TOUCHES 65536

typedef struct Touch {
    uint64_t gpa;
    uint8_t type;
    bool private;
    uint16_t vcpu;
} Touch;

bool sev_tcg_tracing;
static Touch touches[MAX_TOUCHES];
static unsigned ntouches;

void sev_tcg_trace(CPUState *cs, const CPUTLBEntryFull *full,
                   MMUAccessType type)
{
    unsigned number = qatomic_fetch_inc(&ntouches);

    if (number < MAX_TOUCHES) {
        touches[number] = (Touch) {
            .gpa = full->phys_addr, .type = type, .private = full->encrypted,
            .vcpu = cs->cpu_index,
        };
    }
}

static SevHostTouch *touch_info(const Touch *t)
{
    static const char *const names[] = {
        [MMU_DATA_LOAD] = "read", [MMU_DATA_STORE] = "write",
        [MMU_INST_FETCH] = "execute",
    };
    SevHostTouch *info = g_new0(SevHostTouch, 1);

    *info = (SevHostTouch) {
        .gpa = t->gpa, .access = g_strdup(names[t->type]),
        .q_private = t->private, .vcpu = t->vcpu,
    };
    return info;
}

SevHostTouchList *qmp_x_sev_host_page_trace(bool enable, Error **errp)
{
    SevHostTouchList *list = NULL;

    if (sev_tcg_level < SEV_TCG_ES) {
        error_setg(errp, "pages are traced in SEV-ES and SEV-SNP guests only");
        return NULL;
    }
    sev_host_pause_guest();
    for (int i = MIN(ntouches, MAX_TOUCHES) - 1; i >= 0; i--) {
        QAPI_LIST_PREPEND(list, touch_info(&touches[i]));
    }
    ntouches = 0;
    sev_tcg_tracing = enable;
    sev_host_resume_guest();
    return list;
}

/* ---- counters ---- */

static void add_counter(SevHostCounterList **list, const char *name,
                        uint64_t value)
{
    SevHostCounter *counter = g_new0(SevHostCounter, 1);

    counter->name = g_strdup(name);
    counter->value = value;
    QAPI_LIST_PREPEND(*list, counter);
}

static void add_events(SevHostCounterList **list)
{
    SevTcgStats *s = &sev_tcg_stats;
    char name[24];

    for (unsigned i = 0; i < ARRAY_SIZE(s->events); i++) {
        if (s->events[i]) {
            snprintf(name, sizeof(name), "event-%x", i);
            add_counter(list, name, s->events[i]);
        }
    }
    for (unsigned i = 0; i < ARRAY_SIZE(s->vmm_events); i++) {
        if (s->vmm_events[i]) {
            snprintf(name, sizeof(name), "event-%x",
                     0x80000000u | (i > 0x1c ? 0xffe0 | i : i));
            add_counter(list, name, s->vmm_events[i]);
        }
    }
}

SevHostCounterList *qmp_x_sev_host_statistics(Error **errp)
{
    static const struct { const char *name; size_t offset; } counters[] = {
#define COUNTER(name, field) { name, offsetof(SevTcgStats, field) }
        COUNTER("vc", vc), COUNTER("vc-unvalidated", vc_unvalidated),
        COUNTER("vc-mmio", vc_mmio), COUNTER("msr-exits", msr_exits),
        COUNTER("page-exits", page_exits),
        COUNTER("malformed-exits", malformed_exits),
        COUNTER("pvalidate", pvalidate), COUNTER("rmpadjust", rmpadjust),
        COUNTER("psmash", psmash), COUNTER("to-private", to_private),
        COUNTER("to-shared", to_shared),
        COUNTER("implicit-private", implicit_private),
        COUNTER("implicit-shared", implicit_shared),
        COUNTER("guest-requests", guest_requests),
        COUNTER("refused-writes", refused_writes),
        COUNTER("nested-faults", nested_faults),
#undef COUNTER
    };
    SevHostCounterList *list = NULL;
    SocCacheStats cache;

    if (!sev_host_active(errp)) {
        return NULL;
    }
    for (int i = 0; i < ARRAY_SIZE(counters); i++) {
        add_counter(&list, counters[i].name,
                    *(uint64_t *)((char *)&sev_tcg_stats + counters[i].offset));
    }
    soc_cache_get_stats(&cache);
    add_counter(&list, "tampered-pages", cache.tampered);
    add_events(&list);
    return list;
}
