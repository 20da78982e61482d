/*
 * SEV-ES and SEV-SNP: the non-automatic exits, one by one
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * GHCB standardization (56421), section 4.  What is required of each event and
 * how a bad one is answered is what KVM does.
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/address-spaces.h"
#include "exec/helper-proto.h"
#include "exec/memory.h"
#include "tcg/helper-tcg.h"
#include "svm.h"
#include "ghcb.h"

#define KVM_ENOSYS 1000

static bool require(SevGhcb *g, unsigned offset)
{
    if (!sev_ghcb_has(g, offset)) {
        sev_ghcb_malformed(g, GHCB_MISSING_INPUT);
        return false;
    }
    return true;
}

/* ---- instructions ---- */

static void cpuid(SevGhcb *g)
{
    uint32_t function = sev_ghcb_get(g, GHCB_RAX);
    uint32_t a, b, c, d;

    if (!require(g, GHCB_RAX) || !require(g, GHCB_RCX) ||
        (function == 0xd && !require(g, GHCB_XCR0))) {
        return;
    }
    sev_tcg_cpuid(g->env, function, sev_ghcb_get(g, GHCB_RCX), &a, &b, &c,
                  &d);
    sev_ghcb_set(g, GHCB_RAX, a);
    sev_ghcb_set(g, GHCB_RBX, b);
    sev_ghcb_set(g, GHCB_RCX, c);
    sev_ghcb_set(g, GHCB_RDX, d);
}

/*
 * Run an instruction's helper with the guest's registers set to the GHCB's.
 * False if it raised an exception, which is then not the guest's yet.
 */
static bool call(SevGhcb *g, void (*helper)(CPUX86State *env))
{
    CPUX86State *env = g->env;
    CPUState *cs = env_cpu(env);
    sigjmp_buf loop;
    volatile bool done = true;

    memcpy(&loop, &cs->jmp_env, sizeof(loop));
    env->sev.host_call = true;
    if (sigsetjmp(cs->jmp_env, 0) == 0) {
        helper(env);
    } else {
        if (bql_locked()) {
            bql_unlock();
        }
        done = false;
        cs->exception_index = -1;
        env->old_exception = -1;
    }
    env->sev.host_call = false;
    memcpy(&cs->jmp_env, &loop, sizeof(loop));
    return done;
}

static void msr(SevGhcb *g)
{
    CPUX86State *env = g->env;
    bool write = sev_ghcb_get(g, GHCB_EXIT_INFO_1) & 1;
    target_ulong a = env->regs[R_EAX], c = env->regs[R_ECX],
                 d = env->regs[R_EDX];

    if (!require(g, GHCB_RCX) ||
        (write && (!require(g, GHCB_RAX) || !require(g, GHCB_RDX)))) {
        return;
    }
    env->regs[R_ECX] = sev_ghcb_get(g, GHCB_RCX);
    env->regs[R_EAX] = (uint32_t)sev_ghcb_get(g, GHCB_RAX);
    env->regs[R_EDX] = (uint32_t)sev_ghcb_get(g, GHCB_RDX);
    if (!call(g, write ? helper_wrmsr : helper_rdmsr)) {
        sev_ghcb_exception(g, EXCP0D_GPF, true);
    } else if (!write) {
        sev_ghcb_set(g, GHCB_RAX, (uint32_t)env->regs[R_EAX]);
        sev_ghcb_set(g, GHCB_RDX, (uint32_t)env->regs[R_EDX]);
    }
    env->regs[R_EAX] = a;
    env->regs[R_ECX] = c;
    env->regs[R_EDX] = d;
}

static void rdtsc(SevGhcb *g, bool with_aux)
{
    uint64_t tsc = cpu_get_tsc(g->env);

    sev_ghcb_set(g, GHCB_RAX, (uint32_t)tsc);
    sev_ghcb_set(g, GHCB_RDX, tsc >> 32);
    if (with_aux) {
        sev_ghcb_set(g, GHCB_RCX, g->env->tsc_aux);
    }
}

