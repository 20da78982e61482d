"""Find what every match of a regular expression must contain, so that Python's engine need only run near such places.

A *sequence* has one byte set per byte: ``[a-z]=`` is a set of 26 bytes, then a set of 1. The syntax tree comes from the
parser of Python's `re`. If a part of it is not understood, nothing is known to be required, and `re` searches all.
A set may be larger than what the expression allows, never smaller: a filter may let too much through, never too little.

    x(ab|cd)+[0-9]{3}y   contains a run "[0-9][0-9][0-9]y", and one of "ab", "cd": the most selective one is used
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from sevkit.memory.search.syntax import NOT_UNDERSTOOD, ByteSet, inner_flags, leaf, parsed, rarities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LONGEST = 64  # bytes of a sequence; longer ones are cut
MOST_ALTERNATIVES = 64
_TAIL = 8  # bytes at the end of a repeat that go on in the next sequence
_RARE = 24.0  # bits of rarity
_LEAST_BITS = 5.0  # with fewer, more than one random byte in 32 would be a candidate: not worth a filter


class Required(NamedTuple):
    """Each match contains one of ``alternatives``, ``least`` to ``offset`` bytes after the start of the match."""

    alternatives: tuple[tuple[ByteSet, ...], ...]
    offset: int
    least: int = 0

    @property
    def bits(self) -> float:
        """How selective it is: random bytes match with a probability of about ``2 ** -bits``."""
        return min(_bits(sequence) for sequence in self.alternatives) - math.log2(len(self.alternatives))

    @property
    def rarity(self) -> float:
        """The same for memory as it mostly is."""
        return min(rarities(sequence) for sequence in self.alternatives) - math.log2(len(self.alternatives))


def required(value: bytes, flags: int, longest: int) -> Required | None:
    """What each match of at most ``longest`` bytes must contain; None if nothing selective enough is known."""
    try:
        tree = parsed(value, flags)
        walk = _Walk(tree.state.flags, longest)
        walk.all(tree)
        best = walk.best()
    except NOT_UNDERSTOOD:
        return None
    return best if best is not None and best.bits >= _LEAST_BITS else None


def literals(found: Required, *, shortest: int = 3) -> tuple[list[bytes], int, int] | None:
    """The same as (byte strings, least, largest offset); None unless some of at least ``shortest`` bytes suffice.

    Each sequence is shortened to a window with few combinations: ``[ab]xyz[0-9a-f]`` becomes "axyz" and "bxyz".
    """
    strings: list[bytes] = []
    offset, least = 0, found.offset + LONGEST
    for sequence in found.alternatives:
        window = _window(sequence)
        if window is None or window[1] - window[0] < shortest:
            return None
        strings += [bytes(chosen) for chosen in product(*sequence[slice(*window)])]
        offset = max(offset, found.offset + window[0])
        least = min(least, found.least + window[0])
    return (sorted(set(strings)), least, offset) if len(set(strings)) <= MOST_ALTERNATIVES else None


def _window(sequence: Sequence[ByteSet], most: int = 16) -> tuple[int, int] | None:
    """The longest part of a sequence that at most ``most`` different strings match: (start, end)."""
    best: tuple[int, int] | None = None
    for start in range(len(sequence)):
        count, end = 1, start
        while end < len(sequence) and count * len(sequence[end]) <= most:
            count *= len(sequence[end])
            end += 1
        if end > start and (best is None or end - start > best[1] - best[0]):
            best = (start, end)
    return best


def _bits(sequence: Iterable[ByteSet]) -> float:
    return sum(8 - math.log2(len(each)) if each else 8 for each in sequence)


class _Walk:
    """Walk through a syntax tree from left to right, and collect the runs of byte sets that every match contains.

    ``near`` and ``at`` are the smallest and the largest number of bytes from the start of a match to the current node;
    ``run`` is the current run of bytes that follow one another directly, and ``run_near`` and ``run_at`` the values of
    the two where it started.
    """

    def __init__(self, flags: int, longest: int) -> None:
        self.flags, self.longest = flags, longest
        self.near = self.at = 0
        self.run: list[ByteSet] = []
        self.run_near = self.run_at = 0
        self.found: list[Required] = []

    def best(self) -> Required | None:
        """The most selective requirement found."""
        self.cut()
        return max((each for each in self.found if each.bits >= _LEAST_BITS), key=_preference, default=None)

    def cut(self) -> None:
        """End the current run: other bytes may come before the next node."""
        if self.run:
            self.found.append(Required((tuple(self.run),), self.run_at, self.run_near))
        self.run = []

    def byte(self, allowed: ByteSet) -> None:
        """The next byte of each match is one of these."""
        if len(self.run) == LONGEST:
            self.cut()
        if not self.run:
            self.run_near, self.run_at = self.near, self.at
        self.run.append(allowed)
        self.skip(1, 1)

    def skip(self, least: int, most: int) -> None:
        self.near, self.at = min(self.longest, self.near + least), min(self.longest, self.at + most)

    def all(self, tree: Any) -> None:
        """All items of a concatenation."""
        for operation, argument in tree:
            allowed = leaf(operation, argument, self.flags)
            if allowed is not None:
                self.byte(allowed)
            else:
                getattr(self, f"_{str(operation).lower()}")(argument)

    def _at(self, _: Any) -> None:
        """An anchor: no bytes."""

    _assert = _assert_not = _at

    def _groupref(self, _: Any) -> None:
        self.cut()
        self.skip(0, self.longest)

    _groupref_exists = _groupref

    def _subpattern(self, argument: Any) -> None:
        before = self.flags
        self.flags = inner_flags(argument, before)
        self.all(argument[-1])
        self.flags = before

    def _atomic_group(self, inside: Any) -> None:
        self.all(inside)

    def _branch(self, argument: Any) -> None:
        self.cut()
        ways = [self._alone(way) for way in argument[1]]
        if all(ways) and sum(len(way.alternatives) for way in ways if way) <= MOST_ALTERNATIVES:
            sequences = tuple(sequence for way in ways if way for sequence in way.alternatives)
            self._add(sequences, min(w.least for w in ways if w), max(w.offset for w in ways if w))
        sizes = [way.getwidth() for way in argument[1]]
        self.skip(min(least for least, _ in sizes), max(most for _, most in sizes))

    def _max_repeat(self, argument: Any) -> None:
        least, most, inside = int(argument[0]), int(argument[1]), argument[2]
        one = leaf(inside[0][0], inside[0][1], self.flags) if len(inside) == 1 else None
        if one is not None and least:
            self._repeat(one, least, most)
            return
        self.cut()
        if least and (found := self._alone(inside)):
            self._add(found.alternatives, found.least, found.offset)
        smallest, largest = (min(self.longest, width) for width in inside.getwidth())
        self.skip(smallest * min(self.longest, least), largest * min(self.longest, most))

    _min_repeat = _possessive_repeat = _max_repeat

    def _repeat(self, allowed: ByteSet, least: int, most: int) -> None:
        """One byte, repeated: what came before goes on with its first bytes, what comes next begins with its last."""
        near, at = self.near, self.at
        for _ in range(min(least, LONGEST)):
            self.byte(allowed)
        if least == most and least <= LONGEST:
            return
        self.cut()
        self.near, self.at = near, at
        tail = min(least, _TAIL)
        self.skip(least - tail, most - tail)
        for _ in range(tail):
            self.byte(allowed)

    def _add(self, sequences: tuple[tuple[ByteSet, ...], ...], least: int, most: int) -> None:
        self.found.append(Required(sequences, min(self.longest, self.at + most), min(self.longest, self.near + least)))

    def _alone(self, inside: Any) -> Required | None:
        walk = _Walk(self.flags, self.longest)
        walk.all(inside)
        walk.cut()
        return max(walk.found, key=_preference, default=None)


def _preference(each: Required) -> tuple[float, int, float]:
    """Rare enough is enough: then those that are searched for in one pass."""
    return min(each.rarity, _RARE), -len(each.alternatives), each.rarity
