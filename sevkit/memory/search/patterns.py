"""What to search for, compiled.

Every occurrence of a literal is a hit, also overlapping ones. Regular expressions are Python's, on bytes, with ``^``
and ``$`` at line ends. Each position where a match starts is a hit, unless the match is inside one that starts earlier;
a match has at most MAX_MATCH bytes. So a hit depends only on the bytes near it, never on how the memory is cut into
pieces. Literals are found by our own search (native.py) if it was built, else by Python's engine.
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
MAX_REGEXES = 100  # the memory is searched once per expression


class Pattern(NamedTuple):
    """A literal or, with ``regex``, a regular expression. Hits are reported under ``name``."""

    value: bytes
    regex: bool = False
    name: str = ""

    def label(self, index: int) -> str:
        """The name, or a number if there is none: the value itself may be secret."""
        return self.name or f"pattern {index + 1}"


class Engine(NamedTuple):
    """Compiled patterns of one kind. ``lookbehind`` and ``lookahead``: bytes of context that ``find`` needs.

    ``find(data, core_start, core_end, limit)`` returns the matches of the core, as (pattern, start, end) in ``data``;
    the rest of ``data`` is context. If there are more than ``limit`` matches, it may stop after more than ``limit``.
    The pattern ``~index`` is a part of a match that the border of two pages cuts: ``start`` is the border, and
    ``end - start`` the number of bytes before the cut; for a regular expression, of the bytes seen before the border
    or, if negative, behind it. Threads share an engine. ``literals`` is set if the compiled
    search finds all patterns of this engine.
    """

    lookbehind: int
    lookahead: int
    find: Find
    literals: Literals | None = None


def compile_patterns(patterns: Sequence[Pattern]) -> list[Engine]:
    """Engines for all patterns. Raises UsageError for a pattern that is empty, too long, or not understood."""
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

    return [Engine(LOOKBEHIND, LOOKAHEAD, Expression(value, indexes).search) for value, indexes in group.items()]


def _literals(group: dict[bytes, list[int]]) -> list[Engine]:
    if not group:
        return []
    longest = max(map(len, group))
    if not native.built:
        return [Engine(longest - 1, 0, _Plain(group).find)]
    found = Literals(group)
    return [Engine(longest - 1, 0, found.find, found)]


class Literals:
    """Literals for the compiled search, each with the indexes of the patterns that have this value."""

    def __init__(self, group: dict[bytes, list[int]]) -> None:
        values = list(group)
        self.finder = native.Finder(values, native.groups(values), cut=cuts_are_seen(values))
        self._table = [(group[value], len(value)) for value in values]

    def find(self, data: memoryview, core_start: int, core_end: int, limit: int) -> list[Match]:
        """Literals that end in the core."""
        return self.matches(native.starts(self.finder, data, core_start, core_end, limit))

    def matches(self, found: Iterable[tuple[int, int]]) -> list[Match]:
        """Translate hits (start, index of the literal, and its cut) into matches (pattern, start, end)."""
        hits: list[Match] = []
        for start, literal in found:
            cut, number = divmod(literal, native.CUT)
            indexes, size = self._table[number]
            hits += [(~index, start, start + cut) if cut else (index, start, start + size) for index in indexes]
        return hits


def cuts_are_seen(values: Iterable[bytes]) -> bool:
    """Whether the search for these literals reports parts of them at the borders of pages."""
    return native.built and sum(map(len, values)) <= native.MOST_CUT


class _Plain:
    """Literals by Python's engine, one after another: used where there was no C compiler."""

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
