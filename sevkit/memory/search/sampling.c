/*
 * Many literals: sampling. Only every `stride`-th position of the memory is examined. A part of stride + gram - 1 bytes
 * is chosen from each literal; the grams (4 or 8 bytes) at the first `stride` offsets of the part go into a table.
 * Wherever the literal occurs, exactly one of the examined positions is at one of these offsets. Example, gram 4 and
 * stride 3, part "abcdef":
 *
 *     memory      . . . . a b c d e f . .        the table holds "abcd", "bcde" and "cdef"
 *     examined    ^     ^     ^     ^            the third one reads "cdef", offset 2: the part starts 2 bytes before
 *
 * The table has two levels. A bitmap rejects nearly all positions in five instructions. Buckets then give the literal
 * and the offset of the gram, and the whole literal is compared. So each occurrence is reported exactly once, and
 * overlapping ones are all found.
 */

#include "literals.h"

#include <stdlib.h>

/* Multiversioned: on x86-64-v3, BMI2 shifts by a variable make up half of the inner loop. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_EACH_MACHINE
#endif

enum { FEWEST = 8 }; /* bits of a hash: the smallest map has 256 words */

static inline uint64_t load(const uint8_t *at, unsigned gram)
{
    if (gram == 8) {
        uint64_t wide;
        memcpy(&wide, at, 8);
        return wide;
    }
    uint32_t narrow;
    memcpy(&narrow, at, 4);
    return narrow;
}

/* Multiplicative hash: the upper bits of the product depend on all bits of the gram. */
static inline uint64_t hash(uint64_t gram, unsigned shift)
{
    return (gram * UINT64_C(0x9E3779B97F4A7C15)) >> shift;
}

/*
 * The start of the part (`part` bytes) of a literal that has the most distinct byte values. A part such as "0000"
 * occurs in many places of the memory and would pass the map too often. `counts` is the histogram of a sliding window:
 * one byte enters at `at`, one leaves at `at - part`; `kinds` is the number of distinct values in the window.
 */
static uint32_t best_part(const uint8_t *value, uint32_t size, uint32_t part)
{
    uint32_t counts[256] = {0}, kinds = 0, most = 0, best = 0;
    for (uint32_t at = 0; at < size; at++) {
        kinds += counts[value[at]]++ == 0;
        if (at >= part)
            kinds -= --counts[value[at - part]] == 0;
        if (at + 1 >= part && kinds > most) {
            most = kinds;
            best = at + 1 - part;
        }
    }
    return best;
}

/*
 * Build the map and the buckets; returns 0, or -1 if there is no memory for them. There are at least twice as many buckets as grams, and each map word has 64 bits: at
 * most about 1 in 128 random positions passes the map.
 *
 * A counting sort puts the entries of one bucket next to each other, in one array without lists. buckets[b + 2] counts
 * the grams of bucket b; after the prefix sum, buckets[b + 1] is the first index of bucket b. The second pass advances
 * it with each entry, so that in the end bucket b is entries[buckets[b]] up to entries[buckets[b + 1]].
 */
int sampling_prepare(struct finder *finder)
{
    const uint32_t count = finder->count;
    uint64_t total = (uint64_t)count * finder->stride;
    unsigned bits = FEWEST;
    while (UINT64_C(1) << bits < 2 * total)
        bits++;
    uint64_t buckets = UINT64_C(1) << bits;
    finder->shift = 64 - bits;
    finder->map = calloc(buckets, sizeof *finder->map);
    finder->buckets = calloc(buckets + 2, sizeof *finder->buckets);
    finder->entries = malloc(total * sizeof *finder->entries);
    uint32_t *starts = malloc(count * sizeof *starts);
    if (!finder->map || !finder->buckets || !finder->entries || !starts) {
        free(starts);
        return -1;
    }
    /* First pass: set the bits of the map, and count the grams per bucket. */
    for (uint32_t literal = 0; literal < count; literal++) {
        starts[literal] = best_part(finder->values[literal], finder->sizes[literal], finder->stride + finder->gram - 1);
        for (uint32_t at = starts[literal]; at < starts[literal] + finder->stride; at++) {
            uint64_t gram = load(finder->values[literal] + at, finder->gram);
            uint64_t bucket = hash(gram, finder->shift);
            finder->map[bucket] |= UINT64_C(1) << gram % 64;
            finder->buckets[bucket + 2]++;
        }
    }
    for (uint64_t bucket = 2; bucket < buckets + 2; bucket++)
        finder->buckets[bucket] += finder->buckets[bucket - 1];
    /* Second pass over the same grams: place every entry. */
    for (uint32_t literal = 0; literal < count; literal++)
        for (uint32_t at = starts[literal]; at < starts[literal] + finder->stride; at++) {
            uint64_t gram = load(finder->values[literal] + at, finder->gram);
            uint64_t bucket = hash(gram, finder->shift);
            finder->entries[finder->buckets[bucket + 1]++] = (struct entry){gram, literal, at};
        }
    free(starts);
    return 0;
}

/*
 * Position `at` passed the map: record the literals that really occur there. The gram at `at` is `offset` bytes into
 * the literal, so the literal starts at `at - offset`.
 */
static void examine(struct search *search, uint64_t at, unsigned gram)
{
    const struct finder *finder = search->finder;
    uint64_t value = load(search->data + at, gram);
    uint64_t bucket = hash(value, finder->shift);
    for (uint32_t index = finder->buckets[bucket]; index < finder->buckets[bucket + 1]; index++) {
        const struct entry *entry = &finder->entries[index];
        if (entry->gram != value || entry->offset > at)
            continue;
        uint64_t start = at - entry->offset, size = finder->sizes[entry->literal];
        if (start + size > search->core && start + size <= search->stop)
            compare(search, entry->literal, start);
    }
}

/* Bit 0 of the result is 1 if the gram at `at` may belong to a literal. The other bits have no meaning. */
static inline uint64_t passes(const uint64_t *map, unsigned shift, const uint8_t *at, unsigned gram)
{
    uint64_t value = load(at, gram);
    return map[hash(value, shift)] >> value % 64;
}

/*
 * Examine every `stride`-th position in [at, end). Almost no position passes the map, so eight positions are tested
 * with one branch; only if one of them passes are they tested one by one.
 */
static inline void walk(struct search *search, uint64_t at, uint64_t end, unsigned gram, uint64_t stride)
{
    const uint64_t *map = search->finder->map;
    const unsigned shift = search->finder->shift;
    const uint8_t *data = search->data;
    while (at < end && search->found <= search->room) {
        if (at + 7 * stride < end) {
            uint64_t any = 0;
            for (unsigned step = 0; step < 8; step++)
                any |= passes(map, shift, data + at + step * stride, gram);
            if (!(any & 1)) {
                at += 8 * stride;
                continue;
            }
        }
        for (unsigned step = 0; step < 8 && at < end; step++, at += stride)
            if (passes(map, shift, data + at, gram) & 1)
                examine(search, at, gram);
    }
}

/*
 * Search for the literals of one finder of the list. The first position is the earliest start of a literal that ends
 * after `core`; from there every `stride`-th position is examined.
 */
FOR_EACH_MACHINE
void sampling_find(struct search *search)
{
    const struct finder *finder = search->finder;
    uint64_t first = search->core >= finder->longest ? search->core - finder->longest + 1 : 0;
    if (search->stop < finder->gram)
        return;
    if (finder->gram == 8) /* two calls, so that the compiler inlines `walk` with a constant gram */
        walk(search, first, search->stop - 7, 8, finder->stride);
    else
        walk(search, first, search->stop - 3, 4, finder->stride);
}
