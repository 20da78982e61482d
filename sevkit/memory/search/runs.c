/*
 * Find where bytes of given sets follow one another: a digit, three times, then a hyphen. Boyer and Moore's search (A Fast
 * String Searching Algorithm, 1977), for sets in place of bytes and with their first rule only.
 *
 * The bytes are compared from the last to the first. A byte that does not fit tells how far to move on: to the next
 * place where it fits, or past it. For 16 digits, most memory is left after one byte of 16 was examined:
 *
 *     memory    . . . . . . x . 1 2 3 4 5 6 7 8 9 . . .
 *                           ^ not a digit: no 16 digits begin at or before it
 */

#include "find.h"

/*
 * Find the places in [low, high) of `data` where `size` bytes fit. shift[256 * place + byte] is 0 if the byte fits at
 * that place, else how far to move on. With `same`, all places have the same set. Places that follow one another are one
 * range. Writes at most `room` ranges, in order, and returns their number; `room` + 1 means that the search stopped.
 */
uint64_t sevkit_runs(const uint8_t *shift, uint32_t size, int same, const uint8_t *data, uint64_t low, uint64_t high,
                     struct range *found, uint64_t room)
{
    const uint8_t *last = shift + (uint64_t)256 * (size - 1);
    uint64_t count = 0, at = low;
    while (at + size <= high) {
        const uint8_t *end = data + at + size - 1;
        /* Four places at once, which do not wait for one another: no shift is more than `size`, so all are `size`. */
        if (at + 4 * (uint64_t)size <= high &&
            (last[end[0]] & last[end[size]] & last[end[2 * size]] & last[end[3 * size]]) == size) {
            at += 4 * (uint64_t)size;
            continue;
        }
        uint32_t place = size, move = 0;
        while (place && !move) {
            place--;
            move = shift[256 * (uint64_t)place + data[at + place]];
        }
        if (move) {
            at += move;
            continue;
        }
        uint64_t first = at++;
        while (same && at + size <= high && !last[data[at + size - 1]])
            at++;
        if (count && found[count - 1].last + 1 == first) {
            found[count - 1].last = at - 1;
            continue;
        }
        if (count == room)
            return room + 1;
        found[count++] = (struct range){first, at - 1};
    }
    return count;
}
