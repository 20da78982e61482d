/*
 * A bare SEV-ES guest that tries each event, and says what it got
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One line each: "ok NAME" or "WRONG NAME: got X, expected Y"; then "done N".
 * DEBUG_SWAP: the vCPUs own their debug registers.
 */
#include "machine.h"

#ifndef DEBUG_SWAP
#define DEBUG_SWAP 0
#endif
#define STATUS (DEBUG_SWAP ? 0x83 : 3)

#define VC 29
#define NONE 0xffff
#define UD 6
#define DB 1

#define DR7_GLOBAL_0 (1 << 1)
#define DR7_FIXED (1 << 10)
#define DR7_WRITES_0 (1 << 16)

#define TARGET 0x1c0000ul           /* two pages of ours */

static unsigned done;

/* Printing uses the GHCB: look into it before the first check. */
static void check(const char *name, uint64_t got, uint64_t expected)
{
    done++;
    if (got == expected) {
        print("ok ");
        print(name);
    } else {
        print("WRONG ");
        print(name);
        print(": got ");
        print_number(got);
        print(", expected ");
        print_number(expected);
    }
    print("\n");
}

/* Run an instruction; what exception it raised: vector << 32 | error code. */
#define RAISED(instruction, outputs, ...) ({                                \
    trap.vector = NONE;                                                     \
    trap.error = 0;                                                         \
    asm volatile("lea 1f(%%rip), %%r11; mov %%r11, trap(%%rip)\n"           \
                 instruction "\n1:"                                         \
                 : outputs : __VA_ARGS__ : "r11", "cc", "memory");          \
    trap.vector << 32 | trap.error; })
#define VC_CODE(code) ((uint64_t)VC << 32 | (code))
#define NOTHING ((uint64_t)NONE << 32)
#define COMMA ,
#define ASK(a, c, d) "a"(a), "c"(c), "d"(d)

static void test_intercepts(void)
{
    uint32_t a, b, c, d;
    uint64_t wide;

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
    check("vc read dr7", RAISED("mov %%dr7, %0", "=r"(wide), "a"(0)), DEBUG_SWAP ? NOTHING : VC_CODE(0x27));
    check("vc write dr7", RAISED("mov %0, %%dr7", , "r"(0x400ul)), DEBUG_SWAP ? NOTHING : VC_CODE(0x37));
    check("vc mmio read", RAISED("mov (%1), %0", "=r"(a), "r"(0xfee00030ul + SHARED_ALIAS)), VC_CODE(0x400));
    check("vc mmio write", RAISED("mov %%eax, (%1)", , "a"(0), "r"(0xfee000b0ul + SHARED_ALIAS)), VC_CODE(0x400));
}

static void test_not_intercepted(void)
{
    uint32_t a, c, d;

    check("no vc rdmsr efer", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_EFER)), NOTHING);
    check("no vc rdmsr sev status", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_SEV_STATUS)), NOTHING);
    check("no vc rdmsr ghcb", RAISED("rdmsr", "=a"(a) COMMA "=d"(d), "c"(MSR_GHCB)), NOTHING);
    check("no vc rdtsc", RAISED("rdtsc", "=a"(a) COMMA "=d"(d), "c"(0)), NOTHING);
    check("no vc cr4", RAISED("mov %%cr4, %%rax; mov %%rax, %%cr4", "=a"(a), "c"(0)), NOTHING);
    check("no vc dr6", RAISED("mov %%dr6, %%rax", "=a"(a), "c"(0)), NOTHING);
    check("ud is ud", RAISED("ud2", "=c"(c), "a"(0)), (uint64_t)UD << 32);
}

