/*
 * Find where bytes of given sets follow one another, by skipping: of 16 digits, most memory is left after one byte of
 * 16. Boyer and Moore's search (A Fast String Searching Algorithm, 1977), for sets in place of bytes and with their
 * first rule only.
 *
 * The bytes are compared from the last to the first. A byte that does not fit tells how far to move on: to the next
 * place where it fits, or past it.
 *
 *     memory    . . . . . . x . 1 2 3 4 5 6 7 8 9 . . .
 *                           ^ not a digit: no 16 digits begin at or before it
 */

#include "factors.h"

/* Find the places in [low, high) of `data` where the factor fits. */
void runs_find(const struct factor *factor, const uint8_t *data, uint64_t low, uint64_t high, struct places *found)
{
    const uint64_t size = factor->size;
    const uint8_t *shift = factor->shift, *last = shift + 256 * (size - 1);
    uint64_t at = low;
    while (at + size <= high) {
        const uint8_t *end = data + at + size - 1;
        /* Four places at once, which do not wait for one another: no shift is more than `size`, so all are `size`. */
        if (at + 4 * size <= high && (last[end[0]] & last[end[size]] & last[end[2 * size]] & last[end[3 * size]]) == size) {
            at += 4 * size;
            continue;
        }
        uint64_t place = size, move = 0;
        while (place && !move) {
            place--;
            move = shift[256 * place + data[at + place]];
        }
        if (move) {
            at += move;
            continue;
        }
        uint64_t first = at++;
        while (factor->same && at + size <= high && !last[data[at + size - 1]])
            at++;
        places_add(found, first, at - 1);
    }
}
