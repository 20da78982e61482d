/*
 * A bare SEV-ES guest that throws malformed exits at the VMM, ROUNDS of them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * What would rightly stop or reset the guest is left out: halting, resetting
 * through devices, ending, starting vCPUs.  Prints "at N" now and then.
 */
#include "machine.h"

#ifndef ROUNDS
#define ROUNDS 100000
#endif
#ifndef SEED
#define SEED 1
#endif

#define FREE_PORTS 0xe00            /* 256 ports without a device */
#define OPEN_MEMORY 0xfee00000ul

static uint64_t state = SEED;

static uint64_t draw(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static uint64_t below(uint64_t limit)
{
    return draw() % limit;
}

static const uint32_t codes[] = {
    EXIT_IOIO, EXIT_MSR, EXIT_CPUID, EXIT_MMIO_READ, EXIT_MMIO_WRITE, EXIT_PAGE_STATE,
    EXIT_GUEST_REQUEST, EXIT_EXT_GUEST_REQUEST, EXIT_HV_FEATURES,
    0x27, 0x37, 0x6e, 0x6f, 0x76, 0x87, 0x89, 0x8a, 0x8b,
    0x80000003, 0x80000005, 0x80000014, 0x80000017, 0x80000018, 0x8000001a,
};

/* Addresses that a VMM has to look at twice; not our program, which events fill. */
static uint64_t address(void)
{
    static const uint64_t odd[] = {
        0, 0xfff, 0x180000, 0x1c0000, 0x200000, 0x201000, GHCB_GPA,
        GHCB_GPA + GHCB_BUFFER, GHCB_GPA + PAGE, 0x3fff000, 0x4000000,
        0xa0000, 0xc0000, 0xfffff000, 0xffff0000, 1ul << 51, 1ul << 52,
        0x7ffffffffffff000, ~0ul, ~0xffful,
    };
    uint64_t at = odd[below(sizeof(odd) / sizeof(odd[0]))];

    return below(3) ? at : at + below(2 * PAGE) - PAGE;
}

static uint64_t number(void)
{
    switch (below(4)) {
    case 0:
        return below(16);
    case 1:
        return address();
    case 2:
        return 1ul << below(64);
    default:
        return draw();
    }
}

/* What the guest must not do to devices: only ports and registers that bear it. */
static uint64_t first_information(uint32_t code)
{
    switch (code) {
    case EXIT_IOIO:
        return (FREE_PORTS + below(256)) << 16 | (draw() & 0xffff);
    case EXIT_MMIO_READ:
    case EXIT_MMIO_WRITE:
        return below(2) ? OPEN_MEMORY + 0x400 + below(0xc00) : (1ul << 40) + draw() % (1ul << 44);
    case EXIT_MSR:
        return below(4);
    default:
        return number();
    }
}

static void fill(uint32_t code)
{
    static const uint16_t fields[] = {
        GHCB_RAX, GHCB_RBX, GHCB_RCX, GHCB_RDX, GHCB_XCR0, GHCB_XSS,
    };

    ghcb_clear();
    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (below(4)) {
            ghcb_set(fields[i], number());
        }
    }
    if (code == EXIT_MSR) {
        ghcb_set(GHCB_RCX, below(2) ? 0xc0011000 + below(16) : below(0x10) + 0x400);
    }
    if (below(4)) {
        ghcb_set(GHCB_SCRATCH, below(2) ? GHCB_GPA + GHCB_BUFFER + below(0x900) : address());
    }
    if (below(4) == 0) {
        for (unsigned i = GHCB_BUFFER; i < GHCB_BUFFER + GHCB_BUFFER_SIZE; i += 8) {
            *(volatile uint64_t *)(ghcb() + i) = number();
        }
    }
    if (below(16) == 0) {
        *(volatile uint32_t *)(ghcb() + GHCB_USAGE) = number();
    }
    if (below(16) == 0) {
        *(volatile uint16_t *)(ghcb() + GHCB_VERSION) = number();
    }
}

static void by_page(void)
{
    uint32_t code = below(8) ? codes[below(sizeof(codes) / sizeof(codes[0]))] : 0x90000000 + below(1 << 20);
    uint64_t second = below(3) ? below(64) : number();

    fill(code);
    ghcb_leave(code, first_information(code), second);
}

/* By the MSR: information, CPUID, and what nobody asks without SNP. */
static void by_msr(void)
{
    static const uint64_t known[] = { 0x002, 0x004, 0x010, 0x080 };

    ask_msr(known[below(4)] | (draw() & ~0xffful));
}

void bare_main(void)
{
    traps_init();
    for (uint64_t i = 0; i < ROUNDS; i++) {
        if (i % 10000 == 0) {
            print("at ");
            print_number(i);
            print("\n");
        }
        if (below(8)) {
            by_page();
        } else {
            by_msr();
        }
    }
    print("done ");
    print_number(ROUNDS);
    print("\n");
    for (;;) {
    }
}
