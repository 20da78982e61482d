/*
 * Where any of many literals stands in a piece of memory, at the speed at which the memory can be read.
 *
 * Few literals are swept for: two bytes of each, the rarest, are compared at 128 places at once; where both are right a
 * third is, and then the whole.
 *
 * For many, only every `stride`-th place of the memory is looked at. Each literal has a part of stride + gram - 1 bytes;
 * wherever the literal stands, exactly one of the places looked at is among the first `stride` of that part. So the
 * grams (4 or 8 bytes) at those offsets of all parts are kept: first as bits in a map, which turns nearly all places
 * away in five instructions, then in buckets with the literal and the offset that each belongs to. What passes both is
 * compared whole. Every occurrence is thus reported exactly once, overlaps too.
 *
 * Built by hatch_build.py, called by native.py.
 */

#include "find.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* Compiled for the machine at hand as well: its shifts by a variable are half of what the inner loop does. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_MACHINE __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_EACH_MACHINE
#endif

enum { FEWEST = 8 }; /* bits: the smallest map has 256 words */

struct entry {
    uint64_t gram;
    uint32_t literal;
    uint32_t offset; /* of this gram in the literal */
};

struct finder {
    struct finder *next;          /* further literals, for which another method is better */
    unsigned gram, stride, shift; /* stride 0: sweep */
    uint32_t count, longest;
    uint64_t *map;     /* by the hash of a gram; in each word, a bit by its first byte */
    uint32_t *buckets; /* bucket b: entries[buckets[b]] up to entries[buckets[b + 1]] */
    struct entry *entries;
    const uint8_t **values;
    uint32_t *sizes, *numbers; /* under which number each is told */
    uint8_t *bytes;
    uint32_t (*rare)[3]; /* offsets of the three bytes of each literal */
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

static inline uint64_t hash(uint64_t gram, unsigned shift)
{
    return (gram * UINT64_C(0x9E3779B97F4A7C15)) >> shift;
}

/* Where in a literal the part with the most different bytes begins: text that says little stands in many places. */
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
    /* Twice over the same grams: count each bucket, then, from the sums, put every entry into its place. */
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
    for (uint32_t literal = 0; literal < count; literal++)
        for (uint32_t at = starts[literal]; at < starts[literal] + finder->stride; at++) {
            uint64_t gram = load(finder->values[literal] + at, finder->gram);
            uint64_t bucket = hash(gram, finder->shift);
            finder->entries[finder->buckets[bucket + 1]++] = (struct entry){gram, literal, at};
        }
    free(starts);
    return 0;
}

/* How common a byte is in memory, roughly: zeros, then text. */
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
 * `count` literals, one after the other in `bytes`, each at least stride + gram - 1 long; gram is 4 or 8, stride 0
 * for a sweep. Hits tell the literal by its number in `numbers`. What `next` finds is found too; it goes with this one.
 * NULL when there is no memory.
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
    uint64_t core, stop; /* hits end in (core, stop] */
    struct hit *hits;
    uint64_t room, found;
};

static inline void compare(struct search *search, uint32_t literal, uint64_t start)
{
    const struct finder *finder = search->finder;
    if (memcmp(search->data + start, finder->values[literal], finder->sizes[literal]))
        return;
    if (search->found < search->room)
        search->hits[search->found] = (struct hit){start, finder->numbers[literal]};
    search->found++;
}

/* The place `at` passed the map: note what really stands there. */
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

static inline uint64_t passes(const uint64_t *map, unsigned shift, const uint8_t *at, unsigned gram)
{
    uint64_t value = load(at, gram);
    return map[hash(value, shift)] >> value % 64;
}

static inline void walk(struct search *search, uint64_t at, uint64_t end, unsigned gram, uint64_t stride)
{
    const uint64_t *map = search->finder->map;
    const unsigned shift = search->finder->shift;
    const uint8_t *data = search->data;
    while (at < end && search->found <= search->room) {
        if (at + 7 * stride < end) { /* one branch for eight places */
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

/* Look for one literal at the places [at, end); returns where it left off, fewer than SWEEP places before the end. */
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

/* In blocks, so that all but the first literal find the block in the first-level cache. */
static void sweep_all(struct search *search)
{
    const struct finder *finder = search->finder;
    const uint64_t block = finder->count > 1 ? 8192 : search->stop - search->core;
    for (uint64_t low = search->core; low < search->stop; low += block)
        for (uint32_t literal = 0; literal < finder->count; literal++) {
            /* The starts of all that end in (low, high]. */
            uint64_t high = search->stop - low > block ? low + block : search->stop, size = finder->sizes[literal];
            if (size <= high)
                sweep(search, literal, size <= low ? low - size + 1 : 0, high - size + 1);
        }
}

/* Those of the search's own finder, not of those after it. */
FOR_EACH_MACHINE
static void find(struct search *search)
{
    const struct finder *finder = search->finder;
    uint64_t first = search->core >= finder->longest ? search->core - finder->longest + 1 : 0;
    if (!finder->stride)
        sweep_all(search);
    else if (search->stop < finder->gram)
        return;
    else if (finder->gram == 8) /* a constant in each loop */
        walk(search, first, search->stop - 7, 8, finder->stride);
    else
        walk(search, first, search->stop - 3, 4, finder->stride);
}

/*
 * Every place in the memory from `data` on where a literal stands and ends in (core, stop]. Writes at most `room` hits,
 * in no order, and returns how many there are; more than `room` means that it stopped early.
 */
uint64_t sevkit_find(const struct finder *finder, const uint8_t *data, uint64_t core, uint64_t stop, struct hit *hits,
                     uint64_t room)
{
    struct search search = {finder, data, core, stop, hits, room, 0};
    for (; search.finder && search.found <= room; search.finder = search.finder->next)
        find(&search);
    return search.found;
}
