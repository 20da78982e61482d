/*
 * Find every occurrence of many literals in memory, about as fast as the memory can be read.
 *
 * Few literals: a sweep. The two rarest bytes of each literal are compared at 128 positions at once. Where both match,
 * a third byte is compared, and then the whole literal.
 *
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
 *
 * Built by hatch_build.py, called by native.py. After a change of any of these sources, `SOURCES` in native.py changes
 * too: a library that says another identity is not used.
 */

#include "find.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Multiversioned: on x86-64-v3, BMI2 shifts by a variable make up half of the inner loop. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_EACH_MACHINE
#endif

enum {
    FEWEST = 8,        /* bits of a hash: the smallest map has 256 words */
    CACHED = 256 << 10 /* bytes that are searched for one group of literals after the other */
};

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

void sevkit_finder_free(struct finder *finder)
{
    while (finder) {
        struct finder *next = finder->next;
        sevkit_edges_free(finder->edges);
        free(finder->map);
        free(finder->buckets);
        free(finder->entries);
        free(finder->values);
        free(finder->sizes);
        free(finder->numbers);
        free(finder->bytes);
        free(finder->rare);
        free(finder);
        finder = next;
    }
}

/*
 * Build the map and the buckets. There are at least twice as many buckets as grams, and each map word has 64 bits: at
 * most about 1 in 128 random positions passes the map.
 *
 * A counting sort puts the entries of one bucket next to each other, in one array without lists. buckets[b + 2] counts
 * the grams of bucket b; after the prefix sum, buckets[b + 1] is the first index of bucket b. The second pass advances
 * it with each entry, so that in the end bucket b is entries[buckets[b]] up to entries[buckets[b + 1]].
 */
static int fill(struct finder *finder)
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

/* Roughly how common a byte is in memory: zeros are the most common, then text. */
static unsigned weight(uint8_t byte)
{
    if (byte == 0)
        return 9;
    if (byte == 0xff || byte == ' ' || (byte >= 'a' && byte <= 'z'))
        return 4;
    if (byte < 9 || (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z'))
        return 2;
    return 1;
}

/*
 * Three offsets of the rarest bytes of a literal. A second byte of equal value costs 10 more and the same offset 50
 * more: both tell less about the literal than a different byte does.
 */
static void choose_rare(const uint8_t *value, uint32_t size, uint32_t rare[3])
{
    for (unsigned slot = 0; slot < 3; slot++) {
        unsigned least = 100;
        rare[slot] = 0;
        for (uint32_t at = 0; at < size; at++) {
            unsigned cost = weight(value[at]);
            for (unsigned other = 0; other < slot; other++)
                cost += rare[other] == at ? 50 : 10 * (value[rare[other]] == value[at]);
            if (cost < least) {
                least = cost;
                rare[slot] = at;
            }
        }
    }
}

static int choose(struct finder *finder)
{
    finder->rare = malloc(finder->count * sizeof *finder->rare);
    if (!finder->rare)
        return -1;
    for (uint32_t literal = 0; literal < finder->count; literal++)
        choose_rare(finder->values[literal], finder->sizes[literal], finder->rare[literal]);
    return 0;
}

static void *copy(const void *from, size_t size)
{
    void *to = malloc(size);
    return to ? memcpy(to, from, size) : NULL;
}

/*
 * Prepare a search for `count` literals, which follow one another in `bytes`. gram is 4 or 8; stride 0 selects a sweep,
 * else each literal has at least stride + gram - 1 bytes. Hits name a literal by its number in `numbers`.
 * The new finder also finds what `next` finds, and owns `next`: both are freed together. NULL when out of memory.
 */
struct finder *sevkit_finder_new(struct finder *next, const uint8_t *bytes, const uint32_t *sizes,
                                 const uint32_t *numbers, uint32_t count, unsigned gram, unsigned stride)
{
    struct finder *finder = calloc(1, sizeof *finder);
    if (!finder)
        return NULL;
    uint64_t total = 0;
    for (uint32_t literal = 0; literal < count; literal++) {
        total += sizes[literal];
        if (sizes[literal] > finder->longest)
            finder->longest = sizes[literal];
    }
    finder->count = count;
    finder->gram = gram;
    finder->stride = stride;
    finder->bytes = copy(bytes, total);
    finder->sizes = copy(sizes, count * sizeof *sizes);
    finder->numbers = copy(numbers, count * sizeof *numbers);
    finder->values = malloc(count * sizeof *finder->values);
    if (finder->bytes && finder->sizes && finder->numbers && finder->values) {
        const uint8_t *at = finder->bytes;
        for (uint32_t literal = 0; literal < count; at += sizes[literal++])
            finder->values[literal] = at;
        if ((stride ? fill(finder) : choose(finder)) == 0) {
            finder->next = next;
            return finder;
        }
    }
    sevkit_finder_free(finder);
    return NULL;
}

/*
 * Let `finder` also find the literals that the border of two pages cuts (edges.c): all `count` of them, as hits name
 * them. Returns whether there was memory for that.
 */
int sevkit_finder_cut(struct finder *finder, const uint8_t *bytes, const uint32_t *sizes, uint32_t count)
{
    finder->edges = sevkit_edges_new(bytes, sizes, count);
    return finder->edges != NULL;
}

uint32_t sevkit_longest(const struct finder *finder)
{
    uint32_t longest = 0;
    for (; finder; finder = finder->next)
        if (finder->longest > longest)
            longest = finder->longest;
    return longest;
}

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

#if defined(__x86_64__)
#define SWEEP 128

static inline __m256i __attribute__((target("avx2"))) equal(const uint8_t *at, __m256i byte)
{
    return _mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)at), byte);
}

