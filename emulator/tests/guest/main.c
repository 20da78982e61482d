/*
 * Test firmware for SEV-SNP guests: the tests
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each expectation is a line on the debug console: "ok NAME" or "FAILED NAME".
 * The first byte of guest-visible-workarounds, which the secrets page carries,
 * selects what to run; the second and third are a number of thousands.
 */
#include "guest.h"

#define RESTRICTED_INJECTION (1 << 3)   /* in SEV_FEATURES */

enum {
    RUN_ALL = 0,
    RUN_FUZZ = 1,
    RUN_VMPL_WRITE = 2,         /* VMPL1 stores into a page it may only read */
    RUN_VMSA_WRITE = 3,
    RUN_PRIVATE_GHCB = 4,
    RUN_UNREGISTERED_GHCB = 6,
    RUN_VICTIM = 7,             /* read two pages until something happens */
    RUN_UNSUPPORTED = 8,        /* the guest says that it cannot handle an exit */
    RUN_UNKNOWN_REQUEST = 9,    /* MSR protocol: run another VMPL */
    RUN_RESET = 10,
};

/* ---- #VC ---- */

static void set_up_vc(void)
{
    static struct { uint16_t low, selector, flags, middle; uint32_t high, zero; } idt[32];
    struct __attribute__((packed)) { uint16_t limit; uint64_t base; } pointer = {
        sizeof(idt) - 1, (uint64_t)idt,
    };
    uint64_t entry = (uint64_t)vc_entry;

    idt[29].low = entry;
    idt[29].selector = 0x18;
    idt[29].flags = 0x8e00;
    idt[29].middle = entry >> 16;
    idt[29].high = entry >> 32;
    asm volatile("lidt %0" : : "m"(pointer));
}

static void test_intercepts(void)
{
    expect("cpuid", VC_OF(2, "cpuid", "a"(0) : "rbx", "rcx", "rdx"), 0x72);
    expect("rdpmc", VC_OF(2, "rdpmc", "c"(0) : "rax", "rdx"), 0x6f);
    expect("invd", VC_OF(2, "invd"), 0x76);
    expect("wbinvd", VC_OF(2, "wbinvd"), 0x89);
    expect("vmmcall", VC_OF(3, "vmmcall"), 0x81);
    expect("in", VC_OF(1, "inb %%dx, %%al", "d"(0x60)), 0x7b);
    expect("out", VC_OF(1, "outb %%al, %%dx", "d"(0x80), "a"(0)), 0x7b);
    expect("outs", VC_OF(2, "rep outsb", "d"(0x80), "c"(1), "S"(SCRATCH)), 0x7b);
    expect("rdmsr", VC_OF(2, "rdmsr", "c"(0x1b) : "rax", "rdx"), 0x7c);
    expect("wrmsr", VC_OF(2, "wrmsr", "c"(0x277 + 0x58), "a"(0), "d"(0)), 0x7c);
    expect("rdmsr of the guest's own", VC_OF(2, "rdmsr", "c"(MSR_SEV_STATUS) : "rax", "rdx"), 0);
    expect("rdtsc", VC_OF(2, "rdtsc", : "rax", "rdx"), 0);
    expect("mov to dr7", VC_OF(3, "mov %%rax, %%dr7", "a"(0x400)), 0x37);
    expect("mov from dr7", VC_OF(3, "mov %%dr7, %%rax", "a"(0)), 0x27);
    expect("mmio", VC_OF(3, "mov (%%rax), %%rax", "a"(0xfee00020ull)), 0x400);
    expect("unvalidated page", VC_OF(3, "mov (%%rax), %%rax", "a"(PRIVATE)), 0x404);
    expect("SEV_STATUS", read_msr(MSR_SEV_STATUS), 7);
}

/* ---- the MSR protocol ---- */

static void test_msr_protocol(void)
{
    uint64_t info = ask_msr(0x002);

    expect("info: response", info & 0xfff, 0x001);
    expect("info: C-bit", info >> 24 & 0xff, 51);
    expect("info: versions", info >> 32, 2 << 16 | 1);
    expect("cpuid EAX of leaf 0", ask_msr(0x004) & 0xfff, 0x005);
    expect("preferred GHCB: none", ask_msr(0x010), ~0xfffull | 0x011);
    expect("features", ask_msr(0x080), 3 << 12 | 0x081);
    expect("page state: bad operation", page_state(PRIVATE, 9), 1);
    expect("page state: no memory", page_state(0xfee00000, 1), 1);
}

