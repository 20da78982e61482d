/*
 * SEV-ES and SEV-SNP: the instructions of the guest
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * #VC for what the host intercepts, VMGEXIT, PVALIDATE, RMPADJUST.
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "exec/helper-proto.h"
#include "exec/cputlb.h"
#include "tcg/helper-tcg.h"
#include "svm.h"
#include "internal.h"

SevTcgLevel sev_tcg_level;

/* ---- #VC ---- */

/* What KVM intercepts in SEV-ES guests and is not an automatic exit. */
bool sev_tcg_intercepts(uint32_t exit_code)
{
    switch (exit_code) {
    case SVM_EXIT_CPUID:
    case SVM_EXIT_RDPMC:
    case SVM_EXIT_INVD:
    case SVM_EXIT_WBINVD:
    case SVM_EXIT_VMMCALL:
    case SVM_EXIT_MONITOR:
    case SVM_EXIT_MWAIT:
    case SVM_EXIT_MSR:
        return true;
    case SVM_EXIT_READ_DR0 + 7:
    case SVM_EXIT_WRITE_DR0 + 7:
        return !(sev_tcg_features() & SEV_FEATURES_DEBUG_SWAP);
    default:
        return false;
    }
}

/* MSRs that the hardware keeps in the save area: no exit. */
static bool msr_is_the_guests(uint32_t msr)
{
    switch (msr) {
    case MSR_EFER:
    case MSR_STAR:
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FMASK:
    case MSR_FSBASE:
    case MSR_GSBASE:
    case MSR_KERNELGSBASE:
    case MSR_PAT:
    case MSR_IA32_SYSENTER_CS:
    case MSR_IA32_SYSENTER_ESP:
    case MSR_IA32_SYSENTER_EIP:
    case MSR_TSC_AUX:
    case MSR_IA32_XSS:
    case MSR_IA32_SPEC_CTRL:
    case MSR_IA32_PRED_CMD:
    case MSR_AMD64_SEV_ES_GHCB:
    case MSR_AMD64_SEV_STATUS:
        return true;
    default:
        return false;
    }
}

void sev_tcg_raise_vc(CPUX86State *env, uint32_t code, uintptr_t ra)
{
    sev_tcg_count(vc);
    if (code == SEV_VC_UNVALIDATED) {
        sev_tcg_count(vc_unvalidated);
    } else if (code == SEV_VC_NPF) {
        sev_tcg_count(vc_mmio);
    }
    raise_exception_err_ra(env, EXCP1D_VC, code, ra);
}

void sev_tcg_check_intercept(CPUX86State *env, uint32_t exit_code,
                             uintptr_t ra)
{
    if (env->sev.host_call || !sev_tcg_intercepts(exit_code) ||
        (exit_code == SVM_EXIT_MSR &&
         msr_is_the_guests(env->regs[R_ECX]))) {
        return;
    }
    sev_tcg_raise_vc(env, exit_code, ra);
}

void helper_sev_vc(CPUX86State *env, uint32_t code)
{
    sev_tcg_raise_vc(env, code, GETPC());
}

void helper_sev_vmgexit(CPUX86State *env, int length)
{
    uint64_t value = env->sev.ghcb_msr;
    CPUState *cs = env_cpu(env);

    if (value & (SEV_PAGE_SIZE - 1)) {
        sev_tcg_count(msr_exits);
        sev_tcg_msr_protocol(env, value);
    } else {
        sev_tcg_count(page_exits);
        sev_tcg_page_protocol(env, value);
    }
    if (cs->halted) {
        env->eip += length;
        cs->exception_index = EXCP_HLT;
        cpu_loop_exit(cs);
    }
}

/* ---- PVALIDATE and RMPADJUST (APM volume 3) ---- */

static void finish(CPUX86State *env, int eax, bool carry)
{
    env->regs[R_EAX] = eax;
    env->cc_src = carry ? CC_C : 0;
    env->cc_op = CC_OP_EFLAGS;
}

/* The page that the instruction is about. */
typedef struct Operand {
    SevMemory memory;
    uint64_t page;
    bool large;
    SevRmpAccess access;
} Operand;