static void vmmcall(SevGhcb *g)
{
    if (require(g, GHCB_RAX) && require(g, GHCB_CPL)) {
        sev_ghcb_set(g, GHCB_RAX, (uint64_t)-KVM_ENOSYS);
    }
}

static void write_dr7(SevGhcb *g)
{
    if (require(g, GHCB_RAX)) {
        g->env->dr[7] = (uint32_t)sev_ghcb_get(g, GHCB_RAX) | DR7_FIXED_1;
    }
}

/* ---- ports and memory-mapped devices ---- */

static void string_io(SevGhcb *g, uint16_t port, unsigned size, bool in)
{
    uint64_t count = sev_ghcb_get(g, GHCB_EXIT_INFO_2);
    MemTxAttrs attrs = cpu_get_mem_attrs(g->env);
    uint8_t *buf;

    if (!require(g, GHCB_SCRATCH)) {
        return;
    }
    buf = count <= GHCB_SCRATCH_LIMIT / size
        ? sev_ghcb_scratch(g, sev_ghcb_get(g, GHCB_SCRATCH), count * size)
        : NULL;
    if (!buf) {
        sev_ghcb_malformed(g, GHCB_INVALID_SCRATCH);
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        address_space_rw(&address_space_io, port, attrs, buf + i * size, size,
                         !in);
    }
}

static void port_io(SevGhcb *g)
{
    uint64_t info = sev_ghcb_get(g, GHCB_EXIT_INFO_1);
    MemTxAttrs attrs = cpu_get_mem_attrs(g->env);
    unsigned size = info >> 4 & 7;
    uint16_t port = info >> 16;
    uint8_t data[8] = { 0 };
    bool in = info & 1;

    if (size != 1 && size != 2 && size != 4) {
        sev_ghcb_malformed(g, GHCB_INVALID_INPUT);
    } else if (info & SVM_IOIO_STR_MASK) {
        string_io(g, port, size, in);
    } else if (in || require(g, GHCB_RAX)) {
        stq_le_p(data, sev_ghcb_get(g, GHCB_RAX));
        address_space_rw(&address_space_io, port, attrs, data, size, !in);
        if (in) {
            memset(data + size, 0, sizeof(data) - size);
            sev_ghcb_set(g, GHCB_RAX, ldq_le_p(data));
        }
    }
}

/*
 * Where memory lies at the address, the host accesses it as shared memory.  It
 * may be the scratch area, so the bytes go through a copy, as in KVM.
 */
static void mmio(SevGhcb *g, bool write)
{
    uint64_t gpa = sev_ghcb_get(g, GHCB_EXIT_INFO_1);
    uint64_t size = sev_ghcb_get(g, GHCB_EXIT_INFO_2);
    CPUState *cs = env_cpu(g->env);
    MemTxAttrs attrs = cpu_get_mem_attrs(g->env);
    g_autofree uint8_t *copy = NULL;
    uint8_t *buf;

    if (!require(g, GHCB_SCRATCH)) {
        return;
    }
    buf = sev_ghcb_scratch(g, sev_ghcb_get(g, GHCB_SCRATCH), size);
    if (!buf) {
        sev_ghcb_malformed(g, GHCB_INVALID_SCRATCH);
        return;
    }
    copy = g_memdup2(buf, size);
    address_space_rw(cpu_get_address_space(cs, 0), gpa, attrs, copy, size,
                     write);
    if (!write) {
        memcpy(buf, copy, size);
    }
}

/* ---- requests to the VMM ---- */

/* The address of the AP jump table: the VMM only keeps it (SEV-ES). */
static void jump_table(SevGhcb *g)
{
    static uint64_t address;
    uint64_t info = sev_ghcb_get(g, GHCB_EXIT_INFO_1);

    if (info == 0) {
        qatomic_set(&address, sev_ghcb_get(g, GHCB_EXIT_INFO_2));
    } else if (info == 1) {
        g->info2 = qatomic_read(&address);
    } else {
        sev_ghcb_malformed(g, GHCB_INVALID_INPUT);
    }
}

