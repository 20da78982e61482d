/*
 * SEV-ES and SEV-SNP: the host's side of VMGEXIT, and the MSR protocol
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * "SEV-ES Guest-Hypervisor Communication Block Standardization" (56421).  The
 * GHCB is a page of the guest's that it shares: nothing in it can be trusted,
 * and each field is read once.
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/soc-cache.h"
#include "qapi/qapi-events-sev-host-target.h"
#include "system/runstate.h"
#include "ghcb.h"

/* ---- the end of a guest ---- */

void sev_tcg_terminate(CPUX86State *env, unsigned set, unsigned reason)
{
    CPUState *cs = env_cpu(env);

    error_report("SEV: the guest asks for its end: %u:%#x (RIP %#" PRIx64 ")",
                 set, reason, (uint64_t)env->eip);
    {
        BQL_LOCK_GUARD();
        qapi_event_send_sev_guest_terminated(set, reason);
        qemu_system_guest_panicked(NULL);
    }
    sev_tcg_leave(cs, 0);
}

void sev_tcg_unusable(CPUX86State *env, const char *what, uint64_t value)
{
    error_report("SEV: %s: %#" PRIx64 " (RIP %#" PRIx64 ")", what, value,
                 (uint64_t)env->eip);
    sev_tcg_host_fault(env_cpu(env), value, "GHCB");
    sev_tcg_leave(env_cpu(env), 0);
}

/* ---- MSR protocol (section 2.3) ---- */

#define REQUEST_MASK 0xfffull
#define REQUEST_SEV_INFO 0x002
#define REQUEST_CPUID 0x004
#define REQUEST_RESET_HOLD 0x006
#define REQUEST_PREFERRED 0x010
#define REQUEST_REGISTER 0x012
#define REQUEST_PAGE_STATE 0x014
#define REQUEST_FEATURES 0x080
#define REQUEST_TERMINATE 0x100

#define GHCB_VERSION_MIN 1ull
#define GHCB_VERSION_MAX 2ull

uint64_t sev_tcg_hv_features(void)
{
    return sev_tcg_level >= SEV_TCG_SNP ? HV_FEATURE_SNP |
                                          HV_FEATURE_AP_CREATION : 0;
}

static uint64_t sev_info(void)
{
    return GHCB_VERSION_MAX << 48 | GHCB_VERSION_MIN << 32 |
           (uint64_t)sev_get_cbit_position() << 24 | 0x001;
}

static uint64_t answer_cpuid(CPUX86State *env, uint64_t request)
{
    unsigned number = request >> 30 & 3;
    uint32_t regs[4];

    sev_tcg_cpuid(env, request >> 32, 0, &regs[0], &regs[1], &regs[2],
                  &regs[3]);
    return (uint64_t)regs[number] << 32 | (uint64_t)number << 30 | 0x005;
}

static uint64_t answer_page_state(CPUX86State *env, uint64_t request)
{
    CPUState *cs = env_cpu(env);
    bool done = sev_tcg_level >= SEV_TCG_SNP &&
        sev_tcg_change_page(cs, request >> 12 & ((1ull << 40) - 1),
                            request >> 52 & 0xf, false);

    sev_tcg_flush(cs);
    return (done ? 0 : 1ull << 32) | 0x015;
}

static uint64_t answer_register(CPUX86State *env, uint64_t request)
{
    env->sev.registered_ghcb = request & ~REQUEST_MASK;
    return (request & ~REQUEST_MASK) | 0x013;
}

void sev_tcg_msr_protocol(CPUX86State *env, uint64_t request)
{
    uint64_t *answer = &env->sev.ghcb_msr;

    switch (request & REQUEST_MASK) {
    case REQUEST_SEV_INFO:
        *answer = sev_info();
        break;
    case REQUEST_CPUID:
        *answer = answer_cpuid(env, request);
        break;
    case REQUEST_RESET_HOLD:
        *answer = 0x007;
        sev_tcg_hold(env, SEV_HOLD_MSR, SEV_NO_ADDRESS);
        break;
    case REQUEST_PREFERRED:
        *answer = ~REQUEST_MASK | 0x011;    /* no preference */
        break;
    case REQUEST_REGISTER:
        *answer = answer_register(env, request);
        break;
    case REQUEST_PAGE_STATE:
        *answer = answer_page_state(env, request);
        break;
    case REQUEST_FEATURES:
        *answer = sev_tcg_hv_features() << 12 | 0x081;
        break;
    case REQUEST_TERMINATE:
        sev_tcg_terminate(env, request >> 12 & 0xf, request >> 16 & 0xff);
    default:
        sev_tcg_unusable(env, "unknown request in the GHCB MSR", request);
    }
}

/* ---- the page ---- */

uint64_t sev_ghcb_get(const SevGhcb *g, unsigned offset)
{
    return ldq_le_p(g->copy + offset);
}

bool sev_ghcb_has(const SevGhcb *g, unsigned offset)
{
    return g->copy[GHCB_VALID_BITMAP + offset / 64] & 1 << (offset / 8 % 8);
}

