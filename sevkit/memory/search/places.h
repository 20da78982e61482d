/* A set of places in searched memory, as one bit per byte of it (places.c). */

#ifndef SEVKIT_PLACES_H
#define SEVKIT_PLACES_H

#include <stdint.h>

#define NO_PLACE UINT64_MAX

/*
 * The bits of BLOCK places are valid only if `used` has a bit for them: so nothing is cleared, and hardly anything is
 * looked at, where there are no places.
 */
enum { BLOCK = 4096, WORDS = BLOCK / 64 };

struct places {
    uint64_t low, high; /* all places are in [low, high) */
    uint64_t *bits, *used;
};

int places_open(struct places *places, uint64_t low, uint64_t high);
void places_close(struct places *places);
void places_add(struct places *places, uint64_t first, uint64_t last);
void places_remove(struct places *places, uint64_t first, uint64_t last);
uint64_t places_next(const struct places *places, uint64_t at);
uint64_t places_previous(const struct places *places, uint64_t at);

#endif
