"""What to search for, compiled for hyperscan.

Literals hit at every place where they stand, overlapping ones too. Regular expressions (hyperscan's syntax, bytes)
give what ``grep -o`` gives: leftmost, longest, not overlapping; a match is at most ``MAX_MATCH`` bytes long, so that
whether it is found depends on no more than the bytes near it.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sevkit.errors import UsageError

MAX_LITERAL = 8192
MAX_MATCH = 4096
MAX_PATTERNS = 1_000_000


@dataclass(frozen=True, slots=True)
class Pattern:
    """A literal, or with ``regex`` a regular expression; ``name`` is what hits are reported under."""

    value: bytes
    regex: bool = False
    name: str = ""
    ignore_case: bool = False

    def label(self, index: int) -> str:
        """The name, or a number that gives no secret away."""
        return self.name or f"pattern {index + 1}"


class Found(Exception):  # noqa: N818 - a signal, not an error
    """More hits than were asked for."""


@dataclass(frozen=True)
class Engine:
    """Compiled patterns of one kind. ``lookbehind`` and ``lookahead``: bytes around a place that decide on it."""

    lookbehind: int
    lookahead: int
    search: Callable[["Searcher", memoryview, int, int, bool], list[tuple[int, int, int]]]
    database: Any
    patterns: dict[int, tuple[tuple[int, ...], bytes]]
    single: Callable[[int], Any] | None = None


class Searcher:
    """An engine for one thread: hyperscan wants scratch space of its own in each."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self.engine = engine
        self.limit = limit
        self.scratch = engine.database.scratch.clone()

    def find(self, data: memoryview, core_start: int, core_end: int, at_start: bool) -> list[tuple[int, int, int]]:
        """Hits that end in ``(core_start, core_end]`` of ``data``, as (pattern, start, end).

        ``at_start`` says that nothing precedes ``data`` in memory. Raises Found at more than ``limit`` hits.
        """
        return self.engine.search(self, data, core_start, core_end, at_start)

    def ends(self, data: memoryview, core_start: int, core_end: int) -> list[tuple[int, int]]:
        """(pattern, end) as hyperscan reports them, those that end in the core."""
        found: list[tuple[int, int]] = []
        limit = self.limit

        def on_match(number: int, start: int, end: int, flags: int, context: object) -> bool:
            del start, flags, context
            if core_start < end <= core_end:
                found.append((number, end))
            return len(found) > limit

        _scan(self.engine.database, data, on_match, self.scratch)
        if len(found) > limit:
            raise Found
        return found


def _scan(database: Any, data: memoryview, on_match: Callable[..., bool], scratch: Any) -> None:
    import hyperscan

    with contextlib.suppress(hyperscan.ScanTerminated):
        database.scan(data, match_event_handler=on_match, scratch=scratch)


def compile_patterns(patterns: Sequence[Pattern]) -> list[Engine]:
    """Engines for all patterns. Raises UsageError for one that is empty, too long, or not understood."""
    if not patterns:
        raise UsageError("nothing to search for", hint="give --secret, --secrets-file or --regex")
    if len(patterns) > MAX_PATTERNS:
        raise UsageError(f"{len(patterns)} patterns; at most {MAX_PATTERNS} are searched for at once")
    literal: dict[tuple[bytes, bool], list[int]] = {}
    regex: dict[tuple[bytes, bool], list[int]] = {}
    for index, pattern in enumerate(patterns):
        if not pattern.value:
            raise UsageError(f"{pattern.label(index)} is empty: it would be found everywhere")
        if len(pattern.value) > MAX_LITERAL:
            raise UsageError(
                f"{pattern.label(index)} has {len(pattern.value)} bytes; at most {MAX_LITERAL} are searched for",
                hint="search for a part of it",
            )
        (regex if pattern.regex else literal).setdefault((pattern.value, pattern.ignore_case), []).append(index)
    return [make(group) for make, group in ((_literals, literal), (_regexes, regex)) if group]


def _literals(group: dict[tuple[bytes, bool], list[int]]) -> Engine:
    import hyperscan as hs

    keys = list(group)
    flags = [hs.HS_FLAG_CASELESS if caseless else 0 for _, caseless in keys]
    # As escaped expressions: the interface of hyperscan's own literals stops at a NUL.
    database = _database([b"".join(b"\\x%02x" % byte for byte in value) for value, _ in keys], flags)
    table = {number: (tuple(group[key]), key[0]) for number, key in enumerate(keys)}
    return Engine(max(len(value) for value, _ in keys) - 1, 0, _find_literals, database, table)


def _find_literals(
    searcher: Searcher, data: memoryview, core_start: int, core_end: int, at_start: bool
) -> list[tuple[int, int, int]]:
    del at_start
    table = searcher.engine.patterns
    hits = []
    for number, end in searcher.ends(data, core_start, core_end):
        indexes, value = table[number]
        hits += [(index, end - len(value), end) for index in indexes]
    return hits


def _regexes(group: dict[tuple[bytes, bool], list[int]]) -> Engine:
    import functools

    import hyperscan as hs

    keys = list(group)
    flags = [hs.HS_FLAG_MULTILINE | (hs.HS_FLAG_CASELESS if caseless else 0) for _, caseless in keys]
    database = _database([value for value, _ in keys], flags)

    @functools.cache
    def single(number: int) -> Any:
        return _database([keys[number][0]], [flags[number] | hs.HS_FLAG_SOM_LEFTMOST])

    for number in range(len(keys)):
        single(number)  # so that a pattern whose start cannot be told is refused now, not in the middle of the search
    table = {number: (tuple(group[key]), key[0]) for number, key in enumerate(keys)}
    return Engine(MAX_MATCH + 1, 1, _find_regexes, database, table, single)


def _find_regexes(
    searcher: Searcher, data: memoryview, core_start: int, core_end: int, at_start: bool
) -> list[tuple[int, int, int]]:
    """Each end that hyperscan reports is judged anew by the bytes near it alone, so that no chunk border matters."""
    engine = searcher.engine
    assert engine.single is not None
    hits = []
    for number, end in searcher.ends(data, core_start, core_end):
        low = max(0, end - MAX_MATCH - 1)
        start = _start_of(engine.single(number), data[low : end + 1], end - low)
        if start is not None and (start > 0 or (low == 0 and at_start)):
            hits += [(index, low + start, end) for index in engine.patterns[number][0]]
    return hits


def _start_of(database: Any, data: memoryview, end: int) -> int | None:
    found: list[int] = []

    def on_match(number: int, start: int, stop: int, flags: int, context: object) -> bool:
        del number, flags, context
        if stop == end:
            found.append(start)
        return stop >= end

    _scan(database, data, on_match, database.scratch.clone())
    return min(found) if found else None


def _database(expressions: list[bytes], flags: list[int]) -> Any:
    import hyperscan as hs

    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=expressions, ids=list(range(len(expressions))), elements=len(expressions), flags=flags
        )
    except hs.error as error:
        words = str(error.args[0] if error.args else error)
        raise UsageError(
            f"a regular expression is not understood: {words}",
            hint="hyperscan's syntax: no back-references and no look-around; it must not match nothing",
        ) from error
    return database


def longest(hits: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Of hits (pattern, start, end), those that are leftmost, longest and do not overlap, by pattern."""
    kept: list[tuple[int, int, int]] = []
    for pattern, start, end in sorted(hits, key=lambda hit: (hit[0], hit[1], -hit[2])):
        if not kept or kept[-1][0] != pattern or start >= kept[-1][2]:
            kept.append((pattern, start, end))
    return kept
