/*
 * Find parts of a match of a regular expression at the borders of pages: what edges.c does for literals.
 *
 * A match that a border cuts goes from a state to a following one there. For each such pair of states, the part of the
 * match that tells more is looked for (automaton.py): the first one at the end of a page, or the last one at the begin.
 *
 *     \d{3}-\d{2}-\d{4}    cut after 4 bytes: "12-1234" at the begin of a page; after 8 bytes: "123-12-1" at the end
 */

#include "automaton.h"

enum { PAGE = 4096, LONGEST = 64 /* bytes of a part that are looked at, as in automaton.py */ };

/* The bytes before `border` that may begin a match and go on behind it; 0 if there are none. */
static uint64_t before(const struct automaton *automaton, const uint8_t *data, uint64_t border)
{
    uint64_t states = automaton->ends, at = border;
    while (at && border - at < LONGEST) {
        at--;
        states = (at == border - 1 ? states : united(automaton->precede, states)) & automaton->fits[data[at]];
        if (!states)
            return 0;
        if (states & automaton->first)
            return border - at;
    }
    return 0;
}

/* The bytes from `border` on that may end a match that began before it; 0 if there are none. */
static uint64_t behind(const struct automaton *automaton, const uint8_t *data, uint64_t border, uint64_t high)
{
    uint64_t states = automaton->begins;
    for (uint64_t at = border; at < high && at - border < LONGEST; at++) {
        states = (at == border ? states : united(automaton->follow, states)) & automaton->fits[data[at]];
        if (!states)
            return 0;
        if (states & automaton->last)
            return at + 1 - border;
    }
    return 0;
}

/*
 * Find parts of matches at the borders of pages: at byte `page` and each PAGE bytes further, up to `stop`; the memory
 * ends at `high`. A hit has the border as `start`, and as `literal` the number of bytes; those behind the border are
 * counted as negative. Returns the number of hits, at most `room`, which should be two per page.
 */
uint64_t sevkit_borders(const struct automaton *automaton, const uint8_t *data, uint64_t page, uint64_t stop,
                        uint64_t high, struct hit *hits, uint64_t room)
{
    uint64_t count = 0;
    for (; page <= stop && count + 2 <= room; page += PAGE) {
        uint64_t size = before(automaton, data, page);
        if (size)
            hits[count++] = (struct hit){page, size};
        size = behind(automaton, data, page, high);
        if (size)
            hits[count++] = (struct hit){page, -size};
    }
    return count;
}
