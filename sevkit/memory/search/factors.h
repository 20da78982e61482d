/* A factor: a sequence of byte sets that each match of a regular expression contains (factors.c, runs.c). */

#ifndef SEVKIT_FACTORS_H
#define SEVKIT_FACTORS_H

#include "places.h"

enum { TESTS = 4, LONGEST_FACTOR = 64 };

/* A test of one place of the factor, for 16 bytes or more at once. */
struct test {
    uint32_t place;
    int single;   /* the set has one byte, `byte` */
    uint8_t byte;
    uint8_t low[16], high[16]; /* byte b is in the set only if low[b & 15] & high[b >> 4] */
};

struct factor {
    uint32_t size, tests;
    struct test test[TESTS]; /* the most selective first */
    uint64_t fits[256];      /* bit p: the byte fits at place p */
    uint8_t *shift;          /* how far to move on (runs.c); NULL: search by the tests */
    int same;                /* all places have the same set */
};

int factor_fill(struct factor *factor, const uint8_t *sets, uint32_t size, const uint8_t *places, uint32_t tests,
                int skip);
void factor_clear(struct factor *factor);
void factor_find(const struct factor *factor, const uint8_t *data, uint64_t low, uint64_t high, struct places *found);
void runs_find(const struct factor *factor, const uint8_t *data, uint64_t low, uint64_t high, struct places *found);

static inline int factor_fits(const struct factor *factor, const uint8_t *at)
{
    for (uint32_t place = 0; place < factor->size; place++)
        if (!(factor->fits[at[place]] >> place & 1))
            return 0;
    return 1;
}

#endif