/* With debug swap a breakpoint is the guest's own matter. */
static void test_breakpoint(void)
{
    uint64_t all = DR7_FIXED | DR7_GLOBAL_0 | DR7_WRITES_0;
    uint32_t a;

    if (!DEBUG_SWAP) {
        return;
    }
    asm volatile("mov %0, %%dr0; mov %1, %%dr7" : : "r"(TARGET), "r"(all));
    check("breakpoint", RAISED("movl $1, (%1)", "=a"(a), "r"(TARGET)), (uint64_t)DB << 32);
    asm volatile("mov %0, %%dr7" : : "r"((uint64_t)DR7_FIXED));
    check("no breakpoint", RAISED("movl $1, (%1)", "=a"(a), "r"(TARGET)), NOTHING);
}

static void test_msr_protocol(void)
{
    uint64_t answer = ask_msr(0x002);

    check("msr info: code", answer & 0xfff, 0x001);
    check("msr info: c-bit", answer >> 24 & 0xff, 51);
    check("msr info: versions", answer >> 48 >= 2 && (answer >> 32 & 0xffff) <= 2, true);
    check("msr cpuid: code", ask_msr(0x8000001ful << 32 | 1ul << 30 | 0x004) & 0xfff, 0x005);
    check("msr cpuid: ebx", ask_msr(0x8000001ful << 32 | 1ul << 30 | 0x004) >> 32 & 0x3f, 51);
}

/* The answer to an exit: exit information 1, and 2 above it if it says more. */
static uint64_t outcome(void)
{
    uint64_t first = ghcb_result();

    return first ? ghcb_get(GHCB_INFO_2) << 8 | first : 0;
}

static uint64_t bad(uint64_t reason)
{
    return reason << 8 | MALFORMED;
}

static void test_page_cpuid(void)
{
    bool answers;
    uint64_t leaf;

    ghcb_clear();
    ghcb_set(GHCB_RAX, 0x80000000);
    ghcb_set(GHCB_RCX, 0);
    ghcb_leave(EXIT_CPUID, 0, 0);
    answers = ghcb_valid(GHCB_RAX) && ghcb_valid(GHCB_RBX) &&
              ghcb_valid(GHCB_RCX) && ghcb_valid(GHCB_RDX);
    leaf = ghcb_get(GHCB_RAX);
    check("page cpuid", outcome(), 0);
    check("page cpuid: answers", answers, true);
    check("page cpuid: leaf", leaf >= 0x8000001f, true);
    ghcb_clear();
    ghcb_set(GHCB_RCX, 0);
    ghcb_leave(EXIT_CPUID, 0, 0);
    check("page cpuid without rax", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_RAX, 0xd);
    ghcb_set(GHCB_RCX, 0);
    ghcb_leave(EXIT_CPUID, 0, 0);
    check("page cpuid leaf d without xcr0", outcome(), bad(MISSING_INPUT));
}

static void test_page_msr(void)
{
    uint64_t value;

    ghcb_clear();
    ghcb_set(GHCB_RCX, MSR_APIC_BASE);
    ghcb_leave(EXIT_MSR, 0, 0);
    value = ghcb_get(GHCB_RAX);
    check("page rdmsr", outcome(), 0);
    check("page rdmsr: apic base", value & 0xfffff000, 0xfee00000);
    ghcb_clear();
    ghcb_set(GHCB_RCX, MSR_APIC_BASE);
    ghcb_set(GHCB_RAX, 0xffffffff);
    ghcb_set(GHCB_RDX, 0xffffffff);
    ghcb_leave(EXIT_MSR, 1, 0);
    value = ghcb_get(GHCB_INFO_2);
    check("page wrmsr of reserved bits", ghcb_result() <= 1, true);
    check("page wrmsr of reserved bits: #GP", value == 0 || value == 0x80000b0d, true);
    ghcb_clear();
    ghcb_leave(EXIT_MSR, 0, 0);
    check("page rdmsr without rcx", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_RCX, MSR_APIC_BASE);
    ghcb_set(GHCB_RAX, 0);
    ghcb_leave(EXIT_MSR, 1, 0);
    check("page wrmsr without rdx", outcome(), bad(MISSING_INPUT));
}

