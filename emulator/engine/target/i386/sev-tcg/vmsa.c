/*
 * SEV-ES and SEV-SNP: save areas, and how vCPUs start
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Layout: APM volume 2, table B-4 (VMSA).
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "cpu.h"
#include "exec/cputlb.h"
#include "exec/soc-cache.h"
#include "hw/i386/apic.h"
#include "hw/i386/apic_internal.h"
#include "tcg/helper-tcg.h"
#include "internal.h"

#define VMSA_CPL 0x0cb
#define VMSA_VMPL 0x0ca
#define VMSA_EFER 0x0d0
#define VMSA_XSS 0x140
#define VMSA_CR4 0x148
#define VMSA_CR3 0x150
#define VMSA_CR0 0x158
#define VMSA_DR7 0x160
#define VMSA_DR6 0x168
#define VMSA_RFLAGS 0x170
#define VMSA_RIP 0x178
#define VMSA_DR0 0x180
#define VMSA_RSP 0x1d8
#define VMSA_RAX 0x1f8
#define VMSA_CR2 0x240
#define VMSA_PAT 0x268
#define VMSA_RDX 0x310
#define VMSA_FEATURES 0x3b0
#define VMSA_XCR0 0x3e8
#define VMSA_MXCSR 0x408
#define VMSA_FCW 0x410
#define VMSA_XMM0 0x470

#define BREAKPOINTS 4

#define MSR_EFER_SVME_BIT (1ull << 12)

/* Selector (2 bytes), attributes (2), limit (4), base (8). */
static const struct { unsigned offset; int segment; } segments[] = {
    { 0x00, R_ES }, { 0x10, R_CS }, { 0x20, R_SS },
    { 0x30, R_DS }, { 0x40, R_FS }, { 0x50, R_GS },
};

static const struct { unsigned offset; int reg; } registers[] = {
    { VMSA_RAX, R_EAX }, { 0x308, R_ECX }, { VMSA_RDX, R_EDX },
    { 0x318, R_EBX }, { VMSA_RSP, R_ESP }, { 0x328, R_EBP },
    { 0x330, R_ESI }, { 0x338, R_EDI }, { 0x340, R_R8 }, { 0x348, R_R9 },
    { 0x350, R_R10 }, { 0x358, R_R11 }, { 0x360, R_R12 }, { 0x368, R_R13 },
    { 0x370, R_R14 }, { 0x378, R_R15 },
};

static const struct { unsigned offset; size_t field; } words[] = {
#define WORD(offset, field) { offset, offsetof(CPUX86State, field) }
    WORD(VMSA_XSS, xss), WORD(VMSA_DR7, dr[7]), WORD(VMSA_DR6, dr[6]),
    WORD(VMSA_RIP, eip), WORD(0x200, star), WORD(0x208, lstar),
    WORD(0x210, cstar), WORD(0x218, fmask), WORD(0x220, kernelgsbase),
    WORD(0x230, sysenter_esp), WORD(0x238, sysenter_eip),
    WORD(VMSA_CR2, cr[2]), WORD(VMSA_PAT, pat), WORD(VMSA_XCR0, xcr0),
#undef WORD
};

static uint64_t *word(CPUX86State *env, size_t field)
{
    return (uint64_t *)((char *)env + field);
}

static bool swaps_debug(void)
{
    return sev_tcg_features() & SEV_FEATURES_DEBUG_SWAP;
}

/* ---- writing ---- */

static void put_segment(uint8_t *p, const SegmentCache *s)
{
    stw_le_p(p, s->selector);
    stw_le_p(p + 2, (s->flags >> 8 & 0xff) | (s->flags >> 12 & 0xf00));
    stl_le_p(p + 4, s->limit);
    stq_le_p(p + 8, s->base);
}

