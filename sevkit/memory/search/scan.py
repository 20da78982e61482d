"""Search memory for patterns, on several threads, and account for every byte.

The law: how the memory is cut into pieces, and how many threads there are, changes no hit. Memory is searched in runs
of consecutive addresses; what lies on the two sides of a gap is never taken for neighbours.
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
MAX_THREADS = 16  # by default: more wait for the same memory, and each takes up to 10 MiB
_LEAST = 1 << 20  # bytes that are worth a thread's turn
UNREADABLE = "unreadable"


class ScanResult(NamedTuple):
    """What a search found, and what of the memory it saw.

    ``finished`` is False when it stopped early; ``stopped`` then says why. Hits are in order of address. ``lost`` are
    the addresses that were to be searched and could not be read; in order, disjoint.
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
        """Whether "not found" means that it is not there: finished, there was memory, and nothing was unreadable."""
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
    """Search all that can be read of ``source``, or of the address ranges ``within``, for all patterns at once.

    Stops, unfinished, when the source goes away, or at more than ``max_hits`` hits, of which it gives so many. Raises
    UsageError for a pattern that makes no sense. ``chunk``: the bytes that a thread takes at once, for tests.
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
