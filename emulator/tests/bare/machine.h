/*
 * What a bare guest needs of the machine: addresses, output, exceptions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef BARE_MACHINE_H
#define BARE_MACHINE_H

#define SHARED_ALIAS (1ul << 39)    /* the same guest address, C-bit clear */
#define GHCB_GPA 0x1e0000ul
#define GHCB_VA (GHCB_GPA + SHARED_ALIAS)
#include "../ghcb.h"

static inline uint64_t ghcb_get(unsigned field)
{
    return *(volatile uint64_t *)(ghcb() + field);
}

static inline bool ghcb_valid(unsigned field)
{
    return ghcb()[GHCB_VALID + field / 64] >> field / 8 % 8 & 1;
}

/* Lower half of exit information 1: 0 fine, 1 exception, 2 malformed. */
static inline uint32_t ghcb_result(void)
{
    return ghcb_get(GHCB_INFO_1);
}

/* ---- exceptions ---- */

/*
 * Exceptions that an instruction under test may raise: the handler keeps
 * vector and error code and goes on at @resume.
 */
struct trap {
    uint64_t resume;
    uint64_t vector, error;
    uint64_t count;
};

extern struct trap trap;
void traps_init(void);

#endif /* BARE_MACHINE_H */