static void create_vcpu(SevGhcb *g)
{
    uint64_t info = sev_ghcb_get(g, GHCB_EXIT_INFO_1);
    bool destroy = (info & 0xffff) == 2;

    if ((destroy || require(g, GHCB_RAX)) &&
        !sev_tcg_create_vcpu(g->env, info,
                             sev_ghcb_get(g, GHCB_EXIT_INFO_2),
                             sev_ghcb_get(g, GHCB_RAX))) {
        sev_ghcb_malformed(g, GHCB_INVALID_INPUT);
    }
}

static void terminate(SevGhcb *g)
{
    uint64_t info = sev_ghcb_get(g, GHCB_EXIT_INFO_1);

    sev_tcg_terminate(g->env, info & 0xf, info >> 4 & 0xff);
}

static bool serve_instruction(SevGhcb *g, uint64_t code)
{
    switch (code) {
    case SVM_EXIT_CPUID:
        cpuid(g);
        break;
    case SVM_EXIT_IOIO:
        port_io(g);
        break;
    case SVM_EXIT_MSR:
        msr(g);
        break;
    case SVM_EXIT_RDPMC:
        if (require(g, GHCB_RCX)) {
            sev_ghcb_exception(g, EXCP0D_GPF, true);    /* no counters */
        }
        break;
    case SVM_EXIT_RDTSC:
    case SVM_EXIT_RDTSCP:
        rdtsc(g, code == SVM_EXIT_RDTSCP);
        break;
    case SVM_EXIT_READ_DR0 + 7:
        sev_ghcb_set(g, GHCB_RAX, g->env->dr[7]);
        break;
    case SVM_EXIT_WRITE_DR0 + 7:
        write_dr7(g);
        break;
    case SVM_EXIT_VMMCALL:
        vmmcall(g);
        break;
    case SVM_EXIT_INVD:
    case SVM_EXIT_WBINVD:
    case SVM_EXIT_MONITOR:
    case SVM_EXIT_MWAIT:
        break;                  /* nothing that a guest could see */
    default:
        return false;
    }
    return true;
}

static bool serve_snp(SevGhcb *g, uint64_t code)
{
    if (sev_tcg_level < SEV_TCG_SNP) {
        return false;
    }
    switch (code) {
    case GHCB_EVENT_PAGE_STATE:
        sev_ghcb_page_state(g);
        break;
    case GHCB_EVENT_GUEST_REQUEST:
    case GHCB_EVENT_EXT_GUEST_REQUEST:
        sev_ghcb_guest_request(g, code == GHCB_EVENT_EXT_GUEST_REQUEST);
        break;
    case GHCB_EVENT_AP_CREATION:
        create_vcpu(g);
        break;
    default:
        return false;
    }
    return true;
}

static bool serve_vmm_event(SevGhcb *g, uint64_t code)
{
    switch (code) {
    case GHCB_EVENT_MMIO_READ:
    case GHCB_EVENT_MMIO_WRITE:
        mmio(g, code == GHCB_EVENT_MMIO_WRITE);
        break;
    case GHCB_EVENT_NMI_COMPLETE:
        g->env->hflags2 &= ~HF2_NMI_MASK;
        break;
    case GHCB_EVENT_RESET_HOLD:
        g->hold = true;
        break;
    case GHCB_EVENT_JUMP_TABLE:
        jump_table(g);
        break;
    case GHCB_EVENT_FEATURES:
        g->info2 = sev_tcg_hv_features();
        break;
    case GHCB_EVENT_TERMINATE:
        terminate(g);
        break;
    case GHCB_EVENT_UNSUPPORTED:
        sev_tcg_unusable(g->env, "the guest reports an event that it does not"
                         " support", sev_ghcb_get(g, GHCB_EXIT_INFO_1));
    default:
        return false;
    }
    return true;
}

void sev_ghcb_serve(SevGhcb *g)
{
    uint64_t code = sev_ghcb_get(g, GHCB_EXIT_CODE);

    if (!serve_instruction(g, code) && !serve_vmm_event(g, code) &&
        !serve_snp(g, code)) {
        sev_ghcb_malformed(g, GHCB_INVALID_EVENT);
    }
}
