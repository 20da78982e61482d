/*
 * SEV-SNP: lists of page-state changes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * GHCB standardization (56421), section 4.1.6: the header names the first and
 * the last entry; the VMM moves the first on as it works, so that the guest
 * goes on after an error, or where the VMM stopped.
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "ghcb.h"

#define MAX_ENTRIES 253
#define HEADER_SIZE 8

/* Exit information 2: as KVM has them. */
#define INVALID_HEADER (1ull << 32 | 1)
#define INVALID_ENTRY (1ull << 32 | 2)

typedef struct Change {
    uint64_t gfn;
    unsigned op;
    bool large;
    unsigned done;              /* 4 KiB pages done before */
} Change;

static Change entry_at(const uint8_t *list, unsigned number)
{
    uint64_t e = ldq_le_p(list + HEADER_SIZE + 8 * number);

    return (Change) {
        .done = e & 0xfff, .gfn = e >> 12 & ((1ull << 40) - 1),
        .op = e >> 52 & 0xf, .large = e >> 56 & 1,
    };
}

static bool apply(CPUState *cs, const Change *change)
{
    unsigned size = change->large ? SEV_RMP_LARGE_PAGES : 1;

    if (change->done > size) {
        return false;
    }
    if (!change->done) {
        return sev_tcg_change_page(cs, change->gfn, change->op, change->large);
    }
    for (unsigned i = change->done; i < size; i++) {
        if (!sev_tcg_change_page(cs, change->gfn + i, change->op, false)) {
            return false;
        }
    }
    return true;
}

void sev_ghcb_page_state(SevGhcb *g)
{
    CPUState *cs = env_cpu(g->env);
    size_t size = HEADER_SIZE + 8 * MAX_ENTRIES;
    unsigned current, end;
    uint8_t *list;

    if (!sev_ghcb_has(g, GHCB_SCRATCH)) {
        sev_ghcb_malformed(g, GHCB_MISSING_INPUT);
        return;
    }
    list = sev_ghcb_scratch(g, sev_ghcb_get(g, GHCB_SCRATCH), size);
    if (!list) {
        sev_ghcb_malformed(g, GHCB_INVALID_SCRATCH);
        return;
    }
    current = lduw_le_p(list);
    end = lduw_le_p(list + 2);
    if (end >= MAX_ENTRIES || current > end) {
        g->info2 = INVALID_HEADER;
        return;
    }
    for (; current <= end; current++) {
        Change change = entry_at(list, current);

        if (!apply(cs, &change)) {
            g->info2 = INVALID_ENTRY;
            break;
        }
        stw_le_p(list, current + 1);
    }
    sev_tcg_flush(cs);
}
