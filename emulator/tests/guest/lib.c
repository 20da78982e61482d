/*
 * Test firmware for SEV-SNP guests: what the tests stand on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"

#define DEBUG_PORT 0xe9

volatile uint64_t vc_code, vc_skip;
unsigned failures;

void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((volatile uint8_t *)to)[i] = value;
    }
    return to;
}

void ghcb_clear(void)
{
    memset((void *)GHCB, 0, PAGE);
    *(volatile uint16_t *)(GHCB + 0xffa) = 2;
}

void ghcb_set(unsigned field, uint64_t value)
{
    poke(GHCB + field, value);
    *(volatile uint8_t *)(GHCB + F_VALID + field / 64) |= 1 << (field / 8 % 8);
}

/* The answer to the last ghcb_exit(): printing uses the GHCB too. */
static uint64_t answer[PAGE / 8];

uint64_t ghcb_get(unsigned field)
{
    return answer[field / 8];
}

bool ghcb_valid(unsigned field)
{
    return answer[F_VALID / 8 + field / 512] >> (field / 8 % 64) & 1;
}

static void leave(uint64_t code, uint64_t info1, uint64_t info2)
{
    ghcb_set(F_CODE, code);
    ghcb_set(F_INFO1, info1);
    ghcb_set(F_INFO2, info2);
    write_msr(MSR_GHCB, GHCB);
    vmgexit();
}

uint64_t ghcb_exit(uint64_t code, uint64_t info1, uint64_t info2)
{
    leave(code, info1, info2);
    for (unsigned i = 0; i < PAGE / 8; i++) {
        answer[i] = peek(GHCB + 8 * i);
    }
    return ghcb_get(F_INFO1);
}

void port_out(uint16_t port, uint8_t value)
{
    ghcb_clear();
    ghcb_set(F_RAX, value);
    leave(0x7b, (uint64_t)port << 16 | 1 << 4, 0);
}

void print(const char *text)
{
    while (*text) {
        port_out(DEBUG_PORT, *text++);
    }
}

void print_number(uint64_t value)
{
    print("0x");
    for (int shift = 60; shift >= 0; shift -= 4) {
        if (value >> shift || !shift) {
            port_out(DEBUG_PORT, "0123456789abcdef"[value >> shift & 15]);
        }
    }
}

void expect(const char *what, uint64_t got, uint64_t wanted)
{
    print(got == wanted ? "ok " : "FAILED ");
    print(what);
    if (got != wanted) {
        failures++;
        print(": got ");
        print_number(got);
        print(", wanted ");
        print_number(wanted);
    }
    print("\n");
}

uint64_t page_state(uint64_t gpa, unsigned op)
{
    return ask_msr((uint64_t)op << 52 | gpa | 0x014) >> 32;
}

uint64_t random_number(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}
