/*
 * Memory of a process or a file, brought in piece by piece and searched while it is still in the caches.
 *
 * A piece is copied by process_vm_readv(2) or pread(2) into a buffer that stays in the second-level cache, or, where a
 * file cannot shrink meanwhile (lease.py), looked at where the page cache has it. Of each piece the last bytes are kept
 * in front of the next, so that what stands across is found, once.
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

enum { PAGE = 4096, WINDOW = 8 << 20 /* bytes mapped at once: they count as our memory meanwhile */ };

struct span {
    uint64_t address;  /* of the first byte to search; hits are told in this count */
    uint64_t size;     /* bytes to search: hits end in them */
    uint64_t before;   /* bytes in front of `address` that are context; less than the longest literal has */
    uint64_t offset;   /* where `address` is to be read: in the file, or in the process */
    int32_t origin;    /* an open file; below zero: of a process, its PID */
    uint32_t in_place; /* look at the file where it is, as long as its lease is ours */
};

struct stream {
    const struct finder *finder;
    const struct span *span;
    uint8_t *base; /* where pages are copied to; what is kept of the piece before lies in front */
    uint64_t step; /* bytes copied at once: whole pages */
    struct hit *hits;
    uint64_t room, found;
};

/* Whether `size` bytes from `offset` on could all be brought to `target`. */
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

/* Search the `size` bytes at `data`, which are the span's from `done` on; `kept` bytes in front of them are context. */
static void search(struct stream *stream, const uint8_t *data, uint64_t done, uint64_t kept, uint64_t size)
{
    struct hit *hits = stream->hits + stream->found;
    uint64_t room = stream->room - stream->found;
    uint64_t found = sevkit_find(stream->finder, data - kept, kept, kept + size, hits, room);
    for (uint64_t hit = 0; hit < found && hit < room; hit++)
        hits[hit].start += stream->span->address + done - kept;
    stream->found += found;
}

/* How many of the bytes before the span's `done`-th matter to what ends behind it. */
static uint64_t context(const struct stream *stream, uint64_t done)
{
    uint64_t most = sevkit_longest(stream->finder) - 1, there = stream->span->before + done;
    return there < most ? there : most;
}

/* Search the span from `done` on; returns the bytes up to which all was searched. */
static uint64_t copied(struct stream *stream, uint64_t done)
{
    const struct span *span = stream->span;
    uint64_t kept = context(stream, done), fresh = kept; /* of what lies before, nothing is here yet */
    while (done < span->size && stream->found <= stream->room) {
        /* Every byte keeps its place in its page, which the kernel copies much faster; all but the last end a page. */
        uint64_t skew = (span->address + done) % PAGE, size = stream->step - skew;
        uint8_t *data = stream->base + skew;
        if (size > span->size - done)
            size = span->size - done;
        if (!bring(stream, data - fresh, span->offset + done - fresh, fresh + size))
            break;
        search(stream, data, done, kept, size);
        done += size;
        kept = context(stream, done);
        memmove(stream->base - kept, data + size - kept, kept);
        fresh = 0;
    }
    return done;
}

static int may_be_looked_at(const struct span *span, uint64_t end)
{
    struct stat status; /* once the lease is ours the file cannot shrink; it may have before */
    return fcntl(span->origin, F_GETLEASE) == F_RDLCK && !fstat(span->origin, &status) &&
           end <= (uint64_t)status.st_size;
}

/* As much of the span as can be had so. */
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
        done += size;
    }
    return done;
}

/*
 * Search `count` spans. `buffer` is page-aligned, has `step` bytes (whole pages) and, in front, whole pages for one byte
 * less than the longest literal has. Writes at most `room` hits and returns how many there are; more than `room` means
 * that it stopped early. `reached` and `done` tell the span, and its bytes, up to which all was searched: the bytes from
 * there on could not be had in this way, or `reached` is `count`.
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
