"""The threads of a search. Each takes pieces, reads them, and searches them for all patterns, until none is left.

The fast path: if all patterns are literals of the compiled search, and the source can say where the memory is, one call
of stream.c reads and searches several pieces. The slow path is for the pieces that stream.c could not read, and for all
other patterns: Python copies piece by piece, and skips each page that cannot be read.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from typing import TYPE_CHECKING, NamedTuple

from sevkit.memory.search import native
from sevkit.memory.sources.base import PAGE, SourceGoneError, page_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from sevkit.memory.search.native import Match
    from sevkit.memory.search.patterns import Engine, Literals
    from sevkit.memory.sources.base import MemorySource, Range

    Progress = Callable[[int, int], None]  # bytes done, bytes in all

_PARTS = 10_000  # parts of literals share the room for hits with them; so many at least
CHUNK = 4 << 20  # bytes copied at once on the slow path; smaller chunks cost more calls
HUGE = 2 << 20


class Hit(NamedTuple):
    """An occurrence of a pattern: its address, the index of the pattern, and the length in bytes."""

    address: int
    pattern: int
    length: int


class Part(NamedTuple):
    """The first ``cut`` bytes of a pattern end the page before ``border``, or its other bytes begin the page there.

    Only the longer of the two parts was compared, and at most 64 bytes of it (edges.c). Of a regular expression,
    ``cut`` bytes that may begin a match end the page or, if negative, so many that may end one begin it (borders.c).
    """

    border: int
    pattern: int
    cut: int


class TooManyHits(Exception):  # noqa: N818 - a signal, not an error
    """There are more hits than the limit, or more parts of patterns than there is room for. Its text says which."""


def too_many(hits: int) -> str:
    """Why a search stopped that found more than so many."""
    return f"more than {hits} hits"


class Limits(NamedTuple):
    """The smallest and largest number of bytes that a thread takes at once, the most hits, and a progress callback."""

    least: int
    most: int
    max_hits: int
    progress: Progress | None


class Piece(NamedTuple):
    """``[start, end)`` is searched; the bytes around it in the same ``run`` of consecutive memory are context."""

    start: int
    end: int
    run: Range

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Sweep:
    """The state that the threads of one search share: the memory not yet taken, the hits, and the bytes read.

    There are at most as many threads as there is work for.
    """

    def __init__(
        self,
        source: MemorySource,
        engines: Sequence[Engine],
        searchable: Sequence[Range],
        limits: Limits,
        threads: int,
    ) -> None:
        self.source, self.engines, self.limits = source, engines, limits
        self.total = sum(end - start for start, end in searchable)
        self.threads = max(1, min(threads, -(-self.total // limits.least)))
        self.ending = False
        self.stopped: str | None = None
        self.hits: list[Hit] = []
        self.parts: set[Part] = set()
        self.read = self.unreadable = 0
        self.lost: list[Range] = []  # what could not be read
        self._runs, self._left = iter(searchable), self.total
        self._rest: Piece | None = None  # what remains of the run that the last piece was taken from
        self._lock = threading.Lock()

    def run(self) -> None:
        """Search on all threads, the calling one included. Raises an exception of any thread in the calling one."""
        errors: list[BaseException] = []

        def other() -> None:
            try:
                _Worker(self).work()
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                errors.append(error)
                self.ending = True

        others: list[threading.Thread] = []
        try:
            for _ in range(1, self.threads):
                thread = threading.Thread(target=other)
                thread.start()
                others.append(thread)
            _Worker(self).work()
        except BaseException:
            self.ending = True
            raise
        finally:
            for thread in others:
                thread.join()
        if errors:
            raise errors[0]

    def take(self) -> list[Piece]:
        """The next pieces: one large, or several small ones.

        A thread takes half of its share of the remaining bytes. With 4 threads and 800 MiB left it takes 100 MiB, or
        the limit ``most``. Pieces become smaller towards the end, so that all threads end at about the same time.
        """
        taken: list[Piece] = []
        with self._lock:
            limits = self.limits
            want = max(limits.least, min(limits.most, page_up(self._left // (2 * self.threads))))
            while want > 0 and (rest := self._rest or self._next_run()):
                piece = Piece(rest.start, min(rest.start + want, rest.end), rest.run)
                self._rest = Piece(piece.end, rest.end, rest.run) if piece.end < rest.end else None
                taken.append(piece)
                want -= piece.size
                self._left -= piece.size
        return taken

    def _next_run(self) -> Piece | None:
        run = next(self._runs, None)
        return Piece(*run, run) if run else None

    def account(self, found: list[Hit], read: int, lost: Sequence[Range] = (), *, cut_short: bool = False) -> None:
        """Record hits, the number of bytes read, and the ranges that could not be read. Raises TooManyHits.

        ``cut_short``: the room was full before all was searched. Hits and parts share it, so that neither of them need
        be more than its own limit.
        """
        with self._lock:
            self.hits += [hit for hit in found if hit.pattern >= 0]
            self.parts.update(Part(hit.address, ~hit.pattern, hit.length) for hit in found if hit.pattern < 0)
            self.read += read
            self.lost += lost
            self.unreadable += sum(end - start for start, end in lost)
            if self.limits.progress is not None:
                self.limits.progress(self.read + self.unreadable, self.total)
        if len(self.hits) > self.limits.max_hits:
            raise TooManyHits(too_many(self.limits.max_hits))
        if cut_short or len(self.parts) > self.limits.max_hits + _PARTS:
            raise TooManyHits("too many parts of patterns stand at the borders of pages")

    def halt(self, why: str) -> None:
        """Stop all threads; the first reason counts."""
        with self._lock:
            self.stopped = self.stopped or why
        self.ending = True


class _Worker:
    """One thread of a search, with its buffer."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.source = sweep, sweep.source
        self.limit = max(sweep.limits.max_hits, _PARTS)
        self.behind = page_up(max(engine.lookbehind for engine in sweep.engines))
        self.ahead = max(engine.lookahead for engine in sweep.engines)
        self._view: memoryview | None = None
        self._literals = sweep.engines[0].literals if len(sweep.engines) == 1 else None

    def work(self) -> None:
        """Take pieces until there are none."""
        while not self.sweep.ending and (pieces := self.sweep.take()):
            try:
                if self._literals is not None:
                    pieces = self._stream(self._literals, pieces)
                for piece in pieces:
                    self._search(piece)
            except SourceGoneError as error:
                self.sweep.halt(error.message)
            except TooManyHits as signal:
                self.sweep.halt(str(signal))

    def _stream(self, literals: Literals, pieces: list[Piece]) -> list[Piece]:
        """Search with stream.c the pieces that it can read; returns the others."""
        finder = literals.finder
        placed: list[tuple[Piece, native.Span]] = []
        left: list[Piece] = []
        for piece in pieces:
            before = min(finder.longest - 1, piece.start - piece.run[0])
            place = self.source.place(piece.start - before, piece.end)
            if place is None:
                left.append(piece)
            else:
                offset, origin, in_place = place
                placed.append((piece, native.Span(piece.start, piece.size, before, offset + before, origin, in_place)))
        while placed:
            base = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer(finder.buffer_size())))
            found, reached, done = finder.stream([span for _, span in placed], base, self.limit)
            read = sum(piece.size for piece, _ in placed[:reached]) + done
            self.sweep.account(_hits(0, literals.matches(found)), read, cut_short=len(found) > self.limit)
            if reached < len(placed):
                piece = placed[reached][0]
                left.append(piece._replace(start=piece.start + done))
            placed = placed[reached + 1 :]
        return left

    def _search(self, piece: Piece) -> None:
        """The long way."""
        for start in range(piece.start, piece.end, CHUNK):
            if self.sweep.ending:
                return
            end = min(start + CHUNK, piece.end)
            low, high = (start & ~(PAGE - 1)) - self.behind, end + self.ahead
            found: list[Hit] = []
            lost: list[Range] = []
            reached, cut_short = start, False
            for at, data in self._islands(max(piece.run[0], low), min(piece.run[1], high)):
                first, last = max(start, at), min(end, at + len(data))
                if last > first:
                    lost += [(reached, first)] if first > reached else []
                    reached = last
                    for engine in self.sweep.engines:
                        matches = engine.find(data, first - at, last - at, self.limit)
                        cut_short = cut_short or len(matches) > self.limit
                        found += _hits(at, matches)
            lost += [(reached, end)] if end > reached else []
            read = 0 if cut_short else end - start - sum(high - low for low, high in lost)
            self.sweep.account(found, read, lost, cut_short=cut_short)

    def _islands(self, low: int, high: int) -> Iterator[tuple[int, memoryview]]:
        """The readable parts of ``[low, high)``, as (address, bytes); after a read error goes on with the next page."""
        skew = low % PAGE  # same offset within a page in the buffer: the kernel copies aligned pages much faster
        view = self._buffer(skew + high - low)
        at = low
        while at < high:
            got = self.source.readinto(at, view[skew + at - low : skew + high - low])
            if got:
                yield at, view[skew + at - low : skew + at - low + got]
            at += got
            if at < high:
                at = min(high, (at & ~(PAGE - 1)) + PAGE)

    def _buffer(self, size: int) -> memoryview:
        """The buffer of this thread, in huge pages if possible: fewer page faults, and fewer TLB misses."""
        if self._view is None or len(self._view) < size:
            area = mmap.mmap(-1, -(-size // HUGE) * HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            try:
                area.madvise(mmap.MADV_HUGEPAGE)
            except OSError:  # a kernel without huge pages
                pass
            # Never closed: an exception in flight may hold views of it; close() would raise BufferError and hide it.
            self._view = memoryview(area)
        return self._view


def _hits(at: int, matches: Iterable[Match]) -> list[Hit]:
    """Matches in memory that starts at address ``at``, as hits."""
    return [Hit(at + start, pattern, end - start) for pattern, start, end in matches]
