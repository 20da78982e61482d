/*
 * Read the memory of a process or a file piece by piece, and search each piece while it is still in the CPU caches.
 *
 * A piece is copied by process_vm_readv(2) or pread(2) into a buffer that stays in the second-level cache. If a lease
 * guarantees that a file cannot shrink (lease.py), the file is mapped instead, and searched in the page cache.
 *
 * A literal may cross the border of two pieces. The last bytes of each piece (one less than the longest literal) are
 * therefore kept in front of the next piece, as context. A hit belongs to the piece in which it ends:
 *
 *              kept      piece (up to `step` bytes)
 *     . . . |  s e c  |  r e t . . . . . . . . |       "secret" is found once, with this piece
 *                     base, page-aligned
 */

#define _GNU_SOURCE
#include "find.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, WINDOW = 8 << 20 /* bytes mapped at once: while mapped they count as memory of ours */ };

struct span {
    uint64_t address;  /* of the first byte to search; hits are reported as addresses of this kind */
    uint64_t size;     /* bytes to search: hits end in them */
    uint64_t before;   /* bytes of context in front of `address`; fewer than the longest literal has */
    uint64_t offset;   /* the position of `address` in the file, or its address in the process */
    int32_t origin;    /* a file descriptor; if negative, -PID of a process */
    uint32_t in_place; /* map the file as long as we hold its lease */
};

struct stream {
    const struct finder *finder;
    const struct span *span;
    uint8_t *base; /* pages are copied to here; the end of the previous piece is kept in front of it */
    uint64_t step; /* bytes copied at once: whole pages */
    struct hit *hits;
    uint64_t room, found;
};

/* Read `size` bytes from `offset` on into `target`; returns whether all could be read. */
static int bring(const struct stream *stream, uint8_t *target, uint64_t offset, uint64_t size)
{
    while (size) {
        ssize_t got;
        if (stream->span->origin < 0) {
            struct iovec local = {target, size}, remote = {(void *)(uintptr_t)offset, size};
            got = process_vm_readv(-stream->span->origin, &local, 1, &remote, 1, 0);
        } else {
            got = pread(stream->span->origin, target, size, (off_t)offset);
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;
        target += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return 1;
}

/*
 * Search the `size` bytes at `data`, which are byte `done` and the following ones of the span; the `kept` bytes before
 * them are context. sevkit_find counts from the context's first byte, at the address span->address + done - kept.
 */
static void search(struct stream *stream, const uint8_t *data, uint64_t done, uint64_t kept, uint64_t size)
{
    struct hit *hits = stream->hits + stream->found;
    uint64_t room = stream->room - stream->found;
    uint64_t address = stream->span->address + done - kept, page = -address % PAGE;
    uint64_t found = sevkit_find(stream->finder, data - kept, kept, kept + size, page, hits, room);
    for (uint64_t hit = 0; hit < found && hit < room; hit++)
        hits[hit].start += address;
    stream->found += found;
}

/* The bytes in front of byte `done` of the span in which a literal that ends after it may start. */
static uint64_t context(const struct stream *stream, uint64_t done)
{
    uint64_t most = sevkit_longest(stream->finder) - 1, there = stream->span->before + done;
    return there < most ? there : most;
}

/* Search the span from `done` on by copying it; returns the number of bytes of the span searched without a gap. */
static uint64_t copied(struct stream *stream, uint64_t done)
{
    const struct span *span = stream->span;
    uint64_t kept = context(stream, done), fresh = kept; /* fresh: context still to be read, only for the first piece */
    while (done < span->size && stream->found <= stream->room) {
        /*
         * Copy each byte to the same offset within a page as it has at its source: the kernel is much faster that way.
         * So the first piece is shorter by `skew`; it and all others but the last end at a page boundary.
         */
        uint64_t skew = (span->address + done) % PAGE, size = stream->step - skew;
        uint8_t *data = stream->base + skew;
        if (size > span->size - done)
            size = span->size - done;
        if (!bring(stream, data - fresh, span->offset + done - fresh, fresh + size))
            break;
        search(stream, data, done, kept, size);
        if (stream->found > stream->room)
            break;
        done += size;
        kept = context(stream, done);
        memmove(stream->base - kept, data + size - kept, kept);
        fresh = 0;
    }
    return done;
}

static int may_be_looked_at(const struct span *span, uint64_t end)
{
    struct stat status; /* under our lease the file cannot shrink, but it may have shrunk before */
    return fcntl(span->origin, F_GETLEASE) == F_RDLCK && !fstat(span->origin, &status) &&
           end <= (uint64_t)status.st_size;
}

/*
 * Search the span by mapping the file, window by window, until the lease is lost or mmap fails; returns the number of
 * bytes searched. mmap needs a page-aligned offset: `into` is the distance from there to the first byte of context.
 */
static uint64_t looked_at(struct stream *stream)
{
    const struct span *span = stream->span;
    uint64_t done = 0;
    while (done < span->size && stream->found <= stream->room) {
        uint64_t size = span->size - done < WINDOW ? span->size - done : WINDOW, kept = context(stream, done);
        uint64_t offset = span->offset + done - kept, into = offset % PAGE;
        if (!may_be_looked_at(span, offset + kept + size))
            break;
        uint64_t length = into + kept + size;
        uint8_t *window = mmap(NULL, length, PROT_READ, MAP_PRIVATE, span->origin, (off_t)(offset - into));
        if (window == MAP_FAILED)
            break;
        search(stream, window + into + kept, done, kept, size);
        munmap(window, length);
        if (stream->found <= stream->room)
            done += size;
    }
    return done;
}

/*
 * Search `count` spans. `buffer` is page-aligned. It has whole pages for the context (one byte less than the longest
 * literal), and behind them `step` bytes (whole pages) for a piece.
 *
 * Writes at most `room` hits and returns the number of hits; a number larger than `room` means that the search stopped
 * early. `*reached` is the index of the first span that was not searched to its end, and `*done` the number of its
 * bytes that were searched; what follows could not be read here. When all was searched, `*reached` is `count`.
 */
uint64_t sevkit_stream(uint32_t *reached, uint64_t *done, const struct finder *finder, const struct span *spans,
                       uint32_t count, uint8_t *buffer, uint64_t step, struct hit *hits, uint64_t room)
{
    uint64_t front = (sevkit_longest(finder) - 1 + PAGE - 1) / PAGE * PAGE;
    struct stream stream = {finder, spans, buffer + front, step, hits, room, 0};
    for (*reached = 0, *done = 0; *reached < count; ++*reached, *done = 0) {
        stream.span = spans + *reached;
        *done = copied(&stream, stream.span->in_place ? looked_at(&stream) : 0);
        if (*done < stream.span->size || stream.found > room)
            break;
    }
    return stream.found;
}
