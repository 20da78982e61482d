/*
 * A bare SEV-ES guest that tries each event, and says what it got
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One line each: "ok NAME" or "WRONG NAME: got X, expected Y"; then "done N".
 */
#include "machine.h"

#define VC 29
#define NONE 0xffff
#define UD 6

/* Error codes in exit information 2 of a malformed exit. */
#define MALFORMED 2
#define INVALID_USAGE 2
#define INVALID_SCRATCH 3
#define MISSING_INPUT 4
#define INVALID_EVENT 6

#define TARGET 0x1c0000ul           /* a 4 KiB page of ours */

static unsigned done;

/* Printing uses the GHCB: look into it before the first check. */
static void check(const char *name, u64 got, u64 expected)
{
    done++;
    if (got == expected) {
        put("ok ");
        put(name);
    } else {
        put("WRONG ");
        put(name);
        put(": got ");
        put_hex(got);
        put(", expected ");
        put_hex(expected);
    }
    put("\n");
}

/* Run an instruction; what exception it raised: vector << 32 | error code. */
#define RAISED(instruction, outputs, ...) ({                                \
    trap.vector = NONE;                                                     \
    trap.error = 0;                                                         \
    asm volatile("lea 1f(%%rip), %%r11; mov %%r11, trap(%%rip)\n"           \
                 instruction "\n1:"                                         \
                 : outputs : __VA_ARGS__ : "r11", "cc", "memory");          \
    trap.vector << 32 | trap.error; })
#define VC_CODE(code) ((u64)VC << 32 | (code))
#define NOTHING ((u64)NONE << 32)
#define COMMA ,
#define ASK(a, c, d) "a"(a), "c"(c), "d"(d)

static void test_intercepts(void)
{
    u32 a, b, c, d;
    u64 wide;

    check("vc cpuid", RAISED("cpuid", "=a"(a) COMMA "=b"(b) COMMA "=c"(c) COMMA "=d"(d), "a"(0), "c"(0)), VC_CODE(0x72));
    check("vc rdmsr", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_APIC_BASE)), VC_CODE(0x7c));
    check("vc wrmsr", RAISED("wrmsr", , ASK(0, MSR_APIC_BASE, 0)), VC_CODE(0x7c));
    check("vc in", RAISED("inb %%dx, %%al", "=a"(a), "d"(0x80)), VC_CODE(0x7b));
    check("vc out", RAISED("outb %%al, %%dx", , "a"(0), "d"(0x80)), VC_CODE(0x7b));
    check("vc in immediate", RAISED("inl $0x80, %%eax", "=a"(a), "d"(0)), VC_CODE(0x7b));
    check("vc wbinvd", RAISED("wbinvd", , "a"(0)), VC_CODE(0x89));
    check("vc invd", RAISED("invd", , "a"(0)), VC_CODE(0x76));
    check("vc rdpmc", RAISED("rdpmc", "=a"(a) COMMA "=d"(d), "c"(0)), VC_CODE(0x6f));
    check("vc vmmcall", RAISED("vmmcall", , "a"(0)), VC_CODE(0x81));
    check("vc read dr7", RAISED("mov %%dr7, %0", "=r"(wide), "a"(0)), VC_CODE(0x27));
    check("vc write dr7", RAISED("mov %0, %%dr7", , "r"(0x400ul)), VC_CODE(0x37));
    check("vc mmio read", RAISED("mov (%1), %0", "=r"(a), "r"(0xfee00030ul + SHARED_ALIAS)), VC_CODE(0x400));
    check("vc mmio write", RAISED("mov %%eax, (%1)", , "a"(0), "r"(0xfee000b0ul + SHARED_ALIAS)), VC_CODE(0x400));
}

static void test_not_intercepted(void)
{
    u32 a, c, d;

    check("no vc rdmsr efer", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_EFER)), NOTHING);
    check("no vc rdmsr sev status", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_SEV_STATUS)), NOTHING);
    check("no vc rdmsr ghcb", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_GHCB)), NOTHING);
    check("no vc rdtsc", RAISED("rdtsc", "=a"(a) COMMA "=d"(d), "c"(0)), NOTHING);
    check("no vc cr4", RAISED("mov %%cr4, %%rax; mov %%rax, %%cr4", "=a"(a), "c"(0)), NOTHING);
    check("no vc dr6", RAISED("mov %%dr6, %%rax", "=a"(a), "c"(0)), NOTHING);
    check("ud is ud", RAISED("ud2", "=c"(c), "a"(0)), (u64)UD << 32);
}

static void test_msr_protocol(void)
{
    u64 answer = msr_protocol(0x002);

    check("msr info: code", answer & 0xfff, 0x001);
    check("msr info: c-bit", answer >> 24 & 0xff, 51);
    check("msr info: versions", answer >> 48 >= 2 && (answer >> 32 & 0xffff) <= 2, true);
    check("msr cpuid: code", msr_protocol(0x8000001ful << 32 | 1ul << 30 | 0x004) & 0xfff, 0x005);
    check("msr cpuid: ebx", msr_protocol(0x8000001ful << 32 | 1ul << 30 | 0x004) >> 32 & 0x3f, 51);
}

/* The answer to an exit: exit information 1, and 2 above it if it says more. */
static u64 outcome(void)
{
    u64 first = ghcb_result();

    return first ? ghcb_get(GHCB_INFO_2) << 8 | first : 0;
}

static u64 bad(u64 reason)
{
    return reason << 8 | MALFORMED;
}