static Operand operand(CPUX86State *env, uintptr_t ra)
{
    target_ulong va = env->regs[R_EAX];
    bool encrypted;
    Operand op = { .large = env->regs[R_ECX] & 1 };
    hwaddr gpa;

    if (!(env->hflags & HF_CS64_MASK)) {
        va = (uint32_t)va;
    }
    gpa = sev_tcg_translate(env, va & ~(target_ulong)(SEV_PAGE_SIZE - 1),
                            &encrypted, ra);
    op.memory = sev_tcg_memory_at(env_cpu(env), gpa, &op.page);
    op.page = op.memory == SEV_MEMORY_DRAM ? sev_tcg_nested(op.page) : 0;
    op.access = (SevRmpAccess) {
        .gfn = gpa >> SEV_PAGE_BITS, .asid = SEV_ASID, .vmpl = env->sev.vmpl,
    };
    return op;
}

/*
 * The host handles what it can of the nested page fault: it gives the guest the
 * page, or splits the entry.  True if the instruction is to be tried again.
 */
static bool host_resolves(CPUX86State *env, const Operand *op,
                          SevRmpCheck fault)
{
    CPUState *cs = env_cpu(env);

    if (op->page != sev_tcg_page_of(op->access.gfn)) {
        return false;           /* the host has mapped something else there */
    }
    if (fault == SEV_RMP_SIZE) {
        return sev_tcg_change_page(cs, op->access.gfn, SEV_PAGE_SMASH, false);
    }
    if (fault == SEV_RMP_ASSIGNED && !sev_snp_tcg_guest()->strict) {
        sev_tcg_count(implicit_private);
        return sev_tcg_change_page(cs, op->access.gfn, SEV_PAGE_PRIVATE,
                                   false);
    }
    return false;
}

static G_NORETURN void give_up(CPUX86State *env, const Operand *op,
                               SevRmpCheck fault, uintptr_t ra)
{
    env->sev.fault = (SevFault) {
        .gpa = op->access.gfn << SEV_PAGE_BITS, .check = fault,
        .vc = fault == SEV_RMP_VALIDATED ? SEV_VC_UNVALIDATED : 0,
    };
    sev_tcg_raise_fault(env_cpu(env), ra);
}

void helper_sev_pvalidate(CPUX86State *env)
{
    Operand op = operand(env, GETPC());
    bool validate = env->regs[R_EDX] & 1, unchanged = false, again = true;
    SevRmpCheck fault = SEV_RMP_PASS;
    int eax = SEV_RMP_FAIL_INPUT;

    sev_tcg_count(pvalidate);
    if (op.memory != SEV_MEMORY_DRAM) {
        finish(env, SEV_RMP_FAIL_INPUT, false);
        return;
    }
    while (again) {
        sev_tcg_rmp_lock();
        eax = sev_rmp_validate(&sev_tcg_rmp, op.page, &op.access, op.large,
                               validate, &unchanged, &fault);
        sev_tcg_rmp_unlock();
        again = fault != SEV_RMP_PASS && host_resolves(env, &op, fault);
    }
    if (fault != SEV_RMP_PASS) {
        give_up(env, &op, fault, GETPC());
    }
    if (!validate && !unchanged) {
        /* What is not validated yet is in no TLB. */
        sev_tcg_flush(env_cpu(env));
    }
    finish(env, eax, unchanged);
}

void helper_sev_rmpadjust(CPUX86State *env)
{
    Operand op = operand(env, GETPC());
    uint64_t attributes = env->regs[R_EDX];
    SevRmpCheck fault = SEV_RMP_PASS;
    bool again = true;
    int eax = SEV_RMP_FAIL_INPUT;

    sev_tcg_count(rmpadjust);
    if (op.memory != SEV_MEMORY_DRAM) {
        finish(env, SEV_RMP_FAIL_INPUT, false);
        return;
    }
    while (again) {
        sev_tcg_rmp_lock();
        if (!op.large && sev_tcg_rmp.entries[op.page & ~511ull].large) {
            /* As PVALIDATE: the host splits the entry. */
            fault = SEV_RMP_SIZE;
        } else {
            eax = sev_rmp_adjust(&sev_tcg_rmp, op.page, &op.access, op.large,
                                 attributes & 0xff, attributes >> 8,
                                 attributes >> 16 & 1, &fault);
        }
        sev_tcg_rmp_unlock();
        again = fault != SEV_RMP_PASS && host_resolves(env, &op, fault);
    }
    if (fault != SEV_RMP_PASS) {
        give_up(env, &op, fault, GETPC());
    }
    sev_tcg_flush(env_cpu(env));
    finish(env, eax, false);
}
