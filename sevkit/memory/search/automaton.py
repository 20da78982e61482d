r"""An automaton that accepts at least what a regular expression matches: Glushkov's, with one state per byte.

From a place that a filter finds, the compiled search follows it to the end of a match and back to its start
(automaton.c). What it does not know (assertions, anchors, atomic groups) only lets it accept more.

    \w+@\w+\.com    states 0 to 6: \w @ \w . c o m; of state 0, follow is {0, 1}; first {0}, last {6}
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from sevkit.memory.search.syntax import NOT_UNDERSTOOD, inner_flags, leaf, parsed, rarity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sevkit.memory.search.syntax import ByteSet

STATES = 64
# Bits of rarity from which on a part of a match tells something: "123-45" of a social security number has 34. Random
# memory has such a part at one border of pages in 2 ** 28; a guest of 1 GiB has 2 ** 18 borders.
TELLING = 28.0
LONGEST = 64  # bytes of a part that borders.c looks at
_CAPS = (1 << 32, 16, 4, 1)  # copies of what is repeated; with fewer, more than the expression allows is accepted
_ENDLESS = 1 << 31


class _TooManyError(Exception):
    """The expression has more than STATES bytes."""


class _Part(NamedTuple):
    """A part of the expression: the states that may begin it and end it, and whether it may have no bytes."""

    first: int
    last: int
    empty: bool


class Automaton:
    """States are numbered from left to right; sets of states are bit masks.

    ``exact`` is False if it may accept more than the expression.
    """

    def __init__(self, tree: Any, cap: int) -> None:
        self.sets: list[ByteSet] = []
        self.follow: list[int] = []
        self._cap = cap
        self.exact = True
        self.first, self.last, _ = self._all(tree, tree.state.flags)
        self.precede = [
            sum(1 << before for before, after in enumerate(self.follow) if after >> state & 1)
            for state in range(len(self.sets))
        ]

    def within(self, sequences: Iterable[Sequence[ByteSet]], least: int, most: int) -> int:
        """The states of the first byte of one of these sequences, ``least`` to ``most`` bytes into a match."""
        found = 0
        for sequence in sequences:
            steps = [self._allowing(sequence[0])]
            for allowed in sequence[1:]:
                steps.append(_united(self.follow, steps[-1]) & self._allowing(allowed))
            states = steps.pop()
            while steps:
                states = _united(self.precede, states) & steps.pop()
            found |= states
        return found & self._after(least, most)

    def _after(self, least: int, most: int) -> int:
        """The states that are reached ``least`` to ``most`` bytes after the first one of a match."""
        states, found = self.first, 0
        for distance in range(min(most, least + STATES) + 1):  # what can be reached is reached within STATES bytes
            found |= states if distance >= least else 0
            states = _united(self.follow, states)
        return found

    def packed(self, at: int, longest: int) -> bytes:
        """As automaton.h has it, for matches of at most ``longest`` bytes; ``at``: as ``within`` returns it."""
        fits = [sum(1 << state for state, allowed in enumerate(self.sets) if byte in allowed) for byte in range(256)]
        pad = [0] * (STATES - len(self.sets))
        ends, begins, _ = self.telling()
        values = [*fits, *self.follow, *pad, *self.precede, *pad, self.first, self.last, at, longest, ends, begins]
        return struct.pack(f"{len(values)}Q", *values)

    def telling(self) -> tuple[int, int, bool]:
        r"""The states to look for at the end of a page and at the begin, and whether each cut match is seen.

        A border cuts a match between a state and a following one. Looked for is the part that is rarer in memory, if
        it is rare enough: the least that can come before, or behind. A part that is a match itself is found as such.
        At most LONGEST bytes are looked at: a part that can be longer, as of ``\w+@``, is not seen for certain.
        """
        before, behind = self._rarities(self.first, self.follow), self._rarities(self.last, self.precede)
        ends = begins = 0
        whole = True
        for state, after in enumerate(self.follow):
            for other in range(len(self.sets)):
                if not after >> other & 1:
                    continue
                if self.last >> state & 1 or self.first >> other & 1:
                    whole = whole and self.exact
                elif max(before[state], behind[other]) < TELLING:
                    whole = False
                elif before[state] >= behind[other]:
                    ends |= 1 << state
                else:
                    begins |= 1 << other
        whole = whole and self._ends_soon(ends, self.precede, self.first)
        return ends, begins, whole and self._ends_soon(begins, self.follow, self.last)

    def _ends_soon(self, states: int, edges: Sequence[int], goal: int) -> bool:
        """Whether each way from these states reaches ``goal`` within LONGEST bytes."""
        for _ in range(LONGEST):
            states = _united(edges, states & ~goal)
        return not states

    def _rarities(self, start: int, edges: Sequence[int]) -> list[float]:
        """For each state, the least rarity of the bytes on a way to it from ``start``, both included."""
        own = [rarity(allowed) for allowed in self.sets]
        least = [own[state] if start >> state & 1 else math.inf for state in range(len(own))]
        changed = True
        while changed:
            changed = False
            for state, after in enumerate(edges):
                for other, rare in enumerate(own):
                    if after >> other & 1 and least[state] + rare < least[other]:
                        least[other], changed = least[state] + rare, True
        return least

    def _allowing(self, allowed: ByteSet) -> int:
        return sum(1 << state for state, each in enumerate(self.sets) if each & allowed)

    def _all(self, tree: Any, flags: int) -> _Part:
        whole = _Part(0, 0, empty=True)
        for operation, argument in tree:
            whole = self._then(whole, self._node(operation, argument, flags))
        return whole

    def _then(self, one: _Part, other: _Part) -> _Part:
        self._connect(one.last, other.first)
        first = one.first | other.first if one.empty else one.first
        last = one.last | other.last if other.empty else other.last
        return _Part(first, last, one.empty and other.empty)

    def _connect(self, before: int, after: int) -> None:
        for state in range(len(self.sets)):
            if before >> state & 1:
                self.follow[state] |= after

    def _node(self, operation: object, argument: Any, flags: int) -> _Part:
        allowed = leaf(operation, argument, flags)
        if allowed is not None:
            return self._state(allowed)
        name = str(operation)
        if name in ("AT", "ASSERT", "ASSERT_NOT"):
            self.exact = False
            return _Part(0, 0, empty=True)
        if name == "SUBPATTERN":
            return self._all(argument[-1], inner_flags(argument, flags))
        self.exact = self.exact and name not in ("ATOMIC_GROUP", "POSSESSIVE_REPEAT")
        if name == "ATOMIC_GROUP":
            return self._all(argument, flags)
        if name == "BRANCH":
            ways = [self._all(way, flags) for way in argument[1]]
            first, last = (_union(way[end] for way in ways) for end in (0, 1))
            return _Part(first, last, any(way.empty for way in ways))
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            return self._repeat(argument, flags)
        raise KeyError(name)

    def _state(self, allowed: ByteSet) -> _Part:
        if len(self.sets) == STATES:
            raise _TooManyError
        self.sets.append(allowed)
        self.follow.append(0)
        state = 1 << len(self.sets) - 1
        return _Part(state, state, empty=False)

    def _repeat(self, argument: Any, flags: int) -> _Part:
        """As many copies as it says; without an end, or with one too far away, the last copy is repeated."""
        least, most, inside = int(argument[0]), int(argument[1]), argument[2]
        whole = _Part(0, 0, empty=True)
        endless = most >= _ENDLESS or most > self._cap
        self.exact = self.exact and least <= self._cap and (most >= _ENDLESS or not endless)
        copies = max(1, min(least, self._cap)) if endless else most
        for number in range(copies):
            copy = self._all(inside, flags)
            if endless and number == copies - 1:
                self._connect(copy.last, copy.first)
            whole = self._then(whole, copy._replace(empty=copy.empty or number >= least))
        return whole


def automaton(value: bytes, flags: int) -> Automaton | None:
    """The automaton of an expression; None if it is not understood, or too long."""
    try:
        tree = parsed(value, flags)
        for cap in _CAPS:
            try:
                return Automaton(tree, cap)
            except _TooManyError:
                continue
    except NOT_UNDERSTOOD:
        pass
    return None


def _union(masks: Iterable[int]) -> int:
    whole = 0
    for mask in masks:
        whole |= mask
    return whole


def _united(of: Sequence[int], states: int) -> int:
    return _union(masks for state, masks in enumerate(of) if states >> state & 1)
