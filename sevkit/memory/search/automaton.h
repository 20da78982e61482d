/* An automaton that accepts at least what a regular expression matches (automaton.c). */

#ifndef SEVKIT_AUTOMATON_H
#define SEVKIT_AUTOMATON_H

#include "find.h"
#include "places.h"

enum { STATES = 64 };

/* As automaton.py packs it. A state is a byte of the expression: bit n of a mask is state n. */
struct automaton {
    uint64_t fits[256];       /* states whose set has this byte */
    uint64_t follow[STATES];  /* states of the next byte */
    uint64_t precede[STATES]; /* states of the byte before */
    uint64_t first, last;     /* states of the first byte of a match, of the last one */
    uint64_t at;              /* states of the first byte of the factor within a match */
    uint64_t longest;         /* bytes of a match */
    uint64_t ends, begins;    /* states that tell something at the end of a page, and at the begin (borders.c) */
};

/* The union of the sets `of` all these states. */
static inline uint64_t united(const uint64_t *of, uint64_t states)
{
    uint64_t all = 0;
    for (; states; states &= states - 1)
        all |= of[__builtin_ctzll(states)];
    return all;
}

void automaton_check_ends(const struct automaton *automaton, const uint8_t *data, struct places *places);
uint64_t automaton_starts(const struct automaton *automaton, const uint8_t *data, const struct places *places,
                          uint64_t low, struct range *found, uint64_t room);
void automaton_reach(const struct automaton *automaton, const uint8_t *data, uint64_t high, struct range *found,
                     uint64_t count);
int automaton_reaches(const struct automaton *automaton, const uint8_t *data, uint64_t first, uint64_t last,
                      uint64_t covered, uint64_t high);

#endif