/* ---- PVALIDATE, RMPADJUST ---- */

static void test_pvalidate(void)
{
    uint64_t at = PRIVATE + 4 * PAGE;

    expect("validate 2 MiB", pvalidate(PRIVATE + LARGE, 1, 1), 0);
    expect("again: unchanged", pvalidate(PRIVATE + LARGE, 1, 1), 0x100);
    expect("one page of it: unchanged", pvalidate(PRIVATE + LARGE + PAGE, 0, 1), 0x100);
    expect("2 MiB over 4 KiB entries", pvalidate(PRIVATE + LARGE, 1, 1), 6);
    expect("2 MiB, misaligned", pvalidate(PRIVATE + PAGE, 1, 1), 1);
    expect("validate", pvalidate(at, 0, 1), 0);
    poke(at, 4711);
    expect("its contents", peek(at), 4711);
    expect("rescind", pvalidate(at, 0, 0), 0);
    expect("rescind again: unchanged", pvalidate(at, 0, 0), 0x100);
    expect("access", VC_OF(3, "mov (%%rax), %%rax", "a"(at)), 0x404);
    expect("validate anew", pvalidate(at, 0, 1), 0);
    expect("contents are still there", peek(at), 4711);
    expect("no memory", pvalidate(0xfee00000, 0, 1), 1);
}

static void test_rmpadjust(void)
{
    uint64_t at = PRIVATE + 4 * PAGE;

    expect("give VMPL1 reading", rmpadjust(at, 0, 0x101), 0);
    expect("give VMPL3 all", rmpadjust(at, 0, 0xf03), 0);
    expect("VMPL0 itself", rmpadjust(at, 0, 0xf00), 2);
    expect("no such VMPL", rmpadjust(at, 0, 0xf07), 1);
    expect("no such permission", rmpadjust(at, 0, 0x2001), 1);
    expect("what VMPL0 does not have", rmpadjust(at, 0, 0x1001), 2);
    expect("size", rmpadjust(PRIVATE + LARGE, 1, 0x101), 6);
    expect("make a save area", rmpadjust(at, 0, 0x10001), 0);
    expect("read it", peek(at), 4711);
    expect("take that back", rmpadjust(at, 0, 0x00001), 0);
    poke(at, 4712);
    expect("write it", peek(at), 4712);
    expect("unvalidated", VC_OF(4, ".byte 0xf3, 0x0f, 0x01, 0xfe",
                                "a"(PRIVATE + 9 * PAGE), "c"(0), "d"(0x101)), 0x404);
}

/* ---- page-state changes ---- */

static void test_page_state(void)
{
    uint64_t at = PRIVATE + 4 * PAGE, list = GHCB_GPA + GHCB_BUFFER;

    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, list);
    poke(list, 1ull << 16);             /* entries 0 and 1 */
    poke(list + 8, at | 2ull << 52);
    poke(list + 16, (PRIVATE + 5 * PAGE) | 2ull << 52);
    expect("list: result", ghcb_exit(0x80000010, 0, 0), 0);
    expect("list: no error", ghcb_get(GHCB_INFO_2), 0);
    expect("list: header moved on", ghcb_get(GHCB_BUFFER) & 0xffff, 2);
    expect("a shared page at a private address: converted, unvalidated",
           VC_OF(3, "mov (%%rax), %%rax", "a"(at)), 0x404);
    expect("validate it", pvalidate(at, 0, 1), 0);
    expect("its contents are gone", peek(at) != 4712, 1);

    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, list);
    poke(list, 300ull << 16);
    expect("bad header", (ghcb_exit(0x80000010, 0, 0), ghcb_get(GHCB_INFO_2)), 1ull << 32 | 1);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, list);
    poke(list, 0);
    poke(list + 8, 0xfee00000ull | 1ull << 52);
    expect("bad entry", (ghcb_exit(0x80000010, 0, 0), ghcb_get(GHCB_INFO_2)), 1ull << 32 | 2);
    ghcb_clear();
    expect("no scratch area", (ghcb_exit(0x80000010, 0, 0), ghcb_get(GHCB_INFO_2)), 4);
}

/* ---- NAE events ---- */

