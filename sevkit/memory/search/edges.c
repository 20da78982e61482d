/*
 * Find literals that the border of two pages cuts in two.
 *
 * Pages that are side by side for a guest need not be so in its physical memory, which is what the host sees. A secret
 * across two pages is then in two places: its first part ends one page, the rest begins another one.
 *
 *     page 7    . . . . . . s e c |            "secret", cut after 3 bytes
 *     page 52   r e t . . . . . . |
 *
 * For each place where a literal can be cut, the longer part is looked for: at the end of every page if it is the first
 * part, else at the beginning of every page. If no page has such a part, the literal is not in two pages. A part tells
 * something only if it has GRAM bytes that are not all the same: else it stands at the border of many pages by chance.
 */

#include "find.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, GRAM = 4, LONGEST = 64 /* bytes of a part that are compared */, BITS = 16 };
enum side { NEITHER = -1, BEGIN, END };

struct entry {
    uint32_t gram; /* the first bytes of a part that begins a page, or the last bytes of one that ends a page */
    uint32_t literal, cut;
};

/* The parts that begin a page, or those that end one; `map` has a bit for the hash of each gram. */
struct parts {
    struct entry *entries; /* by the hash of their gram: those of hash h from starts[h] up to starts[h + 1] */
    uint64_t count;
    uint32_t starts[(1 << BITS) + 1];
    uint64_t map[(1 << BITS) / 64];
};

struct edges {
    struct parts sides[2];
    uint8_t *bytes;
    const uint8_t **values;
    uint32_t *sizes;
};

static inline uint32_t gram_at(const uint8_t *at)
{
    uint32_t gram;
    memcpy(&gram, at, sizeof gram);
    return gram;
}

static inline uint32_t hash(uint32_t gram)
{
    return gram * UINT32_C(0x9E3779B1) >> (32 - BITS);
}

static uint32_t part_size(enum side side, uint32_t size, uint32_t cut)
{
    uint32_t all = side == BEGIN ? size - cut : cut;
    return all < LONGEST ? all : LONGEST;
}

static const uint8_t *part(enum side side, const uint8_t *value, uint32_t size, uint32_t cut)
{
    return side == BEGIN ? value + cut : value + cut - part_size(side, size, cut);
}

static int tells(enum side side, const uint8_t *value, uint32_t size, uint32_t cut)
{
    const uint8_t *at = part(side, value, size, cut);
    uint32_t length = part_size(side, size, cut);
    return length >= GRAM && memcmp(at, at + 1, length - 1) != 0;
}

/* Which part of a literal that is cut after `cut` bytes to look for. */
static enum side side_of(const uint8_t *value, uint32_t size, uint32_t cut)
{
    enum side longer = size - cut >= cut ? BEGIN : END;
    if (tells(longer, value, size, cut))
        return longer;
    return tells(!longer, value, size, cut) ? (enum side)!longer : NEITHER;
}

/* Whether a literal that is cut anywhere would be seen. */
int sevkit_edges_tell(const uint8_t *value, uint32_t size)
{
    for (uint32_t cut = 1; cut < size; cut++)
        if (side_of(value, size, cut) == NEITHER)
            return 0;
    return 1;
}

static void add(struct edges *edges, uint32_t literal, uint32_t cut)
{
    const uint8_t *value = edges->values[literal];
    enum side side = side_of(value, edges->sizes[literal], cut);
    if (side == NEITHER)
        return;
    struct parts *parts = &edges->sides[side];
    uint32_t gram = gram_at(side == BEGIN ? value + cut : value + cut - GRAM);
    parts->entries[parts->count++] = (struct entry){gram, literal, cut};
    parts->starts[hash(gram)]++;
    parts->map[hash(gram) / 64] |= UINT64_C(1) << hash(gram) % 64;
}

/* A counting sort: after the sums, starts[h] is the end of hash h; each entry placed there moves it back to the start. */
static int sort(struct parts *parts)
{
    struct entry *sorted = malloc((parts->count + 1) * sizeof *sorted);
    if (!sorted)
        return -1;
    for (uint32_t at = 1; at <= 1 << BITS; at++)
        parts->starts[at] += parts->starts[at - 1];
    for (uint64_t at = 0; at < parts->count; at++)
        sorted[--parts->starts[hash(parts->entries[at].gram)]] = parts->entries[at];
    free(parts->entries);
    parts->entries = sorted;
    return 0;
}

