/* Prepared literals (find.c, edges.c), which stream.c finds in memory that it reads; regular expressions (matcher.c). */

#ifndef SEVKIT_FIND_H
#define SEVKIT_FIND_H

#include <stdint.h>

struct finder;
struct edges;

struct hit {
    uint64_t start;   /* offset in the searched memory; from stream.c, an address */
    uint64_t literal; /* its entry in `numbers`; from edges.c, its index, and in the upper 32 bits where it is cut */
};

const char *sevkit_sources(void);
struct finder *sevkit_finder_new(struct finder *next, const uint8_t *bytes, const uint32_t *sizes,
                                 const uint32_t *numbers, uint32_t count, unsigned gram, unsigned stride);
void sevkit_finder_free(struct finder *finder);
int sevkit_finder_cut(struct finder *finder, const uint8_t *bytes, const uint32_t *sizes, uint32_t count);
uint32_t sevkit_longest(const struct finder *finder);
uint64_t sevkit_find(const struct finder *finder, const uint8_t *data, uint64_t core, uint64_t stop, uint64_t page,
                     struct hit *hits, uint64_t room);

/* Where a match may start: `first` to `last`, both included. No such match ends beyond `reach`. */
struct range {
    uint64_t first, last, reach;
};

struct automaton;
struct matcher;

struct matcher *sevkit_matcher_new(const uint8_t *sets, const uint32_t *sizes, const uint8_t *tests, const uint8_t *skip,
                                   uint32_t count, const struct finder *finder, const struct automaton *automaton,
                                   uint64_t least, uint64_t most);
void sevkit_matcher_free(struct matcher *matcher);
uint64_t sevkit_matcher_starts(const struct matcher *matcher, const uint8_t *data, uint64_t low, uint64_t high,
                               struct range *found, uint64_t room);
int sevkit_matcher_reaches(const struct matcher *matcher, const uint8_t *data, uint64_t first, uint64_t last,
                           uint64_t covered, uint64_t high);

uint64_t sevkit_borders(const struct automaton *automaton, const uint8_t *data, uint64_t page, uint64_t stop,
                        uint64_t high, struct hit *hits, uint64_t room);

struct edges *sevkit_edges_new(const uint8_t *bytes, const uint32_t *sizes, uint32_t count);
void sevkit_edges_free(struct edges *edges);
int sevkit_edges_tell(const uint8_t *value, uint32_t size);
uint64_t sevkit_edges_find(const struct edges *edges, const uint8_t *data, uint64_t core, uint64_t stop, uint64_t page,
                           struct hit *hits, uint64_t room);

#endif
