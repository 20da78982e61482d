/*
 * Test firmware for SEV-SNP guests: what the tests stand on
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "guest.h"

volatile uint64_t vc_code, vc_skip;
unsigned failures;

void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((volatile uint8_t *)to)[i] = value;
    }
    return to;
}

static uint64_t answer[PAGE / 8];

uint64_t ghcb_get(unsigned field)
{
    return answer[field / 8];
}

bool ghcb_valid(unsigned field)
{
    return answer[GHCB_VALID / 8 + field / 512] >> (field / 8 % 64) & 1;
}

uint64_t ghcb_exit(uint64_t code, uint64_t info1, uint64_t info2)
{
    ghcb_leave(code, info1, info2);
    for (unsigned i = 0; i < PAGE / 8; i++) {
        answer[i] = peek(GHCB_VA + 8 * i);
    }
    return ghcb_get(GHCB_INFO_1);
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