void sevkit_edges_free(struct edges *edges)
{
    if (!edges)
        return;
    free(edges->sides[BEGIN].entries);
    free(edges->sides[END].entries);
    free(edges->bytes);
    free(edges->values);
    free(edges->sizes);
    free(edges);
}

/* Prepare the search for `count` literals, which follow one another in `bytes`. NULL when out of memory. */
struct edges *sevkit_edges_new(const uint8_t *bytes, const uint32_t *sizes, uint32_t count)
{
    struct edges *edges = calloc(1, sizeof *edges);
    uint64_t total = 0;
    for (uint32_t literal = 0; literal < count; literal++)
        total += sizes[literal];
    if (!edges)
        return NULL;
    edges->bytes = malloc(total);
    edges->sizes = malloc(count * sizeof *sizes);
    edges->values = malloc(count * sizeof *edges->values);
    for (enum side side = BEGIN; side <= END; side++)
        edges->sides[side].entries = malloc(total * sizeof(struct entry));
    if (!edges->bytes || !edges->sizes || !edges->values || !edges->sides[BEGIN].entries || !edges->sides[END].entries) {
        sevkit_edges_free(edges);
        return NULL;
    }
    memcpy(edges->bytes, bytes, total);
    memcpy(edges->sizes, sizes, count * sizeof *sizes);
    const uint8_t *at = edges->bytes;
    for (uint32_t literal = 0; literal < count; at += sizes[literal++]) {
        edges->values[literal] = at;
        for (uint32_t cut = 1; cut < sizes[literal]; cut++)
            add(edges, literal, cut);
    }
    if (!sort(&edges->sides[BEGIN]) && !sort(&edges->sides[END]))
        return edges;
    sevkit_edges_free(edges);
    return NULL;
}

struct look {
    const struct edges *edges;
    const uint8_t *data;
    uint64_t core, stop;
    struct hit *hits;
    uint64_t room, found;
};

/* Record each part of this side, with this gram, that stands at the page border `border`. */
static void examine(struct look *look, enum side side, uint64_t border, uint32_t gram)
{
    const struct parts *parts = &look->edges->sides[side];
    for (uint64_t at = parts->starts[hash(gram)]; at < parts->starts[hash(gram) + 1]; at++) {
        if (parts->entries[at].gram != gram)
            continue;
        uint32_t literal = parts->entries[at].literal, cut = parts->entries[at].cut;
        uint32_t whole = look->edges->sizes[literal], size = part_size(side, whole, cut);
        uint64_t end = side == BEGIN ? border + size : border;
        if (end <= look->core || end > look->stop || end < size)
            continue;
        if (memcmp(look->data + end - size, part(side, look->edges->values[literal], whole, cut), size))
            continue;
        if (look->found < look->room)
            look->hits[look->found] = (struct hit){border, literal | (uint64_t)cut << 32};
        look->found++;
    }
}

static inline void look_at(struct look *look, enum side side, uint64_t border)
{
    uint32_t gram = gram_at(look->data + (side == BEGIN ? border : border - GRAM));
    if (look->edges->sides[side].map[hash(gram) / 64] >> hash(gram) % 64 & 1)
        examine(look, side, border, gram);
}

/*
 * Find parts of literals at the borders of pages, in the memory at `data`; byte `page` and each PAGE bytes further are
 * borders. A part that ends in (core, stop] is reported: where the border is, and as literal its index plus the cut in
 * the upper 32 bits. Hits that find no room are counted.
 */
uint64_t sevkit_edges_find(const struct edges *edges, const uint8_t *data, uint64_t core, uint64_t stop, uint64_t page,
                           struct hit *hits, uint64_t room)
{
    struct look look = {edges, data, core, stop, hits, room, 0};
    if (core > page + LONGEST)
        page += (core - LONGEST - page) / PAGE * PAGE;
    for (; page <= stop && look.found <= room; page += PAGE) {
        if (page + GRAM <= stop)
            look_at(&look, BEGIN, page);
        if (page >= GRAM)
            look_at(&look, END, page);
    }
    return look.found;
}
