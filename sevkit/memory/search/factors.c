/*
 * Find where the byte sets of a factor follow one another, by its most selective places: of "\d\d\d-\d\d-", the two
 * hyphens are compared at 128 positions at once, and where both stand, two digits, and then all of it.
 *
 * A set of one byte is compared. Another set is looked up by the two halves of a byte, with one shuffle each: the 16
 * rows of a table of all bytes, by upper half, have few different contents. Each content gets a bit:
 *
 *     [0-9A-Za-z]   row 3 has columns 0 to 9          bit 0     'k' is in row 6 and column b: low[0xb] has bit 1,
 *                   rows 4 and 6 columns 1 to f       bit 1     high[6] is bit 1, so 'k' is in the set
 *                   rows 5 and 7 columns 0 to a       bit 2
 *
 * With more than seven contents the last ones share a bit, and the test lets more through than the set has.
 */

#include "factors.h"

#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { KINDS = 7 }; /* contents of rows that are told apart */

static int has(const uint8_t *set, unsigned byte)
{
    return set[byte / 8] >> byte % 8 & 1;
}

static void fill_test(struct test *test, const uint8_t *set, uint32_t place)
{
    uint16_t contents[KINDS] = {0};
    unsigned kinds = 0, members = 0;
    *test = (struct test){.place = place};
    memset(test->high, 0xff, sizeof test->high); /* of a row without content: no column has all bits */
    for (unsigned row = 0; row < 16; row++) {
        uint16_t content = (uint16_t)(set[2 * row] | set[2 * row + 1] << 8);
        unsigned kind = 0;
        if (!content)
            continue;
        while (kind < kinds && contents[kind] != content)
            kind++;
        if (kind == KINDS)
            kind--;
        else if (kind == kinds)
            kinds++;
        contents[kind] |= content;
        test->high[row] = (uint8_t)(1 << kind);
    }
    for (unsigned column = 0; column < 16; column++)
        for (unsigned kind = 0; kind < kinds; kind++)
            test->low[column] |= (uint8_t)((contents[kind] >> column & 1) << kind);
    for (unsigned byte = 0; byte < 256; byte++)
        if (has(set, byte)) {
            members++;
            test->byte = (uint8_t)byte;
        }
    test->single = members == 1;
}

/*
 * For each byte and place: 0 if it fits there, else the way back to the nearest place where it does, or to before all
 * places.
 */
static int fill_shift(struct factor *factor, const uint8_t *sets)
{
    factor->shift = malloc((uint64_t)256 * factor->size);
    if (!factor->shift)
        return 0;
    for (uint32_t place = 0; place < factor->size; place++)
        for (unsigned byte = 0; byte < 256; byte++) {
            uint32_t back = 0;
            while (back <= place && !has(sets + 32 * (place - back), byte))
                back++;
            factor->shift[256 * (uint64_t)place + byte] = (uint8_t)back;
        }
    return 1;
}

/*
 * Prepare a factor of `size` sets, 32 bytes each: bit b % 8 of byte b / 8 says whether b is in the set. `places`: the
 * places to test first. With `skip`, it is searched for by runs.c. Returns whether there was memory for it.
 */
int factor_fill(struct factor *factor, const uint8_t *sets, uint32_t size, const uint8_t *places, uint32_t tests,
                int skip)
{
    factor->size = size;
    factor->tests = tests;
    factor->same = 1;
    for (uint32_t place = 0; place < size; place++) {
        factor->same &= !memcmp(sets, sets + 32 * (uint64_t)place, 32);
        for (unsigned byte = 0; byte < 256; byte++)
            factor->fits[byte] |= (uint64_t)has(sets + 32 * (uint64_t)place, byte) << place;
    }
    for (uint32_t test = 0; test < tests; test++)
        fill_test(&factor->test[test], sets + 32 * (uint64_t)places[test], places[test]);
    return !skip || fill_shift(factor, sets);
}

void factor_clear(struct factor *factor)
{
    free(factor->shift);
}

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx2")))

struct vectors {
    __m256i byte, low, high;
};

static inline WIDE struct vectors vectors_of(const struct test *test)
{
    __m128i low = _mm_loadu_si128((const __m128i *)test->low), high = _mm_loadu_si128((const __m128i *)test->high);
    return (struct vectors){_mm256_set1_epi8((char)test->byte), _mm256_broadcastsi128_si256(low),
                            _mm256_broadcastsi128_si256(high)};
}