void sev_tcg_vmsa_save(CPUX86State *env, uint8_t *page)
{
    memset(page, 0, SEV_PAGE_SIZE);
    for (int i = 0; i < ARRAY_SIZE(segments); i++) {
        put_segment(page + segments[i].offset, &env->segs[segments[i].segment]);
    }
    put_segment(page + 0x60, &env->gdt);
    put_segment(page + 0x70, &env->ldt);
    put_segment(page + 0x80, &env->idt);
    put_segment(page + 0x90, &env->tr);
    for (int i = 0; i < ARRAY_SIZE(registers); i++) {
        stq_le_p(page + registers[i].offset, env->regs[registers[i].reg]);
    }
    for (int i = 0; i < ARRAY_SIZE(words); i++) {
        stq_le_p(page + words[i].offset, *word(env, words[i].field));
    }
    for (int i = 0; i < 16; i++) {
        memcpy(page + VMSA_XMM0 + 16 * i, &env->xmm_regs[i], 16);
    }
    page[VMSA_CPL] = env->hflags & HF_CPL_MASK;
    page[VMSA_VMPL] = env->sev.vmpl;
    stq_le_p(page + VMSA_EFER, env->efer | MSR_EFER_SVME_BIT);
    stq_le_p(page + VMSA_CR4, env->cr[4]);
    stq_le_p(page + VMSA_CR3, env->cr[3]);
    stq_le_p(page + VMSA_CR0, env->cr[0]);
    stq_le_p(page + VMSA_RFLAGS, cpu_compute_eflags(env));
    stl_le_p(page + VMSA_MXCSR, env->mxcsr);
    stw_le_p(page + VMSA_FCW, env->fpuc);
    stq_le_p(page + VMSA_FEATURES, sev_tcg_features());
    for (int i = 0; swaps_debug() && i < BREAKPOINTS; i++) {
        stq_le_p(page + VMSA_DR0 + 8 * i, env->dr[i]);
    }
}

static void put_reset_segment(uint8_t *p, uint16_t selector,
                              uint16_t attributes, uint64_t base)
{
    stw_le_p(p, selector);
    stw_le_p(p + 2, attributes);
    stl_le_p(p + 4, 0xffff);
    stq_le_p(p + 8, base);
}

/* The state after INIT as KVM gives it to the firmware: it is measured. */
void sev_tcg_vmsa_reset(CPUX86State *env, uint8_t *page, uint32_t eip)
{
    static const struct { unsigned offset; uint64_t value; } reset[] = {
        { VMSA_EFER, MSR_EFER_SVME_BIT }, { VMSA_CR4, CR4_MCE_MASK },
        { VMSA_CR0, CR0_ET_MASK }, { VMSA_DR7, DR7_FIXED_1 },
        { VMSA_DR6, DR6_FIXED_1 }, { VMSA_RFLAGS, 2 },
        { VMSA_PAT, 0x0007040600070406 }, { VMSA_XCR0, XSTATE_FP_MASK },
    };

    memset(page, 0, SEV_PAGE_SIZE);
    for (int i = 0; i < ARRAY_SIZE(segments); i++) {
        put_reset_segment(page + segments[i].offset, 0, 0x93, 0);
    }
    put_reset_segment(page + 0x10, 0xf000, 0x9b, eip & 0xffff0000);
    put_reset_segment(page + 0x60, 0, 0, 0);
    put_reset_segment(page + 0x70, 0, 0x82, 0);
    put_reset_segment(page + 0x80, 0, 0, 0);
    put_reset_segment(page + 0x90, 0, 0x8b, 0);
    for (int i = 0; i < ARRAY_SIZE(reset); i++) {
        stq_le_p(page + reset[i].offset, reset[i].value);
    }
    stq_le_p(page + VMSA_RIP, eip & 0xffff);
    stq_le_p(page + VMSA_RDX, env->cpuid_version);
    stl_le_p(page + VMSA_MXCSR, 0x1f80);
    stw_le_p(page + VMSA_FCW, 0x37f);
    stq_le_p(page + VMSA_FEATURES, sev_tcg_features());
}

/* ---- reading ---- */

static void get_segment(CPUX86State *env, int segment, const uint8_t *p)
{
    unsigned attributes = lduw_le_p(p + 2);

    cpu_x86_load_seg_cache(env, segment, lduw_le_p(p), ldq_le_p(p + 8),
                           ldl_le_p(p + 4),
                           (attributes & 0xff) << 8 |
                           (attributes & 0xf00) << 12);
}

static void get_table(SegmentCache *s, const uint8_t *p)
{
    unsigned attributes = lduw_le_p(p + 2);

    s->selector = lduw_le_p(p);
    s->flags = (attributes & 0xff) << 8 | (attributes & 0xf00) << 12;
    s->limit = ldl_le_p(p + 4);
    s->base = ldq_le_p(p + 8);
}