static void expect_malformed(const char *what, uint64_t info1, uint64_t reason)
{
    expect(what, info1 | ghcb_get(GHCB_INFO_2) << 32, 2 | reason << 32);
}

#define STRING_IN IO(DEBUG_PORT, IO_8 | IO_IN | IO_STRING | IO_REP)

static void test_scratch_areas(void)
{
    uint64_t page_end = SCRATCH + PAGE - 4, shared_end = SHARED + 8 * PAGE - 4;

    poke(page_end, 0);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, page_end);
    expect("scratch over the end of a page", ghcb_exit(EXIT_IOIO, STRING_IN, 8), 0);
    expect("its contents", peek(page_end), 0xe9e9e9e9e9e9e9e9);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, shared_end);
    expect_malformed("scratch that ends in private memory", ghcb_exit(EXIT_IOIO, STRING_IN, 8), INVALID_SCRATCH);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, shared_end);
    expect("scratch up to there", ghcb_exit(EXIT_IOIO, STRING_IN, 4), 0);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, ~3ull);
    expect_malformed("scratch over the end of everything", ghcb_exit(EXIT_IOIO, STRING_IN, 8), INVALID_SCRATCH);
}

static void test_mmio_of_the_scratch_area(void)
{
    poke(SCRATCH, 1);
    poke(SCRATCH + 8, 2);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, SCRATCH + 8);
    expect("event: mmio of the scratch area", ghcb_exit(EXIT_MMIO_READ, SCRATCH, 16), 0);
    expect("its first half", peek(SCRATCH + 8), 1);
    expect("its second half", peek(SCRATCH + 16), 2);
}

/* What the feature bits do not announce is answered as an event that nobody knows. */
static void test_events_not_offered(void)
{
    static const struct { const char *name; uint64_t code; } events[] = {
        { "event: #HV doorbell page", EXIT_DOORBELL_PAGE },
        { "event: #HV IPI", EXIT_HV_IPI },
        { "event: #HV timer", EXIT_HV_TIMER },
        { "event: APIC ids", EXIT_APIC_IDS },
        { "event: run VMPL", EXIT_RUN_VMPL },
    };

    for (unsigned i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        ghcb_clear();
        ghcb_set(GHCB_RAX, 1);
        expect_malformed(events[i].name, ghcb_exit(events[i].code, 0, 0), INVALID_EVENT);
    }
    ghcb_clear();
    ghcb_set(GHCB_RAX, 1 | RESTRICTED_INJECTION);
    expect_malformed("event: a vCPU with restricted injection",
                     ghcb_exit(EXIT_AP_CREATION, 1, PRIVATE + 17 * PAGE), INVALID_INPUT);
    ghcb_clear();
    expect("event: rdtscp", ghcb_exit(EXIT_RDTSCP, 0, 0), 0);
    expect("event: rdtscp answers", ghcb_valid(GHCB_RAX) && ghcb_valid(GHCB_RCX) && ghcb_valid(GHCB_RDX), 1);
}

