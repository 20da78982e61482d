"""What to search for, compiled.

Literals hit at every place where they stand, overlapping ones too. Regular expressions are Python's, on bytes, ``^``
and ``$`` at line ends; a match counts from each place where one starts, unless it lies inside one that starts earlier,
and sees no more than MAX_MATCH bytes. So whether something is found depends on the bytes near it alone, never on how
the memory was cut. Literals are left to our own search (native.py) where that was built, else to Python's engine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sevkit.errors import UsageError
from sevkit.memory.search import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sevkit.memory.search.native import Match

    Find = Callable[[memoryview, int, int, int], list[Match]]  # data, start and end of the core, limit

MAX_LITERAL = 8192
MAX_PATTERNS = 1_000_000
MAX_REGEXES = 100  # each is a search of its own


class Pattern(NamedTuple):
    """A literal, or with ``regex`` a regular expression; ``name`` is what hits are reported under."""

    value: bytes
    regex: bool = False
    name: str = ""

    def label(self, index: int) -> str:
        """The name, or a number that gives no secret away."""
        return self.name or f"pattern {index + 1}"


class Engine(NamedTuple):
    """Compiled patterns of one kind. ``lookbehind`` and ``lookahead``: bytes around a place that decide on it.

    ``find(data, core_start, core_end, limit)`` gives the matches of the core, as (pattern, start, end) in ``data``; the
    rest of ``data`` is context. At more than ``limit``, more than ``limit`` of them. Threads share an engine.
    ``literals``, where all patterns are literals of the compiled search, are these.
    """

    lookbehind: int
    lookahead: int
    find: Find
    literals: Literals | None = None


def compile_patterns(patterns: Sequence[Pattern]) -> list[Engine]:
    """Engines for all patterns. Raises UsageError for one that is empty, too long, or not understood."""
    if not patterns:
        raise UsageError("nothing to search for", hint="give --secret, --secrets-file or --regex")
    if len(patterns) > MAX_PATTERNS:
        raise UsageError(f"{len(patterns)} patterns; at most {MAX_PATTERNS} are searched for at once")
    literal: dict[bytes, list[int]] = {}
    regex: dict[bytes, list[int]] = {}
    for index, pattern in enumerate(patterns):
        if not pattern.value:
            raise UsageError(f"{pattern.label(index)} is empty: it would be found everywhere")
        if len(pattern.value) > MAX_LITERAL:
            raise UsageError(
                f"{pattern.label(index)} has {len(pattern.value)} bytes; at most {MAX_LITERAL} are searched for",
                hint="search for a part of it",
            )
        (regex if pattern.regex else literal).setdefault(pattern.value, []).append(index)
    if len(regex) > MAX_REGEXES:
        raise UsageError(f"{len(regex)} regular expressions; at most {MAX_REGEXES} are searched for at once")
    return _literals(literal) + _regexes(regex)


def _regexes(group: dict[bytes, list[int]]) -> list[Engine]:
    if not group:
        return []
    from sevkit.memory.search.regexes import LOOKAHEAD, LOOKBEHIND, Expression

    return [Engine(LOOKBEHIND, LOOKAHEAD, Expression(value, indexes).find) for value, indexes in group.items()]


def _literals(group: dict[bytes, list[int]]) -> list[Engine]:
    if not group:
        return []
    longest = max(map(len, group))
    if not native.built:
        return [Engine(longest - 1, 0, _Plain(group).find)]
    found = Literals(group)
    return [Engine(longest - 1, 0, found.find, found)]


class Literals:
    """Literals for the compiled search, and which patterns they stand for."""

    def __init__(self, group: dict[bytes, list[int]]) -> None:
        values = list(group)
        self.finder = native.Finder(values, native.groups(values))
        self._table = [(group[value], len(value)) for value in values]

    def find(self, data: memoryview, core_start: int, core_end: int, limit: int) -> list[Match]:
        """Literals that end in the core."""
        return self.matches(native.starts(self.finder, data, core_start, core_end, limit))

    def matches(self, found: Iterable[tuple[int, int]]) -> list[Match]:
        """Where literals start, as (start, its place in the table), in terms of patterns."""
        hits: list[Match] = []
        for start, literal in found:
            indexes, size = self._table[literal]
            hits += [(index, start, start + size) for index in indexes]
        return hits


class _Plain:
    """Literals by Python's engine, each on its own: where there was no C compiler."""

    def __init__(self, group: dict[bytes, list[int]]) -> None:
        self._group = [(value, re.compile(re.escape(value), re.DOTALL), group[value]) for value in group]

    def find(self, data: memoryview, core_start: int, core_end: int, limit: int) -> list[Match]:
        """Literals that end in the core."""
        hits: list[Match] = []
        for value, expression, indexes in self._group:
            at = max(0, core_start - len(value) + 1)
            while (seen := expression.search(data, at, core_end)) and len(hits) <= limit:
                at = seen.start() + 1
                hits += [(index, *seen.span()) for index in indexes]
        return hits
