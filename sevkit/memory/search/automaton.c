/*
 * Check the places of a factor of a regular expression: does a match run through it, and where may that start?
 *
 * Glushkov's automaton (The Abstract Theory of Automata, 1961): a state per byte of the expression, as a bit. Of
 * "\w+@\w+\.com", the factor "\w\.com" is searched for; its first byte is state 2:
 *
 *     \w+ @ \w+ \. c o m           follow[0] = {0, 1}    precede[2] = {1, 2}
 *      0  1  2  3  4 5 6           follow[2] = {2, 3}    first = {0}, last = {6}
 *
 * From the first byte of the factor on, the set of possible states is followed to the end of a match and, backwards, to
 * its start. The sets of all places within reach of one another are united, so that no byte is looked at twice: the
 * time is linear, whatever the memory holds. The union, and what the automaton does not know (assertions), let too much
 * through, never too little.
 */

#include "automaton.h"

#include <string.h>

static inline uint64_t next_states(const struct automaton *automaton, uint64_t states, uint8_t byte)
{
    return united(automaton->follow, states) & automaton->fits[byte];
}

/* Remove each place from which no match can go on to its end. */
void automaton_check_ends(const struct automaton *automaton, const uint8_t *data, struct places *places)
{
    uint64_t place = places->low;
    while ((place = places_next(places, place)) != NO_PLACE) {
        /* One group: places that are added to the set of states while it is not empty. */
        uint64_t group = place, latest = place, at = place, states = automaton->at & automaton->fits[data[at]];
        place = places_next(places, place + 1);
        while (states && !(states & automaton->last) && ++at < places->high && at - latest < automaton->longest) {
            states = next_states(automaton, states, data[at]);
            if (at == place) {
                states |= automaton->at & automaton->fits[data[at]];
                latest = place;
                place = places_next(places, place + 1);
            }
        }
        if (!(states & automaton->last))
            places_remove(places, group, latest);
        if (place == NO_PLACE)
            return;
    }
}

/*
 * Find where matches through these places may start, from `low` on, as ranges in order. Returns their number; `room` + 1
 * if there are more than `room`.
 */
uint64_t automaton_starts(const struct automaton *automaton, const uint8_t *data, const struct places *places,
                          uint64_t low, struct range *found, uint64_t room)
{
    uint64_t count = 0, place = places_previous(places, places->high);
    while (place != NO_PLACE) {
        uint64_t latest = place, at = place, states = automaton->at & automaton->fits[data[at]];
        place = places_previous(places, place);
        for (;;) {
            struct range *before = found + room - count; /* from the end of the room to its begin */
            if (states & automaton->first && count && before->first == at + 1) {
                before->first = at;
            } else if (states & automaton->first) {
                if (count++ == room)
                    return room + 1;
                before[-1] = (struct range){at, at, UINT64_MAX};
            }
            if (!states || at == low || latest - at >= automaton->longest)
                break;
            at--;
            states = united(automaton->precede, states) & automaton->fits[data[at]];
            if (at == place) {
                states |= automaton->at & automaton->fits[data[at]];
                latest = place;
                place = places_previous(places, place);
            }
        }
    }
    memmove(found, found + room - count, count * sizeof *found);
    return count;
}

/*
 * Set how far matches reach that start in these ranges, in memory up to `high`. Ranges from where the same bytes are gone
 * through get the farthest place of all of them.
 */
void automaton_reach(const struct automaton *automaton, const uint8_t *data, uint64_t high, struct range *found,
                     uint64_t count)
{
    uint64_t next = 0;
    while (next < count) {
        uint64_t group = next, at = found[next].first, reach = at, states = 0;
        for (; at < high; at++) {
            next += next < count && at > found[next].last;
            int starts = next < count && at >= found[next].first;
            if (!states && !starts)
                break;
            states = next_states(automaton, states, data[at]);
            if (starts)
                states |= automaton->first & automaton->fits[data[at]];
            if (states & automaton->last)
                reach = at + 1;
        }
        if (at == high)
            next = count;
        for (; group < next; group++)
            found[group].reach = reach;
    }
}

/*
 * Whether a match that starts in [first, last] may end beyond `covered`, within the memory up to `high`. If not, and if
 * that is where an earlier match ends, all of them are inside that one.
 */
int automaton_reaches(const struct automaton *automaton, const uint8_t *data, uint64_t first, uint64_t last,
                      uint64_t covered, uint64_t high)
{
    uint64_t states = 0;
    for (uint64_t at = first; at < high && (at <= last || (states && at - last < automaton->longest)); at++) {
        states = next_states(automaton, states, data[at]);
        if (at <= last)
            states |= automaton->first & automaton->fits[data[at]];
        if (states & automaton->last && at >= covered)
            return 1;
    }
    return 0;
}
