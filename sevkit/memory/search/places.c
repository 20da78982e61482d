/* A set of places in searched memory. A search adds places, a check removes some; then they are taken in order. */

#include "places.h"

#include <stdlib.h>
#include <string.h>

/* An empty set for [low, high). Returns whether there was memory for it; only then it must be closed. */
int places_open(struct places *places, uint64_t low, uint64_t high)
{
    uint64_t blocks = (high - low) / BLOCK + 1;
    *places = (struct places){low, high, malloc(blocks * BLOCK / 8), calloc(blocks / 64 + 1, sizeof(uint64_t))};
    if (places->bits && places->used)
        return 1;
    places_close(places);
    return 0;
}

void places_close(struct places *places)
{
    free(places->bits);
    free(places->used);
}

static inline int is_used(const struct places *places, uint64_t block)
{
    return places->used[block / 64] >> block % 64 & 1;
}

/* Bits `from` up to `to`, both included, of a word. */
static inline uint64_t between(uint64_t from, uint64_t to)
{
    return UINT64_MAX << from & UINT64_MAX >> (63 - to);
}

void places_add(struct places *places, uint64_t first, uint64_t last)
{
    for (uint64_t at = first - places->low, end = last - places->low; at <= end; at = (at / 64 + 1) * 64) {
        uint64_t block = at / BLOCK;
        if (!is_used(places, block)) {
            memset(places->bits + block * WORDS, 0, BLOCK / 8);
            places->used[block / 64] |= UINT64_C(1) << block % 64;
        }
        places->bits[at / 64] |= between(at % 64, end / 64 > at / 64 ? 63 : end % 64);
    }
}

void places_remove(struct places *places, uint64_t first, uint64_t last)
{
    for (uint64_t at = first - places->low, end = last - places->low; at <= end; at = (at / 64 + 1) * 64)
        if (is_used(places, at / BLOCK))
            places->bits[at / 64] &= ~between(at % 64, end / 64 > at / 64 ? 63 : end % 64);
}

/* The first place at or after `at`. */
uint64_t places_next(const struct places *places, uint64_t at)
{
    uint64_t words = (places->high - places->low + 63) / 64, word = (at - places->low) / 64;
    uint64_t keep = UINT64_MAX << (at - places->low) % 64;
    for (; word < words; keep = UINT64_MAX) {
        uint64_t block = word / WORDS;
        if (!is_used(places, block)) {
            word = (block + 1) * WORDS;
            continue;
        }
        uint64_t left = places->bits[word] & keep;
        if (left)
            return places->low + word * 64 + (unsigned)__builtin_ctzll(left);
        word++;
    }
    return NO_PLACE;
}

/* The last place before `at`. */
uint64_t places_previous(const struct places *places, uint64_t at)
{
    uint64_t left = at - places->low; /* bits that remain to be looked at */
    while (left) {
        uint64_t word = (left - 1) / 64, block = word / WORDS;
        if (!is_used(places, block)) {
            left = block * BLOCK;
            continue;
        }
        uint64_t bits = places->bits[word] & between(0, (left - 1) % 64);
        if (bits)
            return places->low + word * 64 + 63 - (unsigned)__builtin_clzll(bits);
        left = word * 64;
    }
    return NO_PLACE;
}
