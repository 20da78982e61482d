"""Search memory for patterns, on several threads, and account for every byte.

The hits do not depend on how the memory is cut into pieces, nor on the number of threads. Memory is searched in runs of
consecutive addresses; no hit crosses a gap between two runs.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from sevkit.memory.search.patterns import compile_patterns
from sevkit.memory.search.workers import Limits, Sweep
from sevkit.memory.sources.base import Coverage, SourceGoneError, State, intersect, normalise, runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.search.patterns import Pattern
    from sevkit.memory.search.workers import Hit, Progress
    from sevkit.memory.sources.base import MemorySource, Range, Stretch

MAX_HITS = 100_000
MAX_THREADS = 16  # the default: more threads only wait for the same memory, and each needs up to 10 MiB
_LEAST = 1 << 20  # bytes that a thread takes at least
UNREADABLE = "unreadable"


class ScanResult(NamedTuple):
    """What a search found, and how much of the memory it read.

    ``finished`` is False if the search stopped early; ``stopped`` then says why. Hits are in order of address. ``lost``
    has the address ranges that should have been searched but could not be read; in order, disjoint.
    """

    hits: tuple[Hit, ...]
    coverage: Coverage
    finished: bool
    stopped: str | None
    seconds: float
    threads: int
    lost: tuple[Range, ...] = ()

    @property
    def conclusive(self) -> bool:
        """Whether "not found" means "not there": the search finished, there was memory, and all of it was readable."""
        return self.finished and self.coverage.complete and self.coverage.mapped_bytes > 0


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
    """Search the readable memory of ``source``, or of its address ranges ``within``, for all patterns at once.

    The search stops early if the source disappears, or at more than ``max_hits`` hits; then ``max_hits`` are returned.
    Raises UsageError for an invalid pattern. ``chunk``: the number of bytes that a thread takes at once, for tests.
    """
    started = time.monotonic()
    engines = compile_patterns(patterns)
    stretches: Sequence[Stretch] = source.stretches()
    if within is not None:
        stretches = intersect(stretches, normalise(within))
    searchable = runs(stretches)
    threads = threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))
    limits = Limits(chunk or _LEAST, chunk or source.stripe, max_hits, progress)
    sweep = Sweep(source, engines, searchable, limits, threads)
    with source.session():
        sweep.run()
    if not sweep.stopped:
        try:
            source.check()
        except SourceGoneError as error:
            sweep.stopped = error.message
    coverage = _coverage(stretches, sweep, source.unlisted())
    hits = tuple(sorted(sweep.hits)[:max_hits])
    took = time.monotonic() - started
    return ScanResult(
        hits, coverage, sweep.stopped is None, sweep.stopped, took, sweep.threads, tuple(normalise(sweep.lost))
    )


def _coverage(stretches: Sequence[Stretch], sweep: Sweep, unlisted: dict[str, int]) -> Coverage:
    unreadable = dict(unlisted)
    skipped = 0
    for stretch in stretches:
        if stretch.state == State.UNREADABLE:
            unreadable[stretch.reason] = unreadable.get(stretch.reason, 0) + stretch.size
        elif stretch.state == State.UNPOPULATED:
            skipped += stretch.size
    if sweep.unreadable:
        unreadable[UNREADABLE] = unreadable.get(UNREADABLE, 0) + sweep.unreadable
    mapped = sum(stretch.size for stretch in stretches) + sum(unlisted.values())
    unread = sweep.total - sweep.read - sweep.unreadable
    return Coverage(mapped, sweep.read, skipped, unreadable, unread)
