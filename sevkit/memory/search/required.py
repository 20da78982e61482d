"""Find what every match of a regular expression must contain, so that Python's engine need only run near such places.

A *sequence* has one byte set per byte: ``[a-z]=`` is a set of 26 bytes, then a set of 1. The syntax tree comes from the
parser of Python's `re`. If a part of it is not understood, nothing is known to be required, and `re` searches all.
A set may be larger than what the expression allows, never smaller: a filter may let too much through, never too little.

    x(ab|cd)+[0-9]{3}y   contains a run "[0-9][0-9][0-9]y", and one of "ab", "cd": the most selective one is used
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ByteSet = frozenset[int]
ANY: ByteSet = frozenset(range(256))
LONGEST = 64  # bytes of a sequence; longer ones are cut
MOST_ALTERNATIVES = 64
_NOT_UNDERSTOOD = (
    ImportError,
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    re.error,
    RecursionError,
    OverflowError,
)
_LEAST_BITS = 5.0  # with fewer, more than one random byte in 32 would be a candidate: not worth a filter


class Required(NamedTuple):
    """Each match contains one of ``alternatives``, at most ``offset`` bytes after the start of the match."""

    alternatives: tuple[tuple[ByteSet, ...], ...]
    offset: int

    @property
    def bits(self) -> float:
        """How selective it is: random bytes match with a probability of about ``2 ** -bits``."""
        return min(_bits(sequence) for sequence in self.alternatives) - math.log2(len(self.alternatives))


def required(value: bytes, flags: int, longest: int) -> Required | None:
    """What each match of at most ``longest`` bytes must contain; None if nothing selective enough is known."""
    try:
        tree = _parsed(value, flags)
        if tree.state.flags & (re.LOCALE | re.DEBUG):
            return None
        walk = _Walk(tree.state.flags, longest)
        walk.all(tree)
        best = walk.best()
    except _NOT_UNDERSTOOD:
        return None
    return best if best is not None and best.bits >= _LEAST_BITS else None


def widths(value: bytes, flags: int) -> tuple[int, int]:
    """The smallest and the largest size of a match in bytes; (0, 0) if unknown."""
    try:
        least, most = _parsed(value, flags).getwidth()
    except _NOT_UNDERSTOOD:
        return 0, 0
    return int(least), int(most)


def _parsed(value: bytes, flags: int) -> Any:
    from re import _parser  # type: ignore[attr-defined]  # no public interface gives the tree

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _parser.parse(value, flags)


def literals(found: Required, *, shortest: int = 3) -> tuple[list[bytes], int] | None:
    """The same as (byte strings, largest offset); None unless a few strings of at least ``shortest`` bytes suffice.

    Each sequence is shortened to a window with few combinations: ``[ab]xyz[0-9a-f]`` becomes "axyz" and "bxyz".
    """
    strings: list[bytes] = []
    offset = 0
    for sequence in found.alternatives:
        window = _window(sequence)
        if window is None or window[1] - window[0] < shortest:
            return None
        strings += [bytes(chosen) for chosen in product(*sequence[slice(*window)])]
        offset = max(offset, found.offset + window[0])
    return (sorted(set(strings)), offset) if len(set(strings)) <= MOST_ALTERNATIVES else None


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

    ``at`` is the largest number of bytes from the start of a match to the current node; ``run`` is the current run of
    bytes that follow one another directly, and ``run_at`` the value of ``at`` where it started.
    """

    def __init__(self, flags: int, longest: int) -> None:
        self.flags, self.longest = flags, longest
        self.at = 0
        self.run: list[ByteSet] = []
        self.run_at = 0
        self.found: list[Required] = []

    def best(self) -> Required | None:
        """The most selective requirement found."""
        self.cut()
        return max(self.found, key=lambda each: each.bits, default=None)

    def cut(self) -> None:
        """End the current run: other bytes may come before the next node."""
        if self.run:
            self.found.append(Required((tuple(self.run),), self.run_at))
        self.run = []

    def byte(self, allowed: ByteSet) -> None:
        """The next byte of each match is one of these."""
        if len(self.run) == LONGEST:
            self.cut()
        if not self.run:
            self.run_at = self.at
        self.run.append(allowed)
        self.skip(1)

    def skip(self, most: int) -> None:
        self.at = min(self.longest, self.at + most)

    def all(self, tree: Any) -> None:
        """All items of a concatenation."""
        for operation, argument in tree:
            getattr(self, f"_{str(operation).lower()}")(argument, tree)

    def _literal(self, code: int, _: Any) -> None:
        self.byte(self._cases(frozenset({code})))

    def _not_literal(self, code: int, _: Any) -> None:
        self.byte(ANY - self._cases(frozenset({code})))

    def _any(self, *_: Any) -> None:
        self.byte(ANY)

    def _in(self, items: Any, _: Any) -> None:
        self.byte(self._cases(_members(items)))

    def _at(self, *_: Any) -> None:
        """An anchor: no bytes."""

    _assert = _assert_not = _at

    def _groupref(self, *_: Any) -> None:
        self.cut()
        self.skip(self.longest)

    _groupref_exists = _groupref

    def _subpattern(self, argument: Any, _: Any) -> None:
        _, added, removed, inside = argument
        if added & re.LOCALE:
            raise ValueError("what a byte matches depends on the locale")
        before = self.flags
        self.flags = before & ~removed | added
        self.all(inside)
        self.flags = before

    def _atomic_group(self, inside: Any, _: Any) -> None:
        self.all(inside)

    def _branch(self, argument: Any, _: Any) -> None:
        self.cut()
        ways = [self._alone(way) for way in argument[1]]
        if all(ways) and sum(len(way.alternatives) for way in ways if way) <= MOST_ALTERNATIVES:
            sequences = tuple(sequence for way in ways if way for sequence in way.alternatives)
            self.found.append(Required(sequences, min(self.longest, self.at + max(w.offset for w in ways if w))))
        self.skip(max(way.getwidth()[1] for way in argument[1]))

    def _max_repeat(self, argument: Any, _: Any) -> None:
        least, most, inside = argument
        one = len(inside) == 1 and inside.getwidth() == (1, 1)
        if one and least:
            for _number in range(min(int(least), LONGEST)):
                self.all(inside)
            if least == most and least <= LONGEST:
                return
            self.cut()
            self.skip(self.longest)
            return
        self.cut()
        if least and (found := self._alone(inside)):
            self.found.append(found._replace(offset=min(self.longest, self.at + found.offset)))
        self.skip(min(self.longest, inside.getwidth()[1]) * min(self.longest, int(most)))

    _min_repeat = _possessive_repeat = _max_repeat

    def _alone(self, inside: Any) -> Required | None:
        walk = _Walk(self.flags, self.longest)
        walk.all(inside)
        return walk.best()

    def _cases(self, allowed: ByteSet) -> ByteSet:
        if not self.flags & re.IGNORECASE:
            return allowed
        text = bytes(allowed)
        return frozenset(text.lower() + text.upper()) | allowed


def _members(items: Any) -> ByteSet:
    """The bytes of a class."""
    found: set[int] = set()
    negated = False
    for operation, argument in items:
        name = str(operation)
        if name == "NEGATE":
            negated = True
        elif name == "LITERAL":
            found.add(argument)
        elif name == "RANGE":
            found.update(range(argument[0], argument[1] + 1))
        elif name == "CATEGORY":
            found |= _category(str(argument))
        else:
            raise KeyError(name)
    return ANY - found if negated else frozenset(found)


_CATEGORIES = {"DIGIT": rb"\d", "SPACE": rb"\s", "WORD": rb"\w"}


@functools.cache
def _category(name: str) -> ByteSet:
    kind = re.compile(_CATEGORIES[name.removeprefix("CATEGORY_").removeprefix("NOT_")])
    inside = frozenset(code for code in ANY if kind.match(bytes([code])))
    return ANY - inside if name.startswith("CATEGORY_NOT_") else inside
