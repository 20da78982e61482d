/*
 * The hostile host: what it asks of the firmware and of the processor, and
 * what it answers in the processor's place
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * DBG_DECRYPT, a page walk under the guest's ASID, and false CPUID values.
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-sev-host-target.h"
#include "exec/soc-cache.h"
#include "host.h"

/* ---- the firmware decrypts, if the policy allows it ---- */

/* SEV-SNP firmware ABI (56860), guest policy. */
#define SNP_POLICY_DEBUG (1ull << 19)

static bool may_debug(void)
{
    return sev_snp_enabled()
        ? sev_snp_tcg_guest()->policy & SNP_POLICY_DEBUG
        : !(sev_tcg_guest()->policy & SEV_POLICY_NODBG);
}

/* SNP_DBG_DECRYPT is for pages of this guest alone. */
static bool is_guests(uint64_t page)
{
    SevRmpEntry e;
    uint64_t gfn;

    sev_tcg_rmp_lock();
    e = *sev_rmp_lookup(&sev_tcg_rmp, page, &gfn);
    sev_tcg_rmp_unlock();
    return e.assigned && e.asid == SEV_ASID;
}

SevHostData *qmp_x_sev_host_debug_decrypt(uint64_t gpa, uint32_t size,
                                          Error **errp)
{
    const char *command = sev_snp_enabled() ? "SNP_DBG_DECRYPT"
                                            : "DBG_DECRYPT";
    uint8_t buf[SEV_PAGE_SIZE];
    SevHostData *info;
    uint64_t page;

    if (!sev_host_mapped_page(gpa, &page, errp) ||
        !sev_host_within_page(gpa, size, errp)) {
        return NULL;
    }
    if (!may_debug()) {
        error_setg(errp, "%s: POLICY_FAILURE", command);
        return NULL;
    }
    sev_host_pause_guest();
    if (sev_snp_enabled() && !is_guests(page)) {
        error_setg(errp, "%s: INVALID_PAGE_STATE", command);
        info = NULL;
    } else {
        soc_cache_read_page(page, buf);
        info = sev_host_data(buf + gpa % SEV_PAGE_SIZE, size, false);
        explicit_bzero(buf, sizeof(buf));
    }
    sev_host_resume_guest();
    return info;
}

/* ---- a machine of the host's with the guest's ASID ---- */

/*
 * Of an entry of a page table the host learns what the walk does with it: the
 * address of the next table, which is in the nested page fault's EXITINFO2.
 */
#define ENTRY_PRESENT 1
#define ENTRY_ADDRESS 0x000ffffffffff000ull

/* The host's machine has the page at its address 0, where its CR3 points. */
static SevRmpCheck walk_check(uint64_t page)
{
    const SevRmpAccess access = {
        .gfn = 0, .asid = SEV_ASID, .wants = SEV_PERM_READ,
    };
    SevRmpCheck check = SEV_RMP_PASS;

    if (sev_tcg_level >= SEV_TCG_SNP) {
        sev_tcg_rmp_lock();
        check = sev_rmp_check_private(&sev_tcg_rmp, page, &access);
        sev_tcg_rmp_unlock();
    }
    return check;
}

SevHostWalk *qmp_x_sev_host_asid_walk(uint64_t gpa, uint16_t asid,
                                      Error **errp)
{
    uint64_t address_mask = ENTRY_ADDRESS & ~sev_c_bit_mask;
    uint8_t buf[SEV_PAGE_SIZE];
    SevRmpCheck check;
    SevHostWalk *walk;
    uint64_t page, entry;

    if (!sev_host_mapped_page(gpa, &page, errp)) {
        return NULL;
    }
    if (gpa % sizeof(entry) || asid > SEV_ASID) {
        error_setg(errp, "an entry has an address that is divisible by 8; the"
                   " ASIDs are 0 (no key) and %d (the guest's)", SEV_ASID);
        return NULL;
    }
    check = asid ? walk_check(page) : SEV_RMP_PASS;
    if (check != SEV_RMP_PASS) {
        error_setg(errp, "%s: #NPF of the page walk at 0",
                   sev_rmp_check_name(check));
        return NULL;
    }
    sev_host_pause_guest();
    if (asid) {
        soc_cache_read_page(page, buf);
    } else {
        soc_cache_read_ciphertext(page, buf);
    }
    sev_host_resume_guest();
    entry = ldq_le_p(buf + gpa % SEV_PAGE_SIZE);
    explicit_bzero(buf, sizeof(buf));
    walk = g_new0(SevHostWalk, 1);
    walk->present = entry & ENTRY_PRESENT;
    walk->fault_gpa = walk->present ? entry & address_mask : 0;
    return walk;
}

/* ---- false CPUID values ---- */

#define MAX_LIES 16

typedef struct Lie {
    uint32_t function, index;
    bool any_index;
    uint32_t regs[4];
} Lie;

static Lie lies[MAX_LIES];
static unsigned nlies;

static Lie *find_lie(uint32_t function, uint32_t index)
{
    for (unsigned i = 0; i < nlies; i++) {
        if (lies[i].function == function &&
            (lies[i].any_index || lies[i].index == index)) {
            return &lies[i];
        }
    }
    return NULL;
}

void sev_tcg_cpuid(CPUX86State *env, uint32_t function, uint32_t index,
                   uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx)
{
    const Lie *lie = find_lie(function, index);

    if (likely(!lie)) {
        cpu_x86_cpuid(env, function, index, eax, ebx, ecx, edx);
        return;
    }
    *eax = lie->regs[0];
    *ebx = lie->regs[1];
    *ecx = lie->regs[2];
    *edx = lie->regs[3];
}

void qmp_x_sev_host_cpuid(uint32_t function, bool has_index, uint32_t index,
                          bool has_eax, uint32_t eax, bool has_ebx,
                          uint32_t ebx, bool has_ecx, uint32_t ecx,
                          bool has_edx, uint32_t edx, Error **errp)
{
    uint32_t given[] = { eax, ebx, ecx, edx };
    bool have[] = { has_eax, has_ebx, has_ecx, has_edx };
    Lie *lie = find_lie(function, index);

    if (!sev_host_active(errp)) {
        return;
    }
    if (!lie && nlies == MAX_LIES) {
        error_setg(errp, "at most %d leaves can be answered falsely", MAX_LIES);
        return;
    }
    sev_host_pause_guest();
    if (!lie) {
        lie = &lies[nlies];
        *lie = (Lie) {
            .function = function, .index = index, .any_index = !has_index,
        };
        cpu_x86_cpuid(cpu_env(first_cpu), function, index, &lie->regs[0],
                      &lie->regs[1], &lie->regs[2], &lie->regs[3]);
        nlies++;
    }
    for (int i = 0; i < 4; i++) {
        if (have[i]) {
            lie->regs[i] = given[i];
        }
    }
    sev_host_resume_guest();
}

void qmp_x_sev_host_cpuid_restore(Error **errp)
{
    if (sev_host_active(errp)) {
        sev_host_pause_guest();
        nlies = 0;
        sev_host_resume_guest();
    }
}
