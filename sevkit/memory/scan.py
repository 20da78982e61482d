"""Search memory for patterns, on several threads, and account for every byte.

The law: how the memory is cut into chunks, and how many threads there are, changes no hit. Memory is searched in runs
of consecutive addresses; what lies on the two sides of a gap is never taken for neighbours.
"""

import contextlib
import mmap
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from sevkit.memory.patterns import Engine, Pattern, Searcher, TooManyHits, compile_patterns
from sevkit.memory.source import (
    PAGE,
    Coverage,
    MemorySource,
    Range,
    SourceGoneError,
    State,
    Stretch,
    intersect,
    normalise,
    runs,
)

CHUNK = 4 << 20  # copied in and searched while still in the caches; smaller ones cost more calls
HUGE = 2 << 20
MAX_HITS = 100_000
UNREADABLE = "unreadable"
Progress = Callable[[int, int], None]  # bytes done, bytes in all


class Hit(NamedTuple):
    """A place where a pattern stands: address, the index of the pattern, and the length in bytes."""

    address: int
    pattern: int
    length: int


class ScanResult(NamedTuple):
    """What a search found, and what of the memory it saw.

    ``finished`` is False when it stopped early; ``stopped`` then says why. Hits are in order of address.
    """

    hits: tuple[Hit, ...]
    coverage: Coverage
    finished: bool
    stopped: str | None
    seconds: float
    threads: int

    @property
    def conclusive(self) -> bool:
        """Whether "not found" means that it is not there: finished, and nothing was unreadable."""
        return self.finished and self.coverage.complete


class _Limits(NamedTuple):
    chunk: int
    max_hits: int
    progress: Progress | None


class _Job:
    """What the threads of one search share."""

    def __init__(
        self,
        source: MemorySource,
        engines: Sequence[Engine],
        limits: _Limits,
        cut: Sequence[tuple[Range, int]],
        total: int,
    ) -> None:
        self.source, self.engines, self.limits, self.total = source, engines, limits, total
        self.pieces = _pieces(cut)
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.stopped: str | None = None
        self.hits: list[tuple[int, int, int]] = []  # address, pattern, length
        self.read = self.unreadable = 0

    def halt(self, why: str) -> None:
        with self.lock:
            self.stopped = self.stopped or why
        self.stop.set()


