/*
 * Test firmware for SEV-SNP guests: instructions and the GHCB
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SEV_TEST_GUEST_H
#define SEV_TEST_GUEST_H

#pragma GCC visibility push(hidden)

/* Memory map (start.S). */
#define SECRETS 0x110000ull
#define SHARED 0x200000ull      /* 2 MiB without the C-bit */
#define GHCB_GPA SHARED
#define GHCB_VA SHARED
#include "../ghcb.h"
#define SCRATCH (SHARED + PAGE)
#define PRIVATE 0x800000ull     /* nobody has validated what follows */
#define LARGE (512 * PAGE)

extern volatile uint64_t vc_code, vc_skip;
void vc_entry(void);
void ap_entry(void);

static inline uint64_t read_tsc(void)
{
    uint32_t low, high;

    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (uint64_t)high << 32;
}

/* EAX, with the carry flag as bit 8. */
static inline unsigned pvalidate(uint64_t va, unsigned size, unsigned validate)
{
    uint64_t eax = va;
    bool carry;

    asm volatile(".byte 0xf2, 0x0f, 0x01, 0xff" : "+a"(eax), "=@ccc"(carry)
                 : "c"(size), "d"(validate) : "memory");
    return (unsigned)eax | carry << 8;
}

static inline unsigned rmpadjust(uint64_t va, unsigned size, uint64_t attributes)
{
    uint64_t eax = va;

    asm volatile(".byte 0xf3, 0x0f, 0x01, 0xfe" : "+a"(eax)
                 : "c"(size), "d"(attributes) : "memory", "cc");
    return eax;
}

static inline uint64_t peek(uint64_t at)
{
    return *(volatile uint64_t *)at;
}

static inline void poke(uint64_t at, uint64_t value)
{
    *(volatile uint64_t *)at = value;
}

/* The exit code of the #VC that an instruction of @length bytes raises. */
#define VC_OF(length, instruction, ...) ({ \
        vc_code = 0; \
        vc_skip = (length); \
        asm volatile(instruction : : __VA_ARGS__); \
        vc_code; \
    })

/* ---- lib.c ---- */

void *memset(void *to, int value, size_t size);
/* The answer to the last ghcb_exit(): printing uses the GHCB too. */
uint64_t ghcb_get(unsigned field);
bool ghcb_valid(unsigned field);
/* VMGEXIT; returns exit information 1. */
uint64_t ghcb_exit(uint64_t code, uint64_t info1, uint64_t info2);
/* One line per expectation: ok or FAILED. */
void expect(const char *what, uint64_t got, uint64_t wanted);
/* A page-state change; 1 private, 2 shared. Returns the answer's error. */
uint64_t page_state(uint64_t gpa, unsigned op);
uint64_t random_number(void);
extern unsigned failures;

#endif
