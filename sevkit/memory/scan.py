"""Search memory for patterns, on several threads, and account for every byte.

The law: how the memory is cut into pieces, and how many threads there are, changes no hit. Memory is searched in runs
of consecutive addresses; what lies on the two sides of a gap is never taken for neighbours.
"""

import os
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sevkit.memory.patterns import Pattern, compile_patterns
from sevkit.memory.source import (
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
from sevkit.memory.sweep import Hit, Limits, Progress, Sweep

MAX_HITS = 100_000
MAX_THREADS = 16  # by default: more wait for the same memory, and each takes up to 10 MiB
_LEAST = 1 << 20  # bytes that are worth a thread's turn
_TURNS = 16  # that each thread should have at least, so that all end at about the same time
UNREADABLE = "unreadable"


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
    UsageError for a pattern that makes no sense. ``chunk``: bytes of a piece, for tests.
    """
    started = time.monotonic()
    engines = compile_patterns(patterns)
    stretches: Sequence[Stretch] = source.stretches()
    if within is not None:
        stretches = intersect(stretches, normalise(within))
    searchable = runs(stretches)
    total = sum(end - start for start, end in searchable)
    count = threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))
    piece = chunk or min(source.stripe, max(_LEAST, total // (count * _TURNS)))
    count = max(1, min(count, -(-total // piece)))
    with source.session():
        sweep = Sweep(source, engines, searchable, Limits(piece, max_hits, progress))
        sweep.run(count)
    if not sweep.stopped:
        try:
            source.check()
        except SourceGoneError as error:
            sweep.stopped = error.message
    coverage = _coverage(stretches, sweep)
    hits = tuple(sorted(sweep.hits)[:max_hits])
    return ScanResult(hits, coverage, sweep.stopped is None, sweep.stopped, time.monotonic() - started, count)


def _coverage(stretches: Sequence[Stretch], sweep: Sweep) -> Coverage:
    unreadable: Counter[str] = Counter()
    skipped = 0
    for stretch in stretches:
        if stretch.state is State.UNREADABLE:
            unreadable[stretch.reason] += stretch.size
        elif stretch.state is State.UNPOPULATED:
            skipped += stretch.size
    if sweep.unreadable:
        unreadable[UNREADABLE] += sweep.unreadable
    mapped = sum(stretch.size for stretch in stretches)
    unread = sweep.total - sweep.read - sweep.unreadable
    return Coverage(mapped, sweep.read, skipped, dict(unreadable), unread)