/*
 * Search for one literal at the start positions [at, end), 128 at a time. Returns the first position not examined,
 * fewer than SWEEP before the end. Each vector compares 32 bytes: byte i of `right[part]` is 0xff if both rare bytes
 * match for a literal that starts at `here + 32 * part + i`. movemask turns these into 32 bits; `mask & (mask - 1)`
 * clears the lowest set bit. No load goes beyond the memory: a whole literal fits after every position in [at, end).
 */
static uint64_t __attribute__((target("avx2"))) sweep_wide(struct search *search, uint32_t literal, uint64_t at,
                                                           uint64_t end)
{
    const uint8_t *value = search->finder->values[literal];
    const uint32_t *rare = search->finder->rare[literal];
    const __m256i first = _mm256_set1_epi8((char)value[rare[0]]), second = _mm256_set1_epi8((char)value[rare[1]]),
                  third = _mm256_set1_epi8((char)value[rare[2]]);
    for (; at + SWEEP <= end && search->found <= search->room; at += SWEEP) {
        const uint8_t *here = search->data + at;
        __m256i right[SWEEP / 32];
        for (unsigned part = 0; part < SWEEP / 32; part++)
            right[part] = _mm256_and_si256(equal(here + 32 * part + rare[0], first),
                                           equal(here + 32 * part + rare[1], second));
        __m256i any = _mm256_or_si256(_mm256_or_si256(right[0], right[1]), _mm256_or_si256(right[2], right[3]));
        if (_mm256_testz_si256(any, any))
            continue;
        for (unsigned part = 0; part < SWEEP / 32; part++) {
            right[part] = _mm256_and_si256(right[part], equal(here + 32 * part + rare[2], third));
            for (uint32_t mask = (uint32_t)_mm256_movemask_epi8(right[part]); mask; mask &= mask - 1)
                compare(search, literal, at + 32 * part + (unsigned)__builtin_ctz(mask));
        }
    }
    return at;
}
#endif

/* One literal at the start positions [at, end): with AVX2 if the CPU has it; the rest by memchr for its rarest byte. */
static void sweep(struct search *search, uint32_t literal, uint64_t at, uint64_t end)
{
    const uint8_t *value = search->finder->values[literal];
    const uint32_t rare = search->finder->rare[literal][0];
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2"))
        at = sweep_wide(search, literal, at, end);
#endif
    while (at < end && search->found <= search->room) {
        const uint8_t *next = memchr(search->data + at + rare, value[rare], end - at);
        if (!next)
            return;
        at = (uint64_t)(next - search->data) - rare;
        compare(search, literal, at++);
    }
}

/*
 * Sweep for all literals, block by block: the first literal loads a block of 8 KiB into the first-level cache, and the
 * others read it from there. A literal belongs to the block in which it ends, so none is reported twice.
 */
static void sweep_all(struct search *search)
{
    const struct finder *finder = search->finder;
    const uint64_t block = finder->count > 1 ? 8192 : search->stop - search->core;
    for (uint64_t low = search->core; low < search->stop; low += block)
        for (uint32_t literal = 0; literal < finder->count; literal++) {
            /* A literal that ends in (low, high] starts in [low - size + 1, high - size + 1). */
            uint64_t high = search->stop - low > block ? low + block : search->stop, size = finder->sizes[literal];
            if (size <= high)
                sweep(search, literal, size <= low ? low - size + 1 : 0, high - size + 1);
        }
}

/*
 * Search for the literals of one finder of the list. The first position is the earliest start of a literal that ends
 * after `core`; from there every `stride`-th position is examined.
 */
FOR_EACH_MACHINE
static void find(struct search *search)
{
    const struct finder *finder = search->finder;
    uint64_t first = search->core >= finder->longest ? search->core - finder->longest + 1 : 0;
    if (!finder->stride)
        sweep_all(search);
    else if (search->stop < finder->gram)
        return;
    else if (finder->gram == 8) /* two calls, so that the compiler inlines `walk` with a constant gram */
        walk(search, first, search->stop - 7, 8, finder->stride);
    else
        walk(search, first, search->stop - 3, 4, finder->stride);
}

/* Search for all literals that end in (core, stop] of `search`, also for those that the border of two pages cuts. */
static void find_all(struct search *search, const struct finder *finder, uint64_t page)
{
    for (search->finder = finder; search->finder && search->found <= search->room; search->finder = search->finder->next) {
        find(search);
        if (search->finder->edges && search->found <= search->room)
            search->found += sevkit_edges_find(search->finder->edges, search->data, search->core, search->stop, page,
                                               search->hits + search->found, search->room - search->found);
    }
}

/*
 * Find every literal in the memory at `data` that ends in (core, stop]. Writes at most `room` hits, in no particular
 * order, and returns the number of hits; a number larger than `room` means that the search stopped early. `page` is the
 * offset in `data` of the first border of a page, for literals that such a border cuts. The memory is searched in parts
 * that stay in the second-level cache: each is looked at several times.
 */
uint64_t sevkit_find(const struct finder *finder, const uint8_t *data, uint64_t core, uint64_t stop, uint64_t page,
                     struct hit *hits, uint64_t room)
{
    struct search search = {finder, data, core, stop, hits, room, 0};
    for (uint64_t low = core; low < stop && search.found <= room; low += CACHED) {
        search.core = low;
        search.stop = stop - low > CACHED ? low + CACHED : stop;
        find_all(&search, finder, page);
    }
    return search.found;
}

#ifndef SEVKIT_SOURCES
#define SEVKIT_SOURCES "" /* compiled in another way than by hatch_build.py: native.py does not use it */
#endif

/* The identity of the sources that this library was built from. */
const char *sevkit_sources(void)
{
    return SEVKIT_SOURCES;
}