static void test_page_cpuid(void)
{
    bool answers;
    u64 leaf;

    ghcb_clear();
    ghcb_set(GHCB_RAX, 0x80000000);
    ghcb_set(GHCB_RCX, 0);
    ghcb_exit(EXIT_CPUID, 0, 0);
    answers = ghcb_valid(GHCB_RAX) && ghcb_valid(GHCB_RBX) &&
              ghcb_valid(GHCB_RCX) && ghcb_valid(GHCB_RDX);
    leaf = ghcb_get(GHCB_RAX);
    check("page cpuid", outcome(), 0);
    check("page cpuid: answers", answers, true);
    check("page cpuid: leaf", leaf >= 0x8000001f, true);
    ghcb_clear();
    ghcb_set(GHCB_RCX, 0);
    ghcb_exit(EXIT_CPUID, 0, 0);
    check("page cpuid without rax", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_RAX, 0xd);
    ghcb_set(GHCB_RCX, 0);
    ghcb_exit(EXIT_CPUID, 0, 0);
    check("page cpuid leaf d without xcr0", outcome(), bad(MISSING_INPUT));
}

static void test_page_msr(void)
{
    u64 value;

    ghcb_clear();
    ghcb_set(GHCB_RCX, MSR_APIC_BASE);
    ghcb_exit(EXIT_MSR, 0, 0);
    value = ghcb_get(GHCB_RAX);
    check("page rdmsr", outcome(), 0);
    check("page rdmsr: apic base", value & 0xfffff000, 0xfee00000);
    ghcb_clear();
    ghcb_set(GHCB_RCX, MSR_APIC_BASE);
    ghcb_set(GHCB_RAX, 0xffffffff);
    ghcb_set(GHCB_RDX, 0xffffffff);
    ghcb_exit(EXIT_MSR, 1, 0);
    value = ghcb_get(GHCB_INFO_2);
    check("page wrmsr of reserved bits", ghcb_result() <= 1, true);
    check("page wrmsr of reserved bits: #GP", value == 0 || value == 0x80000b0d, true);
    ghcb_clear();
    ghcb_exit(EXIT_MSR, 0, 0);
    check("page rdmsr without rcx", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_RCX, MSR_APIC_BASE);
    ghcb_set(GHCB_RAX, 0);
    ghcb_exit(EXIT_MSR, 1, 0);
    check("page wrmsr without rdx", outcome(), bad(MISSING_INPUT));
}

#define IO_IN 1
#define IO_STRING (1 << 2)
#define IO_REP (1 << 3)
#define IO_8 (1 << 4)
#define IO_A64 (1 << 9)

static u64 io_info(u16 port, u32 bits)
{
    return (u64)port << 16 | IO_A64 | bits;
}

static void test_page_io(void)
{
    const char text[] = "string\n";
    u64 value;

    ghcb_clear();
    ghcb_exit(EXIT_IOIO, io_info(CONSOLE_PORT, IO_8), 0);
    check("page out without rax", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_RAX, 0);
    ghcb_exit(EXIT_IOIO, io_info(CONSOLE_PORT, IO_8 | IO_IN), 0);
    value = ghcb_get(GHCB_RAX);
    check("page in", outcome(), 0);
    check("page in: debug console", value & 0xff, 0xe9);
    ghcb_clear();
    for (unsigned i = 0; i < sizeof(text) - 1; i++) {
        ghcb()[GHCB_BUFFER + i] = text[i];
    }
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    ghcb_exit(EXIT_IOIO, io_info(CONSOLE_PORT, IO_8 | IO_STRING | IO_REP), sizeof(text) - 1);
    check("page out string", outcome(), 0);
    ghcb_clear();
    ghcb_exit(EXIT_IOIO, io_info(CONSOLE_PORT, IO_8 | IO_STRING | IO_REP), 4);
    check("page out string without scratch", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER + GHCB_BUFFER_SIZE - 2);
    ghcb_exit(EXIT_IOIO, io_info(CONSOLE_PORT, IO_8 | IO_STRING | IO_REP), 4);
    check("page out string over the end", outcome(), bad(INVALID_SCRATCH));
}

static void test_page_mmio(void)
{
    u32 value;

    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    ghcb_exit(EXIT_MMIO_READ, 0xfee00030, 4);
    value = *(volatile u32 *)(ghcb() + GHCB_BUFFER);
    check("page mmio read", outcome(), 0);
    check("page mmio read: apic version", value & 0xff, 0x14);
    ghcb_clear();
    ghcb_exit(EXIT_MMIO_READ, 0xfee00030, 4);
    check("page mmio without scratch", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    /* As in KVM any memory will do. */
    ghcb_set(GHCB_SCRATCH, TARGET);
    ghcb_exit(EXIT_MMIO_READ, 0xfee00030, 4);
    check("page mmio, scratch in a private page", outcome(), 0);
}

static void test_page_general(void)
{
    ghcb_clear();
    ghcb_exit(0x12345678, 0, 0);
    check("page unknown event", outcome(), bad(INVALID_EVENT));
    ghcb_clear();
    *(volatile u32 *)(ghcb() + GHCB_USAGE) = 7;
    ghcb_exit(EXIT_CPUID, 0, 0);
    check("page unknown usage", outcome(), bad(INVALID_USAGE));
    ghcb_clear();
    wrmsr(MSR_GHCB, GHCB_GPA);
    vmgexit();
    check("page without exit code", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_exit(0x89, 0, 0);
    check("page wbinvd", outcome(), 0);
    ghcb_clear();
    ghcb_exit(EXIT_PSC, 0, 0);
    check("page state change without SNP", ghcb_result(), MALFORMED);
}

void bare_main(void)
{
    traps_init();
    check("status", rdmsr(MSR_SEV_STATUS), 3);
    test_intercepts();
    test_not_intercepted();
    test_msr_protocol();
    test_page_cpuid();
    test_page_msr();
    test_page_io();
    test_page_mmio();
    test_page_general();
    put("done ");
    put_hex(done);
    put("\n");
    terminate(0x42);
}