/* Without debug swap the host keeps the breakpoints: none takes effect. */
static void load_breakpoints(CPUX86State *env, const uint8_t *page)
{
    uint64_t dr7 = env->dr[7];

    for (int i = 0; i < BREAKPOINTS; i++) {
        env->dr[i] = ldq_le_p(page + VMSA_DR0 + 8 * i);
    }
    env->dr[7] = DR7_FIXED_1;
    cpu_x86_update_dr7(env, dr7);
}

/* VMRUN's part of it; the vCPU has been reset. */
void sev_tcg_vmsa_load(CPUX86State *env, const uint8_t *page)
{
    for (int i = 0; i < ARRAY_SIZE(words); i++) {
        *word(env, words[i].field) = ldq_le_p(page + words[i].offset);
    }
    for (int i = 0; i < ARRAY_SIZE(registers); i++) {
        env->regs[registers[i].reg] = ldq_le_p(page + registers[i].offset);
    }
    for (int i = 0; i < 16; i++) {
        memcpy(&env->xmm_regs[i], page + VMSA_XMM0 + 16 * i, 16);
    }
    cpu_load_efer(env, ldq_le_p(page + VMSA_EFER) & ~MSR_EFER_SVME_BIT);
    cpu_x86_update_cr4(env, ldq_le_p(page + VMSA_CR4));
    cpu_x86_update_cr3(env, ldq_le_p(page + VMSA_CR3));
    cpu_x86_update_cr0(env, ldq_le_p(page + VMSA_CR0));
    cpu_load_eflags(env, ldq_le_p(page + VMSA_RFLAGS),
                    ~(CC_O | CC_S | CC_Z | CC_A | CC_P | CC_C | DF_MASK));
    for (int i = 0; i < ARRAY_SIZE(segments); i++) {
        get_segment(env, segments[i].segment, page + segments[i].offset);
    }
    get_table(&env->gdt, page + 0x60);
    get_table(&env->ldt, page + 0x70);
    get_table(&env->idt, page + 0x80);
    get_table(&env->tr, page + 0x90);
    cpu_set_mxcsr(env, ldl_le_p(page + VMSA_MXCSR));
    cpu_set_fpuc(env, lduw_le_p(page + VMSA_FCW));
    cpu_sync_avx_hflag(env);
    if (swaps_debug()) {
        load_breakpoints(env, page);
    }
    env->sev.vmpl = page[VMSA_VMPL] % SEV_VMPLS;
    tlb_flush(env_cpu(env));
}

/* ---- starting vCPUs ---- */

static bool read_vmsa(CPUState *cs, uint64_t gpa, uint8_t *buf)
{
    uint64_t page, gfn;
    SevRmpEntry entry;

    if (sev_tcg_memory_at(cs, gpa, &page) != SEV_MEMORY_DRAM) {
        return false;
    }
    page = sev_tcg_nested(page);
    sev_tcg_rmp_lock();
    entry = *sev_rmp_lookup(&sev_tcg_rmp, page, &gfn);
    sev_tcg_rmp_unlock();
    if (!entry.assigned || !entry.validated || !entry.vmsa || entry.immutable ||
        gfn != gpa >> SEV_PAGE_BITS) {
        return false;
    }
    soc_cache_read_page(page, buf);
    return true;
}

static void stay_out(CPUState *cs)
{
    CPUX86State *env = cpu_env(cs);

    cs->halted = 1;
    cs->exception_index = -1;
    env->eflags &= ~IF_MASK;
    env->hflags2 |= HF2_NMI_MASK;
    env->sev.hold = SEV_HOLD_DESTROYED;
}

/* Runs on the vCPU: VMRUN with the save area at @data. */
static void start_vcpu(CPUState *cs, run_on_cpu_data data)
{
    CPUX86State *env = cpu_env(cs);
    g_autofree uint8_t *buf = g_malloc(SEV_PAGE_SIZE);

    if (!read_vmsa(cs, data.target_ptr, buf)) {
        error_report("SEV-SNP: vCPU %d cannot start: no save area at %#" PRIx64,
                     cs->cpu_index, (uint64_t)data.target_ptr);
        stay_out(cs);
        return;
    }
    env->sev.host_call = true;
    do_cpu_init(X86_CPU(cs));
    env->sev.host_call = false;
    cs->interrupt_request = 0;
    sev_tcg_vmsa_load(env, buf);
    explicit_bzero(buf, SEV_PAGE_SIZE);
    env->sev.hold = SEV_HOLD_NONE;
    env->sev.started = true;
    cs->halted = 0;
    cs->exception_index = -1;
}