/* Byte i of the result is 0xff if byte i at `at` passes the test, else 0. */
static inline __attribute__((always_inline)) WIDE __m256i passes(const uint8_t *at, struct vectors test, int single)
{
    __m256i bytes = _mm256_loadu_si256((const __m256i *)at), half = _mm256_set1_epi8(15);
    if (single)
        return _mm256_cmpeq_epi8(bytes, test.byte);
    __m256i low = _mm256_shuffle_epi8(test.low, _mm256_and_si256(bytes, half));
    __m256i high = _mm256_shuffle_epi8(test.high, _mm256_and_si256(_mm256_srli_epi16(bytes, 4), half));
    return _mm256_cmpeq_epi8(_mm256_and_si256(low, high), high);
}

/* 32 positions that passed the first tests: the others, then all of the factor. */
static WIDE void examine(const struct factor *factor, const uint8_t *data, uint64_t at, __m256i right,
                         struct places *found)
{
    for (uint32_t number = 2; number < factor->tests; number++) {
        const struct test *test = &factor->test[number];
        right = _mm256_and_si256(right, passes(data + at + test->place, vectors_of(test), test->single));
    }
    for (uint32_t mask = (uint32_t)_mm256_movemask_epi8(right); mask; mask &= mask - 1) {
        uint64_t place = at + (unsigned)__builtin_ctz(mask);
        if (factor_fits(factor, data + place))
            places_add(found, place, place);
    }
}

/*
 * Examine the positions [at, end), 128 at a time; returns the first that was not, fewer than 128 before the end. The
 * first `tests` tests are made at all of them; of these, `singles` are for one byte.
 */
static inline __attribute__((always_inline)) WIDE uint64_t sweep(const struct factor *factor, const uint8_t *data,
                                                                 uint64_t at, uint64_t end, struct places *found,
                                                                 unsigned tests, unsigned singles)
{
    struct vectors vectors[3];
    for (unsigned test = 0; test < tests; test++)
        vectors[test] = vectors_of(&factor->test[test]);
    for (; at + 128 <= end; at += 128) {
        __m256i right[4];
        for (unsigned part = 0; part < 4; part++) {
            right[part] = passes(data + at + 32 * part + factor->test[0].place, vectors[0], singles > 0);
            for (unsigned test = 1; test < tests; test++)
                right[part] &= passes(data + at + 32 * part + factor->test[test].place, vectors[test], singles > test);
        }
        __m256i any = right[0] | right[1] | right[2] | right[3];
        if (_mm256_testz_si256(any, any))
            continue;
        for (unsigned part = 0; part < 4; part++)
            if (!_mm256_testz_si256(right[part], right[part]))
                examine(factor, data, at + 32 * part, right[part], found);
    }
    return at;
}

/* The tests for one byte come first. A third one costs hardly anything, and saves what the first two let through. */
static WIDE uint64_t sweep_wide(const struct factor *factor, const uint8_t *data, uint64_t at, uint64_t end,
                                struct places *found)
{
    const struct test *test = factor->test;
    if (factor->tests > 2 && test[0].single && test[1].single && test[2].single)
        return sweep(factor, data, at, end, found, 3, 3);
    if (test[0].single && test[1].single)
        return sweep(factor, data, at, end, found, 2, 2);
    if (test[0].single)
        return sweep(factor, data, at, end, found, 2, 1);
    return sweep(factor, data, at, end, found, 2, 0);
}
#endif

/* Find all places of the factor in [low, high): with AVX2 if the CPU has it; the rest, or all, byte by byte. */
void factor_find(const struct factor *factor, const uint8_t *data, uint64_t low, uint64_t high, struct places *found)
{
    if (factor->shift) {
        runs_find(factor, data, low, high, found);
        return;
    }
    if (high - low < factor->size)
        return;
    uint64_t at = low, end = high - factor->size + 1;
#if defined(__x86_64__)
    if (factor->tests > 1 && __builtin_cpu_supports("avx2"))
        at = sweep_wide(factor, data, at, end, found);
#endif
    const struct test *rarest = &factor->test[0];
    while (at < end) {
        if (factor->tests && rarest->single) {
            const uint8_t *next = memchr(data + at + rarest->place, rarest->byte, end - at);
            if (!next)
                return;
            at = (uint64_t)(next - data) - rarest->place;
        }
        if (factor_fits(factor, data + at))
            places_add(found, at, at);
        at++;
    }
}
