r"""Search for regular expressions: Python's engine runs only near bytes that every match must contain (required.py).

A filter finds these bytes: the compiled search, for literals (find.c) or runs of byte classes (runs.c), or numpy. If
nothing is known to be required, Python's engine searches everything: slower, with the same result. (Hyperscan is no
alternative: its 5.4.12 reports no match of ``\d-+`` beyond the first 15 bytes of a block, even without flags.)
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from sevkit.errors import UsageError
from sevkit.memory.search import native, required
from sevkit.memory.search.native import starts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sevkit.memory.search.native import Match
    from sevkit.memory.search.required import ByteSet, Required
    from sevkit.memory.sources.base import Range

MAX_MATCH = 4096
# Twice the length: a match that starts up to MAX_MATCH before the core can cover the start of another one in the core.
# To find that earlier match, the engine needs as many bytes of context before it again.
LOOKBEHIND, LOOKAHEAD = 2 * MAX_MATCH, MAX_MATCH + 1
_DENSE = 50_000  # with more candidates in one piece, the filter costs more than it saves
_SAMPLED = 8  # bytes of a run of classes that are compared
_STRIDE = 3  # the compiled search for runs is the faster way if it examines at most one byte in so many
_LONG = 8  # in a stretch of one class with at least so many bytes, only some bytes are examined
_NARROW = 32  # up to so many start positions are tried one by one
_NO_START = re.compile(rb"(?<!\\)(?:\\\\)*\\[AZz]")


class Expression:
    """A regular expression, and the indexes of the patterns that have this expression."""

    def __init__(self, value: bytes, indexes: Sequence[int]) -> None:
        self._indexes = indexes
        self._expression = compiled(value)
        self._filter = _filter(required.required(value, self._expression.flags, MAX_MATCH))

    def find(self, data: memoryview, core_start: int, core_end: int, limit: int) -> list[Match]:
        """Matches that start in the core and are not inside a match that starts earlier.

        So matches before the core are searched for too, but not reported: ``covered`` is where the last match ends.
        """
        hits: list[Match] = []
        covered = 0
        for low, high in self._starts(data, max(0, core_start - MAX_MATCH), core_end):
            for start in self._candidates(data, low, high):
                match = self._expression.match(data, start, start + MAX_MATCH)
                if match and match.end() > max(covered, start):
                    covered = match.end()
                    if start >= core_start:
                        hits += [(index, start, covered) for index in self._indexes]
                if len(hits) > limit:
                    return hits
        return hits

    def _candidates(self, data: memoryview, low: int, high: int) -> Iterator[int]:
        """Positions in ``[low, high)`` where a match may start: all if they are few, else those that `re` finds."""
        if high - low <= _NARROW:
            yield from range(low, high)
            return
        at = low
        while at < high and (seen := self._expression.search(data, at, high + MAX_MATCH)) and seen.start() < high:
            yield seen.start()
            at = seen.start() + 1

    def _starts(self, data: memoryview, low: int, high: int) -> list[Range]:
        """Ranges in ``[low, high)`` where a match may start, by the filter; overlapping ones are merged."""
        if self._filter is None:
            return [(low, high)]
        ranges = self._filter.ranges(data, low, min(len(data), high + MAX_MATCH))
        if ranges is None:
            return [(low, high)]
        found: list[Range] = []
        for start, end in ranges:
            first, last = max(low, start), min(high, end)
            if found and first <= found[-1][1]:
                found[-1] = (found[-1][0], max(last, found[-1][1]))
            elif first < last:
                found.append((first, last))
        return found


def compiled(value: bytes) -> re.Pattern[bytes]:
    """The expression; raises UsageError for one that is not understood, or that memory can never match."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # FutureWarning: syntax whose meaning may change in a later Python
            expression = re.compile(value, re.MULTILINE)
    except (re.error, OverflowError, RecursionError, ValueError) as error:
        raise UsageError(f"a regular expression is not understood: {error}", hint="see Python's `re`") from error
    if expression.match(b""):
        raise UsageError("a regular expression matches nothing at all: it would be found everywhere")
    least, _ = required.widths(value, expression.flags)
    if least > MAX_MATCH:
        raise UsageError(
            f"a regular expression needs {least} bytes to match; at most {MAX_MATCH} are looked at at once",
            hint="search for a part of it",
        )
    if _NO_START.search(value):
        raise UsageError(
            r"a regular expression has \A or \Z: memory has no start and no end", hint="use ^ and $, for line ends"
        )
    return expression


def longest(value: bytes) -> int:
    """The largest size in bytes that a match can have; 0 if unknown."""
    return required.widths(value, re.MULTILINE)[1]


class _Literals:
    """A filter: positions of a few byte strings, at most ``offset`` bytes behind the start of a match."""

    def __init__(self, strings: Sequence[bytes], offset: int) -> None:
        self._finder = native.Finder(strings, native.groups(strings))
        self._offset = offset

    def ranges(self, data: memoryview, low: int, high: int) -> list[Range] | None:
        """Where a match may start if the strings end in ``(low, high]``, in order; None if there are too many."""
        found = starts(self._finder, data, low, high, _DENSE)
        return None if len(found) > _DENSE else sorted((start - self._offset, start + 1) for start, _ in found)