static void test_page_io(void)
{
    const char text[] = "string\n";
    uint64_t value;

    ghcb_clear();
    ghcb_leave(EXIT_IOIO, IO(DEBUG_PORT, IO_8), 0);
    check("page out without rax", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_RAX, 0);
    ghcb_leave(EXIT_IOIO, IO(DEBUG_PORT, IO_8 | IO_IN), 0);
    value = ghcb_get(GHCB_RAX);
    check("page in", outcome(), 0);
    check("page in: debug console", value & 0xff, 0xe9);
    ghcb_clear();
    for (unsigned i = 0; i < sizeof(text) - 1; i++) {
        ghcb()[GHCB_BUFFER + i] = text[i];
    }
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    ghcb_leave(EXIT_IOIO, IO(DEBUG_PORT, IO_8 | IO_STRING | IO_REP), sizeof(text) - 1);
    check("page out string", outcome(), 0);
    ghcb_clear();
    ghcb_leave(EXIT_IOIO, IO(DEBUG_PORT, IO_8 | IO_STRING | IO_REP), 4);
    check("page out string without scratch", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER + GHCB_BUFFER_SIZE - 2);
    ghcb_leave(EXIT_IOIO, IO(DEBUG_PORT, IO_8 | IO_STRING | IO_REP), 4);
    check("page out string over the end", outcome(), bad(INVALID_SCRATCH));
}

