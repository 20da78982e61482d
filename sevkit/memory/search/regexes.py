r"""Search for regular expressions: Python's engine runs only near bytes that every match must contain (required.py).

The compiled search (matcher.c) finds these bytes and, by an automaton, where matches through them may start; without a
C compiler, numpy finds them. If nothing is known to be required, Python's engine searches everything: slower, with the
same result. (Hyperscan is no alternative: its 5.4.12 reports no match of ``\d-+`` beyond the first 15 bytes of a
block, even without flags.)
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from sevkit.errors import UsageError
from sevkit.memory.search import native, required
from sevkit.memory.search.automaton import automaton
from sevkit.memory.search.syntax import ANY, rarity, widths
from sevkit.memory.sources.base import normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.search.automaton import Automaton
    from sevkit.memory.search.native import Match
    from sevkit.memory.search.required import Required
    from sevkit.memory.search.syntax import ByteSet
    from sevkit.memory.sources.base import Range

MAX_MATCH = 4096
# Twice the length: a match that starts up to MAX_MATCH before the core can cover the start of another one in the core.
# To find that earlier match, the engine needs as many bytes of context before it again.
LOOKBEHIND, LOOKAHEAD = 2 * MAX_MATCH, MAX_MATCH + 1
_DENSE = 50_000  # with more candidates in one piece, the filter costs more than it saves
_SAMPLED = 8  # bytes of a run of classes that are compared
_RARE = 12.0  # bits of rarity of two places of a factor: it is searched for by these, else by skipping
_MANY = 16  # after so many starts that lie inside a match, it pays to ask whether another one may end beyond it
_LONG = 8  # in a stretch of one class with at least so many bytes, only some bytes are examined
_NARROW = 32  # up to so many start positions are tried one by one
_NO_START = re.compile(rb"(?<!\\)(?:\\\\)*\\[AZz]")


class Expression:
    """A regular expression, and the indexes of the patterns that have this expression."""

    def __init__(self, value: bytes, indexes: Sequence[int]) -> None:
        self._indexes = indexes
        self._expression = compiled(value)
        states = automaton(value, self._expression.flags) if native.built else None
        self._borders = states.packed(0, MAX_MATCH) if states is not None else None
        found = required.required(value, self._expression.flags, MAX_MATCH)
        self._filter: _Compiled | _Classes | None = None
        if found is not None:
            self._filter = _Compiled(found, states) if native.built else _Classes(found)

    def search(self, data: memoryview, core_start: int, core_end: int, limit: int) -> list[Match]:
        """As ``find``, and parts of matches at the borders of pages: (~index, border, border plus ``size``).

        So many bytes before the border or, if ``size`` is negative, behind it may belong to a match.
        """
        hits = self.find(data, core_start, core_end, limit)
        if self._borders is not None:
            for border, size in native.borders(self._borders, data, core_start, core_end):
                hits += [(~index, border, border + size) for index in self._indexes]
        return hits

    def find(self, data: memoryview, core_start: int, core_end: int, limit: int) -> list[Match]:
        """Matches that start in the core and are not inside a match that starts earlier.

        So matches before the core are searched for too, but not reported: ``covered`` is where the last match ends.
        """
        hits: list[Match] = []
        covered = 0
        for low, high, reach in self._starts(data, max(0, core_start - MAX_MATCH), core_end):
            at, inside = low, 0
            while at < high and (start := self._candidate(data, at, low, high)) is not None:
                at = start + 1
                match = self._expression.match(data, start, start + MAX_MATCH)
                if match and match.end() > max(covered, start):
                    covered = match.end()
                    if start >= core_start:
                        hits += [(index, start, covered) for index in self._indexes]
                    if len(hits) > limit:
                        return hits
                    inside = 0
                inside += covered > at
                if covered >= reach or (inside % _MANY == 0 and inside and self._passed(data, at, high, covered)):
                    at = max(at, covered)
        return hits

    def _candidate(self, data: memoryview, at: int, low: int, high: int) -> int | None:
        """The first position in ``[at, high)`` to try: each if the range is small, else the one that `re` finds."""
        if high - low <= _NARROW:
            return at
        while at < high:
            # Step by step: a match could go on to the end of all memory that `re` is given.
            end = min(high, at + MAX_MATCH)
            seen = self._expression.search(data, at, end + MAX_MATCH)
            if seen and seen.start() < end:
                return seen.start()
            at = end
        return None

    def _passed(self, data: memoryview, start: int, high: int, covered: int) -> bool:
        """Whether no match that starts from ``start`` on, before ``high`` and ``covered``, ends beyond ``covered``."""
        if not isinstance(self._filter, _Compiled) or start >= high:
            return False
        return not self._filter.reaches(data, start, min(covered, high) - 1, covered)

    def _starts(self, data: memoryview, low: int, high: int) -> list[tuple[int, int, int]]:
        """Ranges in ``[low, high)`` where a match may start, by the filter, each with how far its matches can reach."""
        ranges = self._filter.ranges(data, low, min(len(data), high + MAX_MATCH)) if self._filter is not None else None
        if ranges is None:
            return [(low, high, len(data))]
        return [(max(low, start), min(high, end), reach) for start, end, reach in ranges if start < high and end > low]


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
    least, _ = widths(value, expression.flags)
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
    return widths(value, re.MULTILINE)[1]


def cut_is_seen(value: bytes) -> bool:
    """Whether a match is seen wherever the border of two pages cuts it; else its parts may be too common to tell."""
    states = automaton(value, re.MULTILINE) if native.built else None
    return states is not None and states.telling()[2]


class _Compiled:
    """A filter: the compiled search. If the automaton is known, it gives only places from where a match can go on."""

    def __init__(self, found: Required, states: Automaton | None) -> None:
        few = required.literals(found) if len(found.alternatives) > 1 else None
        strings, least, most = few or ([], found.least, found.offset)
        what: Sequence[native.Factor | bytes] = strings or [_factor(sequence) for sequence in found.alternatives]
        packed = None
        if states is not None:
            sequences = [[frozenset({byte}) for byte in each] for each in strings] or found.alternatives
            packed = states.packed(states.within(sequences, least, most), MAX_MATCH)
        self._matcher = native.Matcher(what, packed, least, most)
        self.reaches = self._matcher.reaches

    def ranges(self, data: memoryview, low: int, high: int) -> list[tuple[int, int, int]] | None:
        """Where a match in ``[low, high)`` may start: disjoint and in order; None if there are too many places."""
        found = self._matcher.starts(data, low, high, _DENSE)
        return None if found is None else [(first, last + 1, reach) for first, last, reach in found]


def _factor(sequence: Sequence[ByteSet]) -> native.Factor:
    """How the compiled search is to find a factor: by its rarest places or, if none are rare, by skipping."""
    places: list[int] = []
    left = [place for place in range(len(sequence)) if len(sequence[place]) < len(ANY)]
    while left and len(places) < native.TESTS:
        # Single bytes first, for they are compared at once; the same set again tells less.
        seen = [sequence[place] for place in places]
        place = max(left, key=lambda at: rarity(sequence[at]) / (1 + seen.count(sequence[at])) - (at in places))
        places.append(place)
        left.remove(place)
    places.sort(key=lambda at: (len(sequence[at]) > 1, -rarity(sequence[at])))
    rare = sum(rarity(sequence[place]) for place in places[:2])
    return native.Factor(sequence, places, rare < _RARE)


class _Classes:
    """A filter: positions of runs of bytes in given classes, by numpy. Each way to match has one run."""

    def __init__(self, found: Required) -> None:
        self._ways = [_Comparing(sequence, found.offset) for sequence in found.alternatives]

    def ranges(self, data: memoryview, low: int, high: int) -> list[tuple[int, int, int]] | None:
        """Where a match may start if its run is in ``[low, high)``: disjoint and in order; None if too many."""
        found: list[Range] = []
        for way in self._ways:
            ranges = way.ranges(data, low, high)
            if ranges is None or len(ranges) + len(found) > _DENSE:
                return None
            found += ranges
        return [(start, end, len(data)) for start, end in normalise(found)]


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
    """The places of one run, by testing some of its bytes."""

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