def scan(
    source: MemorySource,
    patterns: Sequence[Pattern],
    *,
    threads: int | None = None,
    within: Sequence[Range] | None = None,
    progress: Progress | None = None,
    max_hits: int = MAX_HITS,
    chunk: int | None = None,
) -> ScanResult:
    """Search all that can be read of ``source``, or of the address ranges ``within``, for all patterns at once.

    Stops, unfinished, at more than ``max_hits`` hits or when the source goes away. Raises UsageError for a pattern that
    makes no sense.
    """
    started = time.monotonic()
    engines = compile_patterns(patterns)
    stretches: Sequence[Stretch] = source.stretches()
    if within is not None:
        stretches = intersect(stretches, normalise(within))
    searchable = runs(stretches)
    total = sum(end - start for start, end in searchable)
    with _session(source):
        cut = [(run, chunk or _chunk(source, run)) for run in searchable]
        job = _Job(source, engines, _Limits(max((size for _, size in cut), default=0), max_hits, progress), cut, total)
        count = max(1, min(threads or _cores(), -(-total // (chunk or CHUNK))))
        _run(job, count)
    if not job.stopped:
        try:
            source.check()
        except SourceGoneError as error:
            job.stopped = error.message
    coverage = _coverage(stretches, job)
    hits = tuple(Hit(*hit) for hit in sorted(job.hits))
    return ScanResult(hits, coverage, job.stopped is None, job.stopped, time.monotonic() - started, count)


def _session(source: MemorySource) -> AbstractContextManager[object]:
    """Sources that can be looked at in place offer ``window`` and ``chunk``, some of them only in a ``session``."""
    begin = getattr(source, "session", None)
    return begin() if begin is not None else nullcontext()


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _chunk(source: MemorySource, run: Range) -> int:
    """What can be mapped is searched in larger pieces."""
    chunk = getattr(source, "chunk", None)
    return (chunk(run) if chunk is not None else None) or CHUNK


def _pieces(cut: Sequence[tuple[Range, int]]) -> Iterator[tuple[Range, Range]]:
    """Each run cut into pieces: (piece, run)."""
    for run, chunk in cut:
        for start in range(run[0], run[1], chunk):
            yield (start, min(start + chunk, run[1])), run


def _run(job: _Job, count: int) -> None:
    if count == 1:
        _work(job)
        return
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            _work(job)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            errors.append(error)
            job.stop.set()

    workers = [threading.Thread(target=guarded, name=f"scan-{number}") for number in range(count)]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:  # also when interrupted
        job.stop.set()
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if errors:
        raise errors[0]


def _work(job: _Job) -> None:
    """One thread: take pieces until there are none."""
    searchers = [Searcher(engine, job.limits.max_hits) for engine in job.engines]
    behind = _up(max(engine.lookbehind for engine in job.engines))
    ahead = max(engine.lookahead for engine in job.engines)
    # Not closed: an error on its way up still holds views of it, and closing would hide that error.
    view = memoryview(_buffer(_up(job.limits.chunk + behind + ahead + PAGE)))
    while not job.stop.is_set():
        with job.lock:
            piece = next(job.pieces, None)
        if piece is None:
            return
        try:
            _search_piece(job, searchers, view, piece, behind, ahead)
        except SourceGoneError as error:
            job.halt(error.message)
        except TooManyHits:
            job.halt(f"more than {job.limits.max_hits} hits")


def _buffer(size: int) -> mmap.mmap:
    """Memory to copy into, in huge pages where there are any: fewer to populate, and to look up."""
    area = mmap.mmap(-1, max(size, 2 * HUGE), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):  # a kernel without them
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


def _up(size: int) -> int:
    return (size + PAGE - 1) & ~(PAGE - 1)


def _search_piece(
    job: _Job, searchers: list[Searcher], view: memoryview, piece: tuple[Range, Range], behind: int, ahead: int
) -> None:
    (start, end), (run_start, run_end) = piece
    low, high = max(run_start, (start & ~(PAGE - 1)) - behind), min(run_end, end + ahead)
    found: list[tuple[int, int, int]] = []
    read = 0
    for at, data in _islands(job.source, view, low, high):
        first, last = max(start, at) - at, min(end, at + len(data)) - at
        if last > first:
            read += last - first
            for searcher in searchers:
                found += [(at + begin, pat, stop - begin) for pat, begin, stop in searcher.find(data, first, last)]
    _account(job, found, read, end - start - read)


def _islands(source: MemorySource, view: memoryview, low: int, high: int) -> Iterator[tuple[int, memoryview]]:
    """What can be read of ``[low, high)``, as (address, bytes): in place if the source can, else copied to ``view``.

    A mapping goes with the last view of it.
    """
    window = getattr(source, "window", None)
    placed = window(low, high - low) if window is not None else None
    if placed is not None:
        yield low, memoryview(placed[0])[placed[1] :]
        return
    skew = low % PAGE  # keep the address's place in its page: the kernel copies aligned pages much faster
    at = low
    while at < high:
        got = source.readinto(at, view[skew + at - low : skew + high - low])
        if got:
            yield at, view[skew + at - low : skew + at - low + got]
        at += got
        if at < high:
            at = min(high, (at & ~(PAGE - 1)) + PAGE)


def _account(job: _Job, found: list[tuple[int, int, int]], read: int, lost: int) -> None:
    with job.lock:
        job.hits += found
        job.read += read
        job.unreadable += lost
        too_many = len(job.hits) > job.limits.max_hits
        if job.limits.progress is not None:
            job.limits.progress(job.read + job.unreadable, job.total)
    if too_many:
        raise TooManyHits


def _coverage(stretches: Sequence[Stretch], job: _Job) -> Coverage:
    unreadable: Counter[str] = Counter()
    skipped = 0
    for stretch in stretches:
        if stretch.state is State.UNREADABLE:
            unreadable[stretch.reason] += stretch.size
        elif stretch.state is State.UNPOPULATED:
            skipped += stretch.size
    if job.unreadable:
        unreadable[UNREADABLE] += job.unreadable
    mapped = sum(stretch.size for stretch in stretches)
    unread = job.total - job.read - job.unreadable
    return Coverage(mapped, job.read, skipped, dict(unreadable), unread)