static void test_events(void)
{
    ghcb_clear();
    ghcb_set(GHCB_RAX, 0);
    ghcb_set(GHCB_RCX, 0);
    expect("event: cpuid", ghcb_exit(0x72, 0, 0), 0);
    expect("event: cpuid answers", ghcb_valid(GHCB_RAX) && ghcb_valid(GHCB_RDX) && ghcb_get(GHCB_RAX) > 0, 1);
    ghcb_clear();
    expect_malformed("event: cpuid without RAX", ghcb_exit(0x72, 0, 0), 4);
    ghcb_clear();
    ghcb_set(GHCB_RCX, 0x1b);
    expect("event: rdmsr", ghcb_exit(0x7c, 0, 0), 0);
    expect("event: rdmsr answers", ghcb_get(GHCB_RAX) & 0xfffff000, 0xfee00000);
    ghcb_clear();
    ghcb_set(GHCB_RCX, 0);
    expect("event: rdpmc is #GP", ghcb_exit(0x6f, 0, 0), 1);
    expect("event: which exception", ghcb_get(GHCB_INFO_2), 0x80000b0d);
    ghcb_clear();
    expect("event: rdtsc", ghcb_exit(0x6e, 0, 0), 0);
    expect("event: wbinvd", (ghcb_clear(), ghcb_exit(0x89, 0, 0)), 0);
    expect("event: invd", (ghcb_clear(), ghcb_exit(0x76, 0, 0)), 0);
    expect("event: monitor", (ghcb_clear(), ghcb_exit(0x8a, 0, 0)), 0);
    expect("event: mwait", (ghcb_clear(), ghcb_exit(0x8b, 0, 0)), 0);
    expect("event: nmi complete", (ghcb_clear(), ghcb_exit(0x80000003, 0, 0)), 0);
    expect("event: features", (ghcb_clear(), ghcb_exit(0x8000fffd, 0, 0), ghcb_get(GHCB_INFO_2)), 3);
    ghcb_clear();
    ghcb_set(GHCB_RAX, 0x600);
    expect("event: write DR7", ghcb_exit(0x37, 0, 0), 0);
    expect("event: read DR7", (ghcb_clear(), ghcb_exit(0x27, 0, 0), ghcb_get(GHCB_RAX)), 0x600);
    ghcb_clear();
    ghcb_set(GHCB_RAX, 1);
    ghcb_set(GHCB_CPL, 0);
    expect("event: vmmcall", ghcb_exit(0x81, 0, 0), 0);
    expect("event: hypercalls: none", ghcb_get(GHCB_RAX), -1000ull);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    expect("event: mmio read", ghcb_exit(0x80000001, 0xfee00030, 4), 0);
    expect("event: LAPIC version", ghcb_get(GHCB_BUFFER) & 0xff, 0x14);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    expect("event: mmio of RAM: its shared side", ghcb_exit(EXIT_MMIO_READ, PRIVATE, 4), 0);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + GHCB_BUFFER);
    expect("event: mmio of 16 bytes", ghcb_exit(EXIT_MMIO_READ, 0xfee00030, 16), 0);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, SCRATCH);
    expect_malformed("event: mmio, too long", ghcb_exit(EXIT_MMIO_READ, 0xfee00030, 0x4001), INVALID_SCRATCH);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, PRIVATE + 4 * PAGE);
    expect_malformed("event: scratch in private memory", ghcb_exit(0x80000001, 0xfee00030, 4), 3);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, GHCB_GPA + 0x10);
    expect_malformed("event: scratch on top of the fields", ghcb_exit(0x80000001, 0xfee00030, 4), 3);
    ghcb_clear();
    ghcb_set(GHCB_SCRATCH, SCRATCH);
    expect_malformed("event: string of 2^60 bytes", ghcb_exit(0x7b, 0xe9 << 16 | 1 << 4 | 4, 1ull << 60), 3);
    ghcb_clear();
    expect_malformed("event: unknown", ghcb_exit(0x80000099, 0, 0), 6);
    ghcb_clear();
    *(volatile uint32_t *)(GHCB_GPA + 0xffc) = 1;
    expect_malformed("event: unknown usage", ghcb_exit(0x72, 0, 0), 2);
    ghcb_clear();
    ghcb_set(GHCB_RAX, 1);
    expect_malformed("event: create a vCPU that is not there", ghcb_exit(0x80000013, 99ull << 32 | 1, PRIVATE), 5);
    ghcb_clear();
    expect_malformed("event: guest request to a private page", ghcb_exit(0x80000011, PRIVATE, SCRATCH), 5);
    ghcb_clear();
    expect_malformed("event: guest request, one page twice", ghcb_exit(0x80000011, SCRATCH, SCRATCH), 5);
    ghcb_clear();
    expect("event: guest request, nonsense", (ghcb_exit(0x80000011, SCRATCH, SCRATCH + PAGE), ghcb_get(GHCB_INFO_2)), 0x16);
}

/* ---- malformed events, at random ---- */

static uint64_t odd_value(void)
{
    static const uint64_t values[] = {
        0, 1, 2, 8, 0x10, PAGE, GHCB_GPA, GHCB_GPA + GHCB_BUFFER, GHCB_GPA + 0xff8, SCRATCH,
        SCRATCH + 0xffc, PRIVATE, 0xfee00000, 0xfec00000, 0xffc00000, ~0ull,
        1ull << 63, 1ull << 51, 0xfffffffff000, 0x100000000, 0xe91 << 4,
    };
    uint64_t r = random_number();

    return r & 3 ? values[(r >> 8) % (sizeof(values) / sizeof(values[0]))]
                 : random_number() >> (r >> 8 & 63);
}

