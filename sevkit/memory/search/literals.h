/* What the two methods of find.c share: a prepared set of literals, and a search for them (sweep.c, sampling.c). */

#ifndef SEVKIT_LITERALS_H
#define SEVKIT_LITERALS_H

#include "find.h"

#include <string.h>

struct entry {
    uint64_t gram;
    uint32_t literal;
    uint32_t offset; /* of this gram within the literal */
};

struct finder {
    struct edges *edges;          /* the same literals where a page border cuts them; NULL if not searched for */
    struct finder *next;          /* more literals, searched for with another gram, stride or method */
    unsigned gram, stride, shift; /* stride 0: sweep */
    uint32_t count, longest;
    uint64_t *map;     /* bitmap: the word is chosen by the gram's hash, the bit by the low 6 bits of its first byte */
    uint32_t *buckets; /* bucket b: entries[buckets[b]] up to entries[buckets[b + 1]] */
    struct entry *entries;
    const uint8_t **values;
    uint32_t *sizes, *numbers; /* numbers: how hits name each literal */
    uint8_t *bytes;
    uint32_t (*rare)[3]; /* sweep: offsets of the three rarest bytes of each literal */
};

struct search {
    const struct finder *finder;
    const uint8_t *data;
    uint64_t core, stop; /* a hit is reported if its end is in (core, stop]; the bytes before core are context */
    struct hit *hits;
    uint64_t room, found;
};

/* Compare the whole literal at `start`, and record a hit. Counts hits that find no room, too: the caller then stops. */
static inline void compare(struct search *search, uint32_t literal, uint64_t start)
{
    const struct finder *finder = search->finder;
    if (memcmp(search->data + start, finder->values[literal], finder->sizes[literal]))
        return;
    if (search->found < search->room)
        search->hits[search->found] = (struct hit){start, finder->numbers[literal]};
    search->found++;
}

int sweep_prepare(struct finder *finder);
void sweep_find(struct search *search);
int sampling_prepare(struct finder *finder);
void sampling_find(struct search *search);

#endif
