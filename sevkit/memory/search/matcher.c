/*
 * Find where matches of a regular expression may start. Python's engine then tries only these places.
 *
 * 1. Each match contains a factor, or one of several: they are found by the rarest bytes (factors.c), by skipping
 *    (runs.c) or, if they are literals, by the search for these (find.c).
 * 2. From each place of a factor an automaton goes on to the end of the match, then back to its start (automaton.c).
 *    If the expression is not understood that far, each place within reach of the factor is a possible start.
 */

#include "automaton.h"
#include "factors.h"

#include <stdlib.h>
#include <string.h>

struct matcher {
    const struct finder *finder; /* of the literals; NULL: `factors` */
    struct automaton *automaton; /* NULL: a factor is `least` to `most` bytes behind the start of a match */
    uint64_t least, most;
    uint32_t count;
    struct factor factors[];
};

void sevkit_matcher_free(struct matcher *matcher)
{
    if (!matcher)
        return;
    for (uint32_t number = 0; number < matcher->count; number++)
        factor_clear(&matcher->factors[number]);
    free(matcher->automaton);
    free(matcher);
}

/*
 * Prepare the search for `count` factors: of factor n, `sizes[n]` sets of 32 bytes follow those of the one before in
 * `sets`; tests[TESTS * n] and the following are the places to test first, up to one that is not in it; skip[n] asks for
 * runs.c. If `finder` is given it finds the factors instead; it must live as long. NULL when out of memory.
 */
struct matcher *sevkit_matcher_new(const uint8_t *sets, const uint32_t *sizes, const uint8_t *tests, const uint8_t *skip,
                                   uint32_t count, const struct finder *finder, const struct automaton *automaton,
                                   uint64_t least, uint64_t most)
{
    struct matcher *matcher = calloc(1, sizeof *matcher + count * sizeof *matcher->factors);
    if (!matcher)
        return NULL;
    matcher->finder = finder;
    matcher->least = least;
    matcher->most = most;
    for (; matcher->count < count; sets += 32 * (uint64_t)*sizes, sizes++, tests += TESTS, skip++) {
        uint32_t given = 0;
        while (given < TESTS && tests[given] < *sizes)
            given++;
        if (!factor_fill(&matcher->factors[matcher->count++], sets, *sizes, tests, given, *skip)) {
            sevkit_matcher_free(matcher);
            return NULL;
        }
    }
    if (automaton && (matcher->automaton = malloc(sizeof *automaton)))
        memcpy(matcher->automaton, automaton, sizeof *automaton);
    return matcher;
}

/* Add the places of the literals; returns 0 if there are more than `most`, or no memory. */
static int literals(const struct matcher *matcher, const uint8_t *data, uint64_t low, uint64_t high, uint64_t most,
                    struct places *places)
{
    struct hit *hits = malloc((most + 1) * sizeof *hits);
    if (!hits)
        return 0;
    uint64_t found = sevkit_find(matcher->finder, data, low, high, 0, hits, most);
    for (uint64_t hit = 0; hit < found && hit < most; hit++)
        if (hits[hit].start >= low)
            places_add(places, hits[hit].start, hits[hit].start);
    free(hits);
    return found <= most;
}

/* Each place from `least` to `most` bytes before these, from `low` on, as ranges in order. */
static uint64_t reach(const struct matcher *matcher, const struct places *places, uint64_t low, struct range *found,
                      uint64_t room)
{
    uint64_t count = 0, place = low;
    while ((place = places_next(places, place)) != NO_PLACE) {
        uint64_t into = place++ - low;
        if (into < matcher->least)
            continue;
        struct range range = {into > matcher->most ? low + into - matcher->most : low, low + into - matcher->least,
                              UINT64_MAX};
        if (count && range.first <= found[count - 1].last + 1)
            found[count - 1].last = range.last;
        else if (count == room)
            return room + 1;
        else
            found[count++] = range;
    }
    return count;
}

/*
 * Find where matches may start that lie in [low, high) of `data`, as ranges in order. Writes at most `room` ranges and
 * returns their number; more than `room`: they are too many, or there was no memory.
 */
uint64_t sevkit_matcher_starts(const struct matcher *matcher, const uint8_t *data, uint64_t low, uint64_t high,
                               struct range *found, uint64_t room)
{
    struct places places;
    if (low >= high)
        return 0;
    if (!places_open(&places, low, high))
        return room + 1;
    uint64_t count = room + 1;
    if (!matcher->finder)
        for (uint32_t number = 0; number < matcher->count; number++)
            factor_find(&matcher->factors[number], data, low, high, &places);
    if (!matcher->finder || literals(matcher, data, low, high, room, &places)) {
        if (matcher->automaton) {
            automaton_check_ends(matcher->automaton, data, &places);
            count = automaton_starts(matcher->automaton, data, &places, low, found, room);
            if (count <= room)
                automaton_reach(matcher->automaton, data, high, found, count);
        } else {
            count = reach(matcher, &places, low, found, room);
        }
    }
    places_close(&places);
    return count;
}

/* Whether a match that starts in [first, last] may end beyond `covered`; the memory ends at `high`. */
int sevkit_matcher_reaches(const struct matcher *matcher, const uint8_t *data, uint64_t first, uint64_t last,
                           uint64_t covered, uint64_t high)
{
    return !matcher->automaton || automaton_reaches(matcher->automaton, data, first, last, covered, high);
}