static void test_page_mmio(void)
{
    uint32_t value;

    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    ghcb_leave(EXIT_MMIO_READ, 0xfee00030, 4);
    value = *(volatile uint32_t *)(ghcb() + GHCB_BUFFER);
    check("page mmio read", outcome(), 0);
    check("page mmio read: apic version", value & 0xff, 0x14);
    ghcb_clear();
    ghcb_leave(EXIT_MMIO_READ, 0xfee00030, 4);
    check("page mmio without scratch", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    /* As in KVM any memory will do. */
    ghcb_set(GHCB_SCRATCH, TARGET);
    ghcb_leave(EXIT_MMIO_READ, 0xfee00030, 4);
    check("page mmio, scratch in a private page", outcome(), 0);
}

static void test_jump_table(void)
{
    ghcb_clear();
    ghcb_leave(EXIT_JUMP_TABLE, 0, TARGET);
    check("page jump table: set", outcome(), 0);
    ghcb_clear();
    ghcb_leave(EXIT_JUMP_TABLE, 1, 0);
    check("page jump table: get", ghcb_get(GHCB_INFO_2), TARGET);
    ghcb_clear();
    ghcb_leave(EXIT_JUMP_TABLE, 2, 0);
    check("page jump table: neither", outcome(), bad(INVALID_INPUT));
}

/* Neither SEV-SNP's events nor what no feature bit announces. */
static void test_events_not_offered(void)
{
    for (uint32_t code = EXIT_PAGE_STATE; code <= EXIT_RUN_VMPL; code++) {
        ghcb_clear();
        ghcb_set(GHCB_RAX, 1);
        ghcb_leave(code, 0, 0);
        if (outcome() != bad(INVALID_EVENT)) {
            check("page event that is not offered", code, 0);
        }
    }
    check("page events that are not offered", outcome(), bad(INVALID_EVENT));
    ghcb_clear();
    ghcb_leave(EXIT_HV_FEATURES, 0, 0);
    check("page features: none", ghcb_get(GHCB_INFO_2), 0);
    check("msr features: none", ask_msr(ASK_FEATURES), 0x081);
}

/* ---- a device that stores eight bytes over the end of a page ---- */

#define DISK 5                      /* a MegaRAID controller's slot */
#define DISK_PORT 0xc000
#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA 0xcfc
#define FRAME 0x1d0000ul            /* shared, for the device */
#define QUEUE_INFO (FRAME + 0x100)
#define INDICES (FRAME + 0x200)     /* producer and consumer */
#define REPLY_QUEUE (TARGET + PAGE - 4)
#define CONTEXT 0x1122334455667788ul
#define INBOUND_QUEUE 0x40
#define NO_COMMAND 0x7f
#define QUEUE_CONTEXT_64 2

static void set_pci(unsigned offset, uint32_t bits, uint32_t value)
{
    port_out(CONFIG_ADDRESS, IO_32, 1u << 31 | DISK << 11 | offset);
    port_out(CONFIG_DATA, bits, value);
}

static volatile uint32_t *shared(uint64_t at)
{
    return (volatile uint32_t *)(at + SHARED_ALIAS);
}

static volatile uint64_t *private(uint64_t at)
{
    return (volatile uint64_t *)at;
}

/* The driver's first command: where completions go, as contexts of 64 bits. */
static void start_disk(void)
{
    set_pci(0x18, IO_32, DISK_PORT | 1);
    set_pci(0x04, IO_16, 7);
    for (unsigned i = 0; i < PAGE / 4; i++) {
        shared(FRAME)[i] = 0;
    }
    shared(FRAME)[2] = (uint32_t)CONTEXT;
    shared(FRAME)[3] = CONTEXT >> 32;
    shared(FRAME)[6] = QUEUE_INFO;
    shared(QUEUE_INFO)[0] = QUEUE_CONTEXT_64;
    shared(QUEUE_INFO)[1] = 8;
    shared(QUEUE_INFO)[2] = REPLY_QUEUE;
    shared(QUEUE_INFO)[4] = INDICES;
    shared(QUEUE_INFO)[6] = INDICES + 8;
    port_out(DISK_PORT + INBOUND_QUEUE, IO_32, FRAME);
}

/*
 * Both pages are in the SoC cache, changed.  If one of them stayed there, its
 * late write-back would destroy what the device has stored.
 */
static void test_store_over_a_page_end(void)
{
    start_disk();
    *private(TARGET + PAGE - 8) = 1;
    *private(TARGET + PAGE) = 2;
    *private(TARGET + PAGE + 16) = 3;
    *shared(FRAME) = NO_COMMAND;        /* completes at once, with an error */
    port_out(DISK_PORT + INBOUND_QUEUE, IO_32, FRAME);
    check("device store: end of the first page", *shared(REPLY_QUEUE), (uint32_t)CONTEXT);
    check("device store: start of the second", *shared(TARGET + PAGE), CONTEXT >> 32);
    check("device store: the next block is whole", *private(TARGET + PAGE + 16), 3);
    check("device store: the guest reads something else", *private(TARGET + PAGE) != 2, true);
}

static void test_page_general(void)
{
    ghcb_clear();
    ghcb_leave(0x12345678, 0, 0);
    check("page unknown event", outcome(), bad(INVALID_EVENT));
    ghcb_clear();
    *(volatile uint32_t *)(ghcb() + GHCB_USAGE) = 7;
    ghcb_leave(EXIT_CPUID, 0, 0);
    check("page unknown usage", outcome(), bad(INVALID_USAGE));
    ghcb_clear();
    write_msr(MSR_GHCB, GHCB_GPA);
    vmgexit();
    check("page without exit code", outcome(), bad(MISSING_INPUT));
    ghcb_clear();
    ghcb_leave(0x89, 0, 0);
    check("page wbinvd", outcome(), 0);
    ghcb_clear();
    ghcb_leave(EXIT_PAGE_STATE, 0, 0);
    check("page state change without SNP", ghcb_result(), MALFORMED);
}

void bare_main(void)
{
    traps_init();
    check("status", read_msr(MSR_SEV_STATUS), STATUS);
    test_intercepts();
    test_not_intercepted();
    test_msr_protocol();
    test_page_cpuid();
    test_page_msr();
    test_page_io();
    test_page_mmio();
    test_page_general();
    test_breakpoint();
    test_jump_table();
    test_events_not_offered();
    test_store_over_a_page_end();
    print("done ");
    print_number(done);
    print("\n");
    terminate(0x42);
}