static uint64_t odd_code(void)
{
    static const uint64_t codes[] = {
        0x27, 0x37, 0x6e, 0x6f, 0x72, 0x76, 0x7b, 0x7c, 0x81, 0x87, 0x89, 0x8a,
        0x8b, 0x80000001, 0x80000002, 0x80000003, 0x80000005, 0x80000010,
        0x80000011, 0x80000012, 0x80000013, 0x80000014, 0x80000017, 0x8000fffd,
        0x8000ffff,
    };
    uint64_t r = random_number();

    return r % 16 ? codes[(r >> 8) % (sizeof(codes) / sizeof(codes[0]))] : odd_value();
}

/*
 * Left out is what ends the machine by design: reset and power-off by ports,
 * MSRs and devices, and a vCPU that destroys itself.
 */
static bool ends_the_machine(uint64_t code, uint64_t info1)
{
    return code == 0x8000fffe || code == 0x80000004 || code == 0x80000002 ||
           code == EXIT_UNSUPPORTED || (code == 0x80000013 && !(info1 >> 32)) ||
           (code == 0x7b && !(info1 & 1) && info1 >> 16 != 0xe9) ||
           (code == 0x7c && info1 & 1);
}

static void fuzz(uint64_t count)
{
    static const uint16_t fields[] = {
        GHCB_RAX, GHCB_RBX, GHCB_RCX, GHCB_RDX, GHCB_SCRATCH, GHCB_XCR0, GHCB_CPL & ~7, GHCB_CODE, GHCB_INFO_1, GHCB_INFO_2,
    };

    for (uint64_t i = 0; i < count; i++) {
        uint64_t code = odd_code(), info1 = odd_value(), info2 = odd_value();

        if (ends_the_machine(code, info1)) {
            continue;
        }
        ghcb_clear();
        for (unsigned f = 0; f < sizeof(fields) / sizeof(fields[0]); f++) {
            if (random_number() & 3) {
                ghcb_set(fields[f], odd_value());
            }
        }
        for (unsigned at = GHCB_BUFFER; at < GHCB_BUFFER + 64; at += 8) {
            poke(GHCB_GPA + at, odd_value());
        }
        ghcb_set(GHCB_CODE, code);
        ghcb_set(GHCB_INFO_1, info1);
        ghcb_set(GHCB_INFO_2, info2);
        if (random_number() % 64 == 0) {
            *(volatile uint8_t *)(GHCB_GPA + GHCB_VALID + random_number() % 16) = random_number();
        }
        write_msr(MSR_GHCB, GHCB_GPA);
        vmgexit();
        /* A page-state change may have taken the GHCB or the scratch pages. */
        for (uint64_t page = SHARED; page < SHARED + 8 * PAGE; page += PAGE) {
            page_state(page, 2);
        }
    }
    expect("the VMM has survived", 1, 1);
}

/* ---- runs that end in a fault ---- */

#define VMSA (PRIVATE + 16 * PAGE + PAGE)
#define VICTIM (PRIVATE + 32 * PAGE)

void ap_main(void)
{
    *(volatile uint8_t *)GHCB_GPA = 0;      /* shared memory is no matter of VMPLs */
    (void)peek(VICTIM);
    poke(VICTIM, 1);
    for (;;) {
    }
}

static void segment(uint64_t at, uint16_t selector, uint16_t attributes, uint32_t limit)
{
    poke(at, selector | (uint64_t)attributes << 16 | (uint64_t)limit << 32);
    poke(at + 8, 0);
}

