/* A prepared set of literals (find.c). stream.c reads memory and searches it for them. */

#ifndef SEVKIT_FIND_H
#define SEVKIT_FIND_H

#include <stdint.h>

struct finder;

struct hit {
    uint64_t start;   /* offset in the searched memory; from stream.c, an address */
    uint64_t literal; /* its entry in `numbers` */
};

struct finder *sevkit_finder_new(struct finder *next, const uint8_t *bytes, const uint32_t *sizes,
                                 const uint32_t *numbers, uint32_t count, unsigned gram, unsigned stride);
void sevkit_finder_free(struct finder *finder);
uint32_t sevkit_longest(const struct finder *finder);
uint64_t sevkit_find(const struct finder *finder, const uint8_t *data, uint64_t core, uint64_t stop, struct hit *hits,
                     uint64_t room);

#endif
