/*
 * What test guests need to talk to the VMM: MSRs, VMGEXIT, the GHCB
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * AMD64 Architecture Programmer's Manual volume 2, 15.35; GHCB standardization
 * (AMD 56421).  Before it is included: GHCB_GPA, where the GHCB lies, and
 * GHCB_VA, where the guest maps it as shared.
 */
#ifndef TESTS_GHCB_H
#define TESTS_GHCB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096ull

#define MSR_APIC_BASE 0x1b
#define MSR_EFER 0xc0000080
#define MSR_GHCB 0xc0010130
#define MSR_SEV_STATUS 0xc0010131

/* Requests of the MSR protocol. */
#define ASK_INFO 0x002
#define ASK_CPUID 0x004
#define ASK_PREFERRED 0x010
#define ASK_REGISTER 0x012
#define ASK_PAGE_STATE 0x014
#define ASK_FEATURES 0x080
#define ASK_TERMINATE 0x100

/* Fields: offsets in the page. */
#define GHCB_CPL 0x0cb
#define GHCB_XSS 0x140
#define GHCB_RAX 0x1f8
#define GHCB_RCX 0x308
#define GHCB_RDX 0x310
#define GHCB_RBX 0x318
#define GHCB_CODE 0x390
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
#define EXIT_READ_DR7 0x27
#define EXIT_WRITE_DR7 0x37
#define EXIT_RDTSC 0x6e
#define EXIT_RDPMC 0x6f
#define EXIT_CPUID 0x72
#define EXIT_INVD 0x76
#define EXIT_IOIO 0x7b
#define EXIT_MSR 0x7c
#define EXIT_VMMCALL 0x81
#define EXIT_RDTSCP 0x87
#define EXIT_WBINVD 0x89
#define EXIT_MONITOR 0x8a
#define EXIT_MWAIT 0x8b
#define EXIT_NPF 0x400
#define EXIT_UNVALIDATED 0x404
#define EXIT_MMIO_READ 0x80000001
#define EXIT_MMIO_WRITE 0x80000002
#define EXIT_NMI_COMPLETE 0x80000003
#define EXIT_RESET_HOLD 0x80000004
#define EXIT_JUMP_TABLE 0x80000005
#define EXIT_PAGE_STATE 0x80000010
#define EXIT_GUEST_REQUEST 0x80000011
#define EXIT_EXT_GUEST_REQUEST 0x80000012
#define EXIT_AP_CREATION 0x80000013
#define EXIT_DOORBELL_PAGE 0x80000014
#define EXIT_HV_IPI 0x80000015
#define EXIT_HV_TIMER 0x80000016
#define EXIT_APIC_IDS 0x80000017
#define EXIT_RUN_VMPL 0x80000018
#define EXIT_HV_FEATURES 0x8000fffd
#define EXIT_TERMINATE 0x8000fffe
#define EXIT_UNSUPPORTED 0x8000ffff

/* IOIO, exit information 1: the port is in the upper half. */
#define IO_IN (1 << 0)
#define IO_STRING (1 << 2)
#define IO_REP (1 << 3)
#define IO_8 (1 << 4)
#define IO_16 (1 << 5)
#define IO_32 (1 << 6)
#define IO_A64 (1 << 9)
#define IO(port, bits) ((uint64_t)(port) << 16 | IO_A64 | (bits))

/* Lower half of exit information 1, and 2 of a malformed exit. */
#define EXCEPTION 1
#define MALFORMED 2
#define INVALID_USAGE 2
#define INVALID_SCRATCH 3
#define MISSING_INPUT 4
#define INVALID_INPUT 5
#define INVALID_EVENT 6

static inline uint64_t read_msr(uint32_t msr)
{
    uint32_t low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    return low | (uint64_t)high << 32;
}

static inline void write_msr(uint32_t msr, uint64_t value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value),
                 "d"((uint32_t)(value >> 32)) : "memory");
}

static inline void vmgexit(void)
{
    asm volatile("rep; vmmcall" : : : "memory");
}

/* An exit by the MSR protocol; returns the answer. */
static inline uint64_t ask_msr(uint64_t request)
{
    write_msr(MSR_GHCB, request);
    vmgexit();
    return read_msr(MSR_GHCB);
}

/* ---- the page ---- */

static inline volatile uint8_t *ghcb(void)
{
    return (volatile uint8_t *)GHCB_VA;
}

static inline void ghcb_clear(void)
{
    for (unsigned i = 0; i < GHCB_BUFFER; i += 8) {
        *(volatile uint64_t *)(ghcb() + i) = 0;
    }
    *(volatile uint16_t *)(ghcb() + GHCB_VERSION) = 2;
    *(volatile uint32_t *)(ghcb() + GHCB_USAGE) = 0;
}

static inline void ghcb_set(unsigned field, uint64_t value)
{
    *(volatile uint64_t *)(ghcb() + field) = value;
    ghcb()[GHCB_VALID + field / 64] |= 1 << (field / 8 % 8);
}

static inline void ghcb_leave(uint64_t code, uint64_t info1, uint64_t info2)
{
    ghcb_set(GHCB_CODE, code);
    ghcb_set(GHCB_INFO_1, info1);
    ghcb_set(GHCB_INFO_2, info2);
    write_msr(MSR_GHCB, GHCB_GPA);
    vmgexit();
}

/* ---- ports ---- */

/* isa-debugcon: prints what is written to it, reads as its own number. */
#define DEBUG_PORT 0xe9
#define KEYBOARD_PORT 0x64
#define KEYBOARD_RESET 0xfe

static inline void port_out(uint16_t port, uint32_t bits, uint32_t value)
{
    ghcb_clear();
    ghcb_set(GHCB_RAX, value);
    ghcb_leave(EXIT_IOIO, IO(port, bits), 0);
}

static inline void put_char(char c)
{
    port_out(DEBUG_PORT, IO_8, (uint8_t)c);
}

static inline void print(const char *text)
{
    while (*text) {
        put_char(*text++);
    }
}

static inline void print_number(uint64_t value)
{
    print("0x");
    for (int shift = 60; shift >= 0; shift -= 4) {
        if (value >> shift || shift == 0) {
            put_char("0123456789abcdef"[value >> shift & 15]);
        }
    }
}

/* The reset line, by the keyboard controller. */
static inline void reset_machine(void)
{
    port_out(KEYBOARD_PORT, IO_8, KEYBOARD_RESET);
}

/* Ends the guest: the host sees a termination request (set 1, reason). */
static inline void terminate(uint64_t reason)
{
    for (;;) {
        ask_msr(reason << 16 | 1 << 12 | ASK_TERMINATE);
    }
}

#endif /* TESTS_GHCB_H */