static void destroy_vcpu(CPUState *cs, run_on_cpu_data data)
{
    stay_out(cs);
}

static CPUState *vcpu_of(uint32_t apic_id)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (X86_CPU(cs)->apic_id == apic_id) {
            return cs;
        }
    }
    return NULL;
}

bool sev_tcg_create_vcpu(CPUX86State *env, uint64_t info, uint64_t vmsa_gpa,
                         uint64_t features)
{
    enum { ON_INIT, NOW, DESTROY };
    uint32_t request = info;
    CPUState *cs = vcpu_of(info >> 32);

    if (!cs || request > DESTROY) {
        return false;
    }
    if (request == DESTROY) {
        async_run_on_cpu(cs, destroy_vcpu, RUN_ON_CPU_NULL);
        return true;
    }
    if (features != sev_tcg_features() || vmsa_gpa % SEV_PAGE_SIZE ||
        vmsa_gpa % (SEV_PAGE_SIZE * SEV_RMP_LARGE_PAGES) == 0) {
        return false;           /* 2 MiB aligned: erratum, as KVM */
    }
    if (request == ON_INIT) {
        cpu_env(cs)->sev.init_vmsa = vmsa_gpa;
    } else {
        async_run_on_cpu(cs, start_vcpu, RUN_ON_CPU_TARGET_PTR(vmsa_gpa));
    }
    return true;
}

/* ---- INIT, SIPI and the AP reset hold ---- */

void sev_tcg_hold(CPUX86State *env, SevHold hold, uint64_t ghcb_gpa)
{
    CPUState *cs = env_cpu(env);

    env->sev.hold = hold;
    env->sev.hold_ghcb = ghcb_gpa;
    cs->halted = 1;             /* helper_sev_vmgexit leaves the loop */
}

/*
 * The guest's registers are not the host's to reset.  Only what belongs to the
 * interrupt controller happens.
 */
bool sev_tcg_init_vcpu(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    CPUState *cs = CPU(cpu);

    if (sev_tcg_level < SEV_TCG_ES || env->sev.host_call) {
        return false;
    }
    cs->interrupt_request &= CPU_INTERRUPT_SIPI;
    apic_init_reset(cpu->apic_state);
    if (env->sev.init_vmsa) {
        async_run_on_cpu(cs, start_vcpu,
                         RUN_ON_CPU_TARGET_PTR(env->sev.init_vmsa));
        env->sev.init_vmsa = 0;
    }
    return true;
}

/* What VMGEXIT hands to a vCPU that a SIPI wakes. */
static void answer_hold(CPUX86State *env)
{
    uint64_t page, gpa = env->sev.hold_ghcb;
    uint8_t *ghcb;

    if (env->sev.hold == SEV_HOLD_MSR) {
        env->sev.ghcb_msr = 1ull << 12 | 0x007;
    } else if (env->sev.hold == SEV_HOLD_PAGE &&
               sev_tcg_is_shared(env_cpu(env), gpa, &page)) {
        ghcb = sev_tcg_host_page(page);
        soc_cache_before_device_write(ghcb, SEV_PAGE_SIZE);
        stq_le_p(ghcb + 0x3a0, 1);
        ghcb[0x3f0 + 0x3a0 / 64] |= 1 << (0x3a0 / 8 % 8);
    }
}

bool sev_tcg_sipi_vcpu(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    APICCommonState *apic;

    if (sev_tcg_level < SEV_TCG_ES) {
        return false;
    }
    apic = APIC_COMMON(cpu->apic_state);
    if (env->sev.hold == SEV_HOLD_DESTROYED || !apic->wait_for_sipi) {
        return true;
    }
    apic->wait_for_sipi = 0;
    answer_hold(env);
    env->sev.hold = SEV_HOLD_NONE;
    env->sev.started = true;
    CPU(cpu)->halted = 0;
    return true;
}
