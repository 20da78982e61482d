/*
 * What a bare guest needs of the machine: instructions, #VC, the GHCB, output
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * AMD64 Architecture Programmer's Manual volume 2, 15.35; GHCB specification
 * (AMD 56421).
 */
#ifndef BARE_MACHINE_H
#define BARE_MACHINE_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
#define bool _Bool
#define true 1
#define false 0

#define PAGE 4096ul
#define SHARED_ALIAS (1ul << 39)    /* the same guest address, C-bit clear */
#define GHCB_GPA 0x1e0000ul
#define CONSOLE_PORT 0x402

#define MSR_EFER 0xc0000080
#define MSR_GHCB 0xc0010130
#define MSR_SEV_STATUS 0xc0010131
#define MSR_APIC_BASE 0x1b

/* GHCB fields: offsets in the page. */
#define GHCB_CPL 0x0cb
#define GHCB_XSS 0x140
#define GHCB_RAX 0x1f8
#define GHCB_RCX 0x308
#define GHCB_RDX 0x310
#define GHCB_RBX 0x318
#define GHCB_EXIT_CODE 0x390
#define GHCB_INFO_1 0x398
#define GHCB_INFO_2 0x3a0
#define GHCB_SCRATCH 0x3a8
#define GHCB_XCR0 0x3e8
#define GHCB_VALID 0x3f0
#define GHCB_BUFFER 0x800
#define GHCB_BUFFER_SIZE 0x7f0
#define GHCB_VERSION 0xffa
#define GHCB_USAGE 0xffc

/* Exit codes. */
#define EXIT_IOIO 0x7b
#define EXIT_MSR 0x7c
#define EXIT_CPUID 0x72
#define EXIT_MMIO_READ 0x80000001
#define EXIT_MMIO_WRITE 0x80000002
#define EXIT_PSC 0x80000010
#define EXIT_GUEST_REQUEST 0x80000011
#define EXIT_EXT_GUEST_REQUEST 0x80000012
#define EXIT_HV_FEATURES 0x8000fffd

static inline u64 rdmsr(u32 msr)
{
    u32 low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return low | (u64)high << 32;
}

static inline void wrmsr(u32 msr, u64 value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32))
                 : "memory");
}

static inline void vmgexit(void)
{
    asm volatile("rep; vmmcall" : : : "memory");
}

/* One exit by the MSR protocol; returns the answer. */
static inline u64 msr_protocol(u64 request)
{
    wrmsr(MSR_GHCB, request);
    vmgexit();
    return rdmsr(MSR_GHCB);
}

/* ---- the GHCB ---- */

static inline volatile u8 *ghcb(void)
{
    return (volatile u8 *)(GHCB_GPA + SHARED_ALIAS);
}

static inline void ghcb_set(unsigned field, u64 value)
{
    *(volatile u64 *)(ghcb() + field) = value;
    ghcb()[GHCB_VALID + field / 64] |= 1 << field / 8 % 8;
}

static inline u64 ghcb_get(unsigned field)
{
    return *(volatile u64 *)(ghcb() + field);
}

static inline bool ghcb_valid(unsigned field)
{
    return ghcb()[GHCB_VALID + field / 64] >> field / 8 % 8 & 1;
}

static inline void ghcb_clear(void)
{
    for (unsigned i = 0; i < GHCB_BUFFER / 8; i++) {
        ((volatile u64 *)ghcb())[i] = 0;
    }
    *(volatile u16 *)(ghcb() + GHCB_VERSION) = 2;
    *(volatile u32 *)(ghcb() + GHCB_USAGE) = 0;
}

static inline void ghcb_exit(u64 code, u64 info1, u64 info2)
{
    ghcb_set(GHCB_EXIT_CODE, code);
    ghcb_set(GHCB_INFO_1, info1);
    ghcb_set(GHCB_INFO_2, info2);
    wrmsr(MSR_GHCB, GHCB_GPA);
    vmgexit();
}

/* Lower half of exit information 1: 0 fine, 1 exception, 2 malformed. */
static inline u32 ghcb_result(void)
{
    return ghcb_get(GHCB_INFO_1);
}

/* ---- output ---- */

static inline void put_char(char c)
{
    ghcb_clear();
    ghcb_set(GHCB_RAX, (u8)c);
    ghcb_exit(EXIT_IOIO, (u64)CONSOLE_PORT << 16 | 1 << 9 | 1 << 4, 0);
}

static inline void put(const char *text)
{
    while (*text) {
        put_char(*text++);
    }
}

static inline void put_hex(u64 value)
{
    put("0x");
    for (int shift = 60; shift >= 0; shift -= 4) {
        if (value >> shift || shift == 0) {
            put_char("0123456789abcdef"[value >> shift & 15]);
        }
    }
}

/* Ends the guest: the host sees a termination request (set 1, reason). */
static inline void terminate(u64 reason)
{
    for (;;) {
        msr_protocol(reason << 16 | 1 << 12 | 0x100);
    }
}

/* ---- #VC ---- */

/*
 * Exceptions that an instruction under test may raise: the handler keeps
 * vector and error code and goes on at @resume.
 */
struct trap {
    u64 resume;
    u64 vector, error;
    u64 count;
};

extern struct trap trap;
void traps_init(void);

#endif /* BARE_MACHINE_H */