class _Classes:
    """A filter: positions of runs of bytes in given classes. Each way to match has one run, found in its own way."""

    def __init__(self, found: Required) -> None:
        self._ways = [_way(sequence, found.offset) for sequence in found.alternatives]

    def ranges(self, data: memoryview, low: int, high: int) -> list[Range] | None:
        """Where a match may start if its run is in ``[low, high)``, in order; None if there are too many."""
        found: list[Range] = []
        for way in self._ways:
            ranges = way.ranges(data, low, high)
            if ranges is None or len(ranges) + len(found) > _DENSE:
                return None
            found += ranges
        return sorted(found) if len(self._ways) > 1 else found


def _way(sequence: Sequence[ByteSet], offset: int) -> _Skipping | _Comparing:
    """The compiled search, unless it is not built, or would have to look at most bytes."""
    skipping = _Skipping(sequence, offset) if native.built else None
    return skipping if skipping and skipping.stride >= _STRIDE else _Comparing(sequence, offset)


class _Skipping:
    """A run at most ``offset`` bytes behind the start of a match, found by the compiled search (runs.c)."""

    def __init__(self, sequence: Sequence[ByteSet], offset: int) -> None:
        self._runs, self._offset = native.Runs(sequence), offset
        self.stride = self._runs.stride

    def ranges(self, data: memoryview, low: int, high: int) -> list[Range] | None:
        """As in _Classes."""
        found = self._runs.places(data, low, high, _DENSE)
        return None if found is None else [(first - self._offset, last + 1) for first, last in found]


class _Run(NamedTuple):
    """How to find one run of byte sets: test every ``step``-th byte for ``first``, then ``others`` (distance, allowed).

    If a byte at position p passes, the run starts in ``[p - before, p - least]``.
    """

    step: int
    first: ByteSet
    others: list[tuple[int, ByteSet]]
    least: int
    before: int


class _Comparing:
    """The same with numpy, by testing some bytes of the run."""

    def __init__(self, sequence: Sequence[ByteSet], offset: int) -> None:
        self._run = _plan(sequence)
        self._tables = {allowed: _table(allowed) for _, allowed in [(0, self._run.first), *self._run.others]}
        self._offset = offset + self._run.before - self._run.least

    def ranges(self, data: memoryview, low: int, high: int) -> list[Range] | None:
        """As in _Classes."""
        import numpy as np

        view, run = np.frombuffer(data, dtype=np.uint8)[low:high], self._run
        at = np.flatnonzero(self._fits(view[:: run.step], run.first)) * run.step
        for distance, allowed in run.others:
            at = at[(at + distance >= 0) & (at + distance < len(view))]
            at = at[self._fits(view[at + distance], allowed)]
        if len(at) > _DENSE:
            return None
        return [(place - self._offset, place + 1) for place in (at - run.least + low).tolist()]

    def _fits(self, view: Any, allowed: ByteSet) -> Any:
        return view == next(iter(allowed)) if len(allowed) == 1 else self._tables[allowed][view]


def _table(allowed: ByteSet) -> Any:
    import numpy as np

    table = np.zeros(256, dtype=bool)
    table[list(allowed)] = True
    return table


def _plan(sequence: Sequence[ByteSet]) -> _Run:
    """Test the smallest set of the run first or, if the run has a long stretch of one class, sample the stretch.

    Example: a stretch of 16 digits, step 8. Of the positions 0, 8, 16, ... at least two are inside any such stretch,
    wherever it starts. So every 8th byte of the memory is tested; from a digit on, the bytes up to the next one 8 bytes
    further must be digits too. The stretch starts at most step - 1 bytes before the first digit that is seen.
    """
    rarest = min(range(len(sequence)), key=lambda at: len(sequence[at]))
    start, size = _stretch(sequence)
    if len(sequence[rarest]) > 1 and size >= _LONG:
        step = size // 2
        between = sorted({max(1, step * part // _SAMPLED) for part in range(1, _SAMPLED + 1)})
        # The stretch has at least 2 * step bytes, so two tested bytes are in it, and so are all bytes between them.
        return _Run(step, sequence[start], [(at, sequence[start]) for at in between], start, start + step - 1)
    others = sorted((at for at in range(len(sequence)) if at != rarest), key=lambda at: len(sequence[at]))[:_SAMPLED]
    return _Run(1, sequence[rarest], [(at - rarest, sequence[at]) for at in others], rarest, rarest)


def _stretch(sequence: Sequence[ByteSet]) -> tuple[int, int]:
    """The longest stretch of one class: its start and its length."""
    best = (0, 0)
    start = 0
    for at in range(1, len(sequence) + 1):
        if at == len(sequence) or sequence[at] != sequence[start]:
            best = max(best, (start, at - start), key=lambda each: each[1])
            start = at
    return best


def _filter(found: Required | None) -> _Literals | _Classes | None:
    if found is None:
        return None
    few = required.literals(found) if native.built else None
    return _Literals(*few) if few else _Classes(found)