void sev_ghcb_set(SevGhcb *g, unsigned offset, uint64_t value)
{
    stq_le_p(g->page + offset, value);
    g->page[GHCB_VALID_BITMAP + offset / 64] |= 1 << (offset / 8 % 8);
}

void sev_ghcb_malformed(SevGhcb *g, unsigned reason)
{
    sev_tcg_count(malformed_exits);
    g->info1 = GHCB_RESULT_MALFORMED;
    g->info2 = reason;
}

void sev_ghcb_exception(SevGhcb *g, unsigned vector, bool error_code)
{
    g->info1 = GHCB_RESULT_EXCEPTION;
    g->info2 = vector | 3 << 8 | (error_code ? 1 << 11 : 0) | 1u << 31;
}

/* Where the host maps shared memory; NULL if it is not all there, in a piece. */
static uint8_t *shared_memory(SevGhcb *g, uint64_t gpa, uint64_t size)
{
    uint64_t first = gpa >> SEV_PAGE_BITS, page;
    uint64_t count = ((gpa + size - 1) >> SEV_PAGE_BITS) - first + 1;
    uint8_t *start = NULL;

    for (uint64_t i = 0; i < count; i++) {
        if (!sev_tcg_is_shared(env_cpu(g->env), (first + i) << SEV_PAGE_BITS,
                               &page)) {
            return NULL;
        }
        if (i == 0) {
            start = sev_tcg_host_page(page);
        } else if (sev_tcg_host_page(page) != start + i * SEV_PAGE_SIZE) {
            return NULL;
        }
    }
    soc_cache_before_device_write(start, count * SEV_PAGE_SIZE);
    return start + (gpa & (SEV_PAGE_SIZE - 1));
}

/*
 * The memory that an event's scratch address names: in the GHCB's own buffer,
 * or elsewhere in shared memory.  NULL if there is none, or if it is longer
 * than KVM takes.  Section 4.1: SW_SCRATCH.
 */
uint8_t *sev_ghcb_scratch(SevGhcb *g, uint64_t gpa, uint64_t size)
{
    uint64_t end = gpa + size;

    if (!size || size > GHCB_SCRATCH_LIMIT || end < gpa) {
        return NULL;
    }
    if (gpa >= g->gpa && gpa < g->gpa + SEV_PAGE_SIZE) {
        if (gpa < g->gpa + GHCB_SHARED_BUFFER ||
            end > g->gpa + GHCB_SHARED_BUFFER_END) {
            return NULL;
        }
        return g->page + (gpa - g->gpa);
    }
    return shared_memory(g, gpa, size);
}

static bool well_formed(SevGhcb *g)
{
    if (ldl_le_p(g->copy + GHCB_USAGE)) {
        sev_ghcb_malformed(g, GHCB_INVALID_USAGE);
    } else if (!sev_ghcb_has(g, GHCB_EXIT_CODE) ||
               !sev_ghcb_has(g, GHCB_EXIT_INFO_1) ||
               !sev_ghcb_has(g, GHCB_EXIT_INFO_2)) {
        sev_ghcb_malformed(g, GHCB_MISSING_INPUT);
    } else {
        return true;
    }
    return false;
}

static void count_event(uint64_t code)
{
    if (code < ARRAY_SIZE(sev_tcg_stats.events)) {
        sev_tcg_count(events[code]);
    } else if (code >> 31 == 1) {
        sev_tcg_count(vmm_events[code % ARRAY_SIZE(sev_tcg_stats.vmm_events)]);
    }
}

void sev_tcg_page_protocol(CPUX86State *env, uint64_t gpa)
{
    SevGhcb ghcb = { .env = env, .gpa = gpa };
    uint64_t page;

    if (sev_tcg_level >= SEV_TCG_SNP && gpa != env->sev.registered_ghcb) {
        sev_tcg_unusable(env, "the GHCB is not the registered page", gpa);
    }
    if (!sev_tcg_is_shared(env_cpu(env), gpa, &page)) {
        sev_tcg_unusable(env, "the GHCB is not a shared page", gpa);
    }
    ghcb.page = sev_tcg_host_page(page);
    soc_cache_before_device_write(ghcb.page, SEV_PAGE_SIZE);
    memcpy(ghcb.copy, ghcb.page, SEV_PAGE_SIZE);
    memset(ghcb.page + GHCB_VALID_BITMAP, 0, GHCB_VALID_BITMAP_SIZE);
    if (well_formed(&ghcb)) {
        count_event(sev_ghcb_get(&ghcb, GHCB_EXIT_CODE));
        sev_ghcb_serve(&ghcb);
    }
    sev_ghcb_set(&ghcb, GHCB_EXIT_INFO_1, ghcb.info1);
    sev_ghcb_set(&ghcb, GHCB_EXIT_INFO_2, ghcb.info2);
    if (ghcb.hold) {
        sev_tcg_hold(env, SEV_HOLD_PAGE, gpa);
    }
}