/* Everything but the victim page is VMPL1's as well. */
static void start_vmpl1(void)
{
    static uint8_t stack[4096];

    for (uint64_t at = 0xfffe0000; at < 0x100000000; at += PAGE) {
        rmpadjust(at, 0, 0xf01);
    }
    for (uint64_t at = 0x100000; at < 0x110000; at += PAGE) {
        rmpadjust(at, 0, 0xf01);
    }
    pvalidate(VICTIM, 0, 1);
    expect("victim: readable", rmpadjust(VICTIM, 0, 0x101), 0);
    pvalidate(VMSA, 0, 1);
    memset((void *)VMSA, 0, PAGE);
    segment(VMSA + 0x10, 0x18, 0xa9b, ~0u);
    segment(VMSA + 0x20, 0x10, 0xc93, ~0u);
    segment(VMSA + 0x30, 0x10, 0xc93, ~0u);
    *(volatile uint8_t *)(VMSA + 0xca) = 1;
    poke(VMSA + 0xd0, 0x1500);
    poke(VMSA + 0x148, 0x620);
    poke(VMSA + 0x150, 0x100000);
    poke(VMSA + 0x158, 0x80010033);
    poke(VMSA + 0x170, 2);
    poke(VMSA + 0x178, (uint64_t)ap_entry);
    poke(VMSA + 0x1d8, (uint64_t)(stack + sizeof(stack)));
    poke(VMSA + 0x268, 0x7040600070406);
    poke(VMSA + 0x3b0, 1);
    poke(VMSA + 0x3e8, 1);
    expect("save area", rmpadjust(VMSA, 0, 0x10001), 0);
    ghcb_clear();
    ghcb_set(GHCB_RAX, 1);
    expect("start a vCPU in VMPL1", ghcb_exit(0x80000013, 1ull << 32 | 1, VMSA), 0);
    for (;;) {
    }
}

static void write_to_save_area(void)
{
    pvalidate(VMSA, 0, 1);
    expect("save area", rmpadjust(VMSA, 0, 0x10001), 0);
    poke(VMSA, 1);
}

static void use_private_ghcb(void)
{
    pvalidate(PRIVATE, 0, 1);
    ask_msr(PRIVATE | 0x012);
    write_msr(MSR_GHCB, PRIVATE);
    vmgexit();
}

/* ---- what a hostile host plays with ---- */

#define FIRST_WORD 0x1111111111111111
#define SECOND_WORD 0x2222222222222222

static uint64_t careful_peek(uint64_t at)
{
    uint64_t value = 0;

    vc_skip = 3;
    asm volatile("mov (%%rax), %%rcx" : "=c"(value) : "a"(at), "c"(value) : "memory");
    return value;
}

static void be_a_victim(void)
{
    uint64_t value, secret = random_number() ^ read_tsc() << 20;

    pvalidate(VICTIM, 0, 1);
    pvalidate(VICTIM + PAGE, 0, 1);
    poke(VICTIM, FIRST_WORD);
    poke(VICTIM + PAGE, SECOND_WORD);
    print("secret ");
    print_number(secret);
    print("\nready\n");
    vc_code = 0;
    do {
        asm volatile("" : "+r"(secret));    /* stays in a register */
        value = careful_peek(VICTIM);
        /* Leaves the loop of the VMM: a nested page table may have changed. */
        ask_msr(0x002);
    } while (!vc_code && value == FIRST_WORD);
    print("exit code ");
    print_number(vc_code);
    print(" value ");
    print_number(vc_code ? 0 : value);
    print("\n");
}

/* ---- ---- */

extern void main(void);
void main(void)
{
    unsigned run, thousands;

    for (uint64_t page = SHARED; page < SHARED + 8 * PAGE; page += PAGE) {
        page_state(page, 2);
    }
    ask_msr(GHCB_GPA | 0x012);
    set_up_vc();
    run = *(volatile uint8_t *)(SECRETS + 0x10);
    thousands = *(volatile uint16_t *)(SECRETS + 0x11);
    switch (run) {
    case RUN_ALL:
        test_intercepts();
        test_msr_protocol();
        test_pvalidate();
        test_rmpadjust();
        test_page_state();
        test_events();
        test_scratch_areas();
        test_mmio_of_the_scratch_area();
        test_events_not_offered();
        break;
    case RUN_FUZZ:
        fuzz(thousands * 1000ull);
        break;
    case RUN_VMPL_WRITE:
        start_vmpl1();
        break;
    case RUN_VMSA_WRITE:
        write_to_save_area();
        break;
    case RUN_PRIVATE_GHCB:
        use_private_ghcb();
        break;
    case RUN_VICTIM:
        be_a_victim();
        break;
    case RUN_UNSUPPORTED:
        ghcb_clear();
        ghcb_exit(EXIT_UNSUPPORTED, EXIT_NPF, 0);
        break;
    case RUN_UNKNOWN_REQUEST:
        ask_msr(1ull << 32 | 0x016);
        break;
    case RUN_RESET:
        reset_machine();
        break;
    case RUN_UNREGISTERED_GHCB:
        write_msr(MSR_GHCB, SCRATCH);
        vmgexit();
        break;
    }
    print(failures ? "end: some failed\n" : "end: all ok\n");
    terminate(0x42);
}
