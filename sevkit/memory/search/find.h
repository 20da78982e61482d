/* Literals, prepared (find.c), and memory that is brought in and searched for them (stream.c). */

#ifndef SEVKIT_FIND_H
#define SEVKIT_FIND_H

#include <stdint.h>

struct finder;

struct hit {
    uint64_t start; /* in the searched memory */
    uint64_t literal;
};

struct finder *sevkit_finder_new(struct finder *next, const uint8_t *bytes, const uint32_t *sizes,
                                 const uint32_t *numbers, uint32_t count, unsigned gram, unsigned stride);
void sevkit_finder_free(struct finder *finder);
uint32_t sevkit_longest(const struct finder *finder);
uint64_t sevkit_find(const struct finder *finder, const uint8_t *data, uint64_t core, uint64_t stop, struct hit *hits,
                     uint64_t room);

#endif
