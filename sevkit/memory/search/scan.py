"""Search memory for patterns, on several threads, and account for every byte.

The hits do not depend on how the memory is cut into pieces, nor on the number of threads. Memory is searched in runs of
consecutive addresses; no hit crosses a gap between two runs.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from sevkit.memory.search.patterns import compile_patterns
from sevkit.memory.search.workers import Limits, Sweep, too_many
from sevkit.memory.sources.base import (
    Coverage,
    SourceGoneError,
    State,
    Stretch,
    intersect,
    normalise,
    page_up,
    runs,
    without,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.search.patterns import Pattern
    from sevkit.memory.search.workers import Hit, Part, Progress
    from sevkit.memory.sources.base import MemorySource, Range

MAX_HITS = 100_000
MAX_THREADS = 16  # the default: more threads only wait for the same memory, and each needs up to 10 MiB
_LEAST = 1 << 20  # bytes that a thread takes at least
_ROUNDS = 3  # how often a running process is looked at again for memory that came meanwhile
UNREADABLE = "unreadable"


class ScanResult(NamedTuple):
    """What a search found, and how much of the memory it read.

    ``finished`` is False if the search stopped early; ``stopped`` then says why. Hits are in order of address. ``lost``
    has the address ranges that should have been searched but could not be read; in order, disjoint. ``parts``: where
    the border of two pages may cut a literal that was not found in one piece.
    """

    hits: tuple[Hit, ...]
    coverage: Coverage
    finished: bool
    stopped: str | None
    seconds: float
    threads: int
    lost: tuple[Range, ...] = ()
    parts: tuple[Part, ...] = ()

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
    stretches = _within(source.stretches(), within)
    threads = threads or min(MAX_THREADS, len(os.sched_getaffinity(0)))
    limits = Limits(chunk or _LEAST, chunk or source.stripe, max_hits, progress)
    sweep = Sweep(source, engines, runs(stretches), limits, threads)
    with source.session():
        sweep.run()
    coverage = _coverage(stretches, sweep, source.unlisted())
    try:
        if not sweep.stopped:
            if {hit.pattern for hit in sweep.hits} != set(range(len(patterns))):
                coverage = _look_again(sweep, within, stretches, coverage)
            source.check()
    except SourceGoneError as error:
        sweep.stopped = error.message
    hits = tuple(sorted(set(sweep.hits))[:max_hits])
    complete = {hit.pattern for hit in hits}
    return ScanResult(
        hits,
        coverage,
        sweep.stopped is None,
        sweep.stopped,
        time.monotonic() - started,
        sweep.threads,
        tuple(normalise(sweep.lost)),
        tuple(sorted(part for part in sweep.parts if part.pattern not in complete)),
    )


def _within(stretches: Sequence[Stretch], within: Sequence[Range] | None) -> Sequence[Stretch]:
    return stretches if within is None else intersect(stretches, normalise(within))


def _look_again(
    first: Sweep, within: Sequence[Range] | None, stretches: Sequence[Stretch], coverage: Coverage
) -> Coverage:
    """Search what a running process has mapped or written to since it was opened; what is found is added to ``first``.

    The process may do so again during each round. What is in new mappings after the last round counts as not read.
    If one of these searches stops early, so has the first one.
    """
    source, engines, limits = first.source, first.engines, first.limits
    mapped = normalise((part.start, part.end) for part in stretches)
    searched = normalise((part.start, part.end) for part in stretches if part.state != State.UNPOPULATED)
    context = page_up(max(max(engine.lookbehind, engine.lookahead) for engine in engines))
    for last in [*[False] * (_ROUNDS - 1), True]:
        now = source.newer()
        data = runs(_within(now, within)) if now is not None else []
        fresh = without(data, searched)
        if not fresh:
            break
        if last:
            unread = sum(end - start for start, end in without(fresh, mapped))
            return coverage._replace(
                mapped_bytes=coverage.mapped_bytes + unread, unread_bytes=coverage.unread_bytes + unread
            )
        around = normalise((max(0, start - context), end + context) for start, end in fresh)
        sweep = Sweep(source, engines, runs(intersect([Stretch(*each) for each in data], around)), limits, 1)
        sweep.run()
        first.hits = list({*first.hits, *sweep.hits})
        first.parts |= sweep.parts
        if not sweep.stopped and len(first.hits) > limits.max_hits:
            sweep.stopped = too_many(limits.max_hits)
        if sweep.stopped:
            first.stopped = sweep.stopped
            return _unsearched(coverage, fresh, mapped)
        lost = [(part.start, part.end) for part in intersect([Stretch(*each) for each in normalise(sweep.lost)], fresh)]
        first.lost += lost
        coverage = _more(coverage, fresh, mapped, lost)
        searched, mapped = normalise([*searched, *fresh]), normalise([*mapped, *fresh])
    return coverage


def _unsearched(coverage: Coverage, fresh: Sequence[Range], mapped: Sequence[Range]) -> Coverage:
    """The coverage with ranges ``fresh`` that were not searched to their end."""
    searched = _more(coverage, fresh, mapped, ())
    size = searched.read_bytes - coverage.read_bytes
    return searched._replace(read_bytes=coverage.read_bytes, unread_bytes=coverage.unread_bytes + size)


def _more(coverage: Coverage, fresh: Sequence[Range], mapped: Sequence[Range], lost: Sequence[Range]) -> Coverage:
    """The coverage with the ranges ``fresh``: some were mapped and unpopulated, the others not. ``lost`` is in them."""
    size = sum(end - start for start, end in fresh)
    added = sum(end - start for start, end in without(fresh, mapped))
    missed = sum(end - start for start, end in lost)
    unreadable = dict(coverage.unreadable)
    if missed:
        unreadable[UNREADABLE] = unreadable.get(UNREADABLE, 0) + missed
    return coverage._replace(
        mapped_bytes=coverage.mapped_bytes + added,
        read_bytes=coverage.read_bytes + size - missed,
        skipped_unpopulated_bytes=coverage.skipped_unpopulated_bytes - (size - added),
        unreadable=unreadable,
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
