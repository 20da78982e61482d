/*
 * Find every occurrence of many literals in memory, about as fast as the memory can be read: few literals by a sweep for
 * their rare bytes (sweep.c), many by looking at samples of the memory (sampling.c).
 *
 * Built by hatch_build.py, called by native.py. After a change of any of these sources, `SOURCES` in native.py changes
 * too: a library that says another identity is not used.
 */

#include "literals.h"

#include <stdlib.h>

enum { CACHED = 256 << 10 /* bytes that are searched for one group of literals after the other */ };

void sevkit_finder_free(struct finder *finder)
{
    while (finder) {
        struct finder *next = finder->next;
        sevkit_edges_free(finder->edges);
        free(finder->map);
        free(finder->buckets);
        free(finder->entries);
        free(finder->values);
        free(finder->sizes);
        free(finder->numbers);
        free(finder->bytes);
        free(finder->rare);
        free(finder);
        finder = next;
    }
}

static void *copy(const void *from, size_t size)
{
    void *to = malloc(size);
    return to ? memcpy(to, from, size) : NULL;
}

/*
 * Prepare a search for `count` literals, which follow one another in `bytes`. gram is 4 or 8; stride 0 selects a sweep,
 * else each literal has at least stride + gram - 1 bytes. Hits name a literal by its number in `numbers`.
 * The new finder also finds what `next` finds, and owns `next`: both are freed together. NULL when out of memory.
 */
struct finder *sevkit_finder_new(struct finder *next, const uint8_t *bytes, const uint32_t *sizes,
                                 const uint32_t *numbers, uint32_t count, unsigned gram, unsigned stride)
{
    struct finder *finder = calloc(1, sizeof *finder);
    if (!finder)
        return NULL;
    uint64_t total = 0;
    for (uint32_t literal = 0; literal < count; literal++) {
        total += sizes[literal];
        if (sizes[literal] > finder->longest)
            finder->longest = sizes[literal];
    }
    finder->count = count;
    finder->gram = gram;
    finder->stride = stride;
    finder->bytes = copy(bytes, total);
    finder->sizes = copy(sizes, count * sizeof *sizes);
    finder->numbers = copy(numbers, count * sizeof *numbers);
    finder->values = malloc(count * sizeof *finder->values);
    if (finder->bytes && finder->sizes && finder->numbers && finder->values) {
        const uint8_t *at = finder->bytes;
        for (uint32_t literal = 0; literal < count; at += sizes[literal++])
            finder->values[literal] = at;
        if ((stride ? sampling_prepare(finder) : sweep_prepare(finder)) == 0) {
            finder->next = next;
            return finder;
        }
    }
    sevkit_finder_free(finder);
    return NULL;
}

/*
 * Let `finder` also find the literals that the border of two pages cuts (edges.c): all `count` of them, as hits name
 * them. Returns whether there was memory for that.
 */
int sevkit_finder_cut(struct finder *finder, const uint8_t *bytes, const uint32_t *sizes, uint32_t count)
{
    finder->edges = sevkit_edges_new(bytes, sizes, count);
    return finder->edges != NULL;
}

uint32_t sevkit_longest(const struct finder *finder)
{
    uint32_t longest = 0;
    for (; finder; finder = finder->next)
        if (finder->longest > longest)
            longest = finder->longest;
    return longest;
}

/* Search for all literals that end in (core, stop] of `search`, also for those that the border of two pages cuts. */
static void find_all(struct search *search, const struct finder *finder, uint64_t page)
{
    for (search->finder = finder; search->finder && search->found <= search->room; search->finder = search->finder->next) {
        (search->finder->stride ? sampling_find : sweep_find)(search);
        if (search->finder->edges && search->found <= search->room)
            search->found += sevkit_edges_find(search->finder->edges, search->data, search->core, search->stop, page,
                                               search->hits + search->found, search->room - search->found);
    }
}

/*
 * Find every literal in the memory at `data` that ends in (core, stop]. Writes at most `room` hits, in no particular
 * order, and returns the number of hits; a number larger than `room` means that the search stopped early. `page` is the
 * offset in `data` of the first border of a page, for literals that such a border cuts. The memory is searched in parts
 * that stay in the second-level cache: each is looked at several times.
 */
uint64_t sevkit_find(const struct finder *finder, const uint8_t *data, uint64_t core, uint64_t stop, uint64_t page,
                     struct hit *hits, uint64_t room)
{
    struct search search = {finder, data, core, stop, hits, room, 0};
    for (uint64_t low = core; low < stop && search.found <= room; low += CACHED) {
        search.core = low;
        search.stop = stop - low > CACHED ? low + CACHED : stop;
        find_all(&search, finder, page);
    }
    return search.found;
}

#ifndef SEVKIT_SOURCES
#define SEVKIT_SOURCES "" /* compiled in another way than by hatch_build.py: native.py does not use it */
#endif

/* The identity of the sources that this library was built from. */
const char *sevkit_sources(void)
{
    return SEVKIT_SOURCES;
}
