/*
 * SEV-ES and SEV-SNP for guests that TCG runs: hooks for the rest of QEMU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef I386_SEV_TCG_H
#define I386_SEV_TCG_H

#include "cpu.h"
#include "exec/cpu-common.h"

typedef enum SevTcgLevel {
    SEV_TCG_PLAIN,          /* no SEV, or SEV: registers open to the host */
    SEV_TCG_ES,
    SEV_TCG_SNP,
} SevTcgLevel;

#define MSR_AMD64_SEV_ES_GHCB 0xc0010130

#define EXCP1D_VC 29
/* Not an exception of the guest's: a page walk met a page that it may not. */
#define EXCP_SEV_WALK 0x10100

#ifdef CONFIG_USER_ONLY
#define sev_tcg_level SEV_TCG_PLAIN
#else
extern SevTcgLevel sev_tcg_level;
#endif

/* Is this SVM exit one that the host intercepts, so that it ends in #VC? */
bool sev_tcg_intercepts(uint32_t exit_code);

/* What the host answers to CPUID: the truth, or what x-sev-host-cpuid says. */
#ifdef CONFIG_USER_ONLY
#define sev_tcg_cpuid cpu_x86_cpuid
#else
void sev_tcg_cpuid(CPUX86State *env, uint32_t function, uint32_t index,
                   uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx);
#endif

/* Raise #VC if the host intercepts; may not return. */
void sev_tcg_check_intercept(CPUX86State *env, uint32_t exit_code,
                             uintptr_t ra);

/*
 * A TLB entry is about to be made: may the guest have it?  Takes rights away
 * from @full.  If not, the reason is kept for sev_tcg_raise_fault().
 */
bool sev_tcg_check_fill(CPUState *cs, CPUTLBEntryFull *full,
                        MMUAccessType type, int mmu_idx);
G_NORETURN void sev_tcg_raise_fault(CPUState *cs, uintptr_t ra);

/*
 * Guest-physical address of @va as the guest's own tables have it (defined in
 * excp_helper.c).  Raises the guest's page fault.
 */
hwaddr sev_tcg_translate(CPUX86State *env, vaddr va, bool *encrypted,
                         uintptr_t ra);

/* INIT and SIPI; true if they are done with. */
bool sev_tcg_init_vcpu(X86CPU *cpu);
bool sev_tcg_sipi_vcpu(X86CPU *cpu);

#endif /* I386_SEV_TCG_H */
