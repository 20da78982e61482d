/*
 * Few literals: a sweep. The two rarest bytes of each literal are compared at 128 positions at once. Where both match,
 * a third byte is compared, and then the whole literal.
 */

#include "literals.h"

#include <stdlib.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

/* Choose the bytes to look for. Returns whether there was memory for that: 0, or -1. */
int sweep_prepare(struct finder *finder)
{
    finder->rare = malloc(finder->count * sizeof *finder->rare);
    if (!finder->rare)
        return -1;
    for (uint32_t literal = 0; literal < finder->count; literal++)
        choose_rare(finder->values[literal], finder->sizes[literal], finder->rare[literal]);
    return 0;
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
void sweep_find(struct search *search)
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
