"""What to search for, compiled.

Literals hit at every place where they stand, overlapping ones too. Regular expressions are Python's, on bytes, ``^``
and ``$`` at line ends; a match counts from each place where one starts, unless it lies inside one that starts earlier,
and sees no more than MAX_MATCH bytes. So whether something is found depends on the bytes near it alone, never on how
the memory was cut. Hyperscan only says where to look (it reports ends; its own tracking of starts,
HS_FLAG_SOM_LEFTMOST, overruns its stack on long runs in 5.4.12); what it cannot express, Python's engine does alone.
Literals are left to our own search (native.py) where that was built, since it is 4 times as quick in the cache;
hyperscan keeps the very short ones and those in any case.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, NamedTuple

from sevkit.errors import UsageError
from sevkit.memory.search.native import Finder, groups

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    Match = tuple[int, int, int]  # pattern, start, end

MAX_LITERAL = 8192
MAX_MATCH = 4096
MAX_PATTERNS = 1_000_000
MAX_REGEXES = 100  # each is a search of its own
_DENSE = 50_000  # ends in one piece, from which on narrowing down costs more than it saves


class Pattern(NamedTuple):
    """A literal, or with ``regex`` a regular expression; ``name`` is what hits are reported under."""

    value: bytes
    regex: bool = False
    name: str = ""
    ignore_case: bool = False

    def label(self, index: int) -> str:
        """The name, or a number that gives no secret away."""
        return self.name or f"pattern {index + 1}"


class Engine(NamedTuple):
    """Compiled patterns of one kind. ``lookbehind`` and ``lookahead``: bytes around a place that decide on it.

    ``table`` has for each compiled expression the patterns that it stands for and its bytes.
    """

    lookbehind: int
    lookahead: int
    find: Callable[[Searcher, memoryview, int, int], list[Match]]
    database: Any
    table: Sequence[tuple[Sequence[int], bytes]]
    expression: re.Pattern[bytes] | None = None


class Searcher:
    """An engine for one thread: hyperscan wants scratch space of its own in each."""

    def __init__(self, engine: Engine, limit: int) -> None:
        self.engine = engine
        self.limit = limit
        scratch = getattr(engine.database, "scratch", None)
        self._scratch = scratch.clone() if scratch else None

    def find(self, data: memoryview, core_start: int, core_end: int) -> list[Match]:
        """Matches of this piece of memory, as (pattern, start, end) in ``data``; the rest of ``data`` is context.

        At more than ``limit``, more than ``limit`` of them.
        """
        return self.engine.find(self, data, core_start, core_end)

    def matches(self, found: Iterable[tuple[int, int]]) -> list[Match]:
        """Where literals start, as (start, its place in the table), in terms of patterns."""
        hits: list[Match] = []
        for start, literal in found:
            indexes, value = self.engine.table[literal]
            hits += [(index, start, start + len(value)) for index in indexes]
        return hits

    def ends(self, data: memoryview, low: int, high: int, limit: int) -> list[tuple[int, int]]:
        """(expression, end) as hyperscan reports them, ends in ``(low, high]``; stops after ``limit``."""
        import hyperscan

        found: list[tuple[int, int]] = []

        def on_match(number: int, start: int, end: int, flags: int, context: object) -> bool:
            del start, flags, context
            if low < end <= high:
                found.append((number, end))
            return len(found) > limit

        try:
            self.engine.database.scan(data, match_event_handler=on_match, scratch=self._scratch)
        except hyperscan.ScanTerminated:  # as we asked
            pass
        return found


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
    if len(regex) > MAX_REGEXES:
        raise UsageError(f"{len(regex)} regular expressions; at most {MAX_REGEXES} are searched for at once")
    return _literals(literal) + [_regex(value, caseless, indexes) for (value, caseless), indexes in regex.items()]


def _literals(group: dict[tuple[bytes, bool], list[int]]) -> list[Engine]:
    exact = [value for value, caseless in group if not caseless]
    together, left = groups(exact)
    engines = []
    if together:
        finder = Finder(exact, together)
        table = [(group[value, False], value) for value in exact]
        engines.append(Engine(finder.longest - 1, 0, _find_natively, finder, table))
    rest = [(exact[index], False) for index in left] + [key for key in group if key[1]]
    return [*engines, _by_hyperscan(group, rest)] if rest else engines


def _by_hyperscan(group: dict[tuple[bytes, bool], list[int]], keys: list[tuple[bytes, bool]]) -> Engine:
    import hyperscan as hs

    flags = [hs.HS_FLAG_CASELESS if caseless else 0 for _, caseless in keys]
    # As escaped expressions: the interface of hyperscan's own literals stops at a NUL.
    database = _database([b"".join(b"\\x%02x" % byte for byte in value) for value, _ in keys], flags)
    table = [(group[key], key[0]) for key in keys]
    return Engine(max(len(value) for value, _ in keys) - 1, 0, _find_literals, database, table)


def _find_natively(searcher: Searcher, data: memoryview, core_start: int, core_end: int) -> list[Match]:
    """Literals that end in the core, by our own search."""
    engine = searcher.engine
    held = ctypes.c_char.from_buffer(data)
    try:
        found = engine.database.find(ctypes.addressof(held), core_start, core_end, searcher.limit)
    finally:
        del held  # or the memory could not be given back
    return searcher.matches(found)


def _find_literals(searcher: Searcher, data: memoryview, core_start: int, core_end: int) -> list[Match]:
    """Literals that end in the core."""
    ends = searcher.ends(data, core_start, core_end, searcher.limit)
    return searcher.matches((end - len(searcher.engine.table[number][1]), number) for number, end in ends)


def _regex(value: bytes, caseless: bool, indexes: Sequence[int]) -> Engine:
    import re
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constructs that may change their meaning one day
            expression = re.compile(value, re.MULTILINE | (re.IGNORECASE if caseless else 0))
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"a regular expression is not understood: {error}", hint="see Python's `re`") from error
    if expression.match(b""):
        raise UsageError("a regular expression matches nothing at all: it would be found everywhere")
    # Twice the length: starts up to one length before the core can hide one in it, and need context of their own.
    return Engine(
        2 * MAX_MATCH, MAX_MATCH + 1, _find_regex, _prefilter(value, caseless), [(indexes, value)], expression
    )


def _prefilter(value: bytes, caseless: bool) -> Any:
    """A hyperscan database that finds an end of every match, or None where the two syntaxes part ways."""
    import re

    import hyperscan as hs

    if re.search(rb"\{,|\[[:.=]|\(\?[^:P=!<]*x", value):  # {,n}, [[:alpha:]] and verbose mode differ
        return None
    flags = hs.HS_FLAG_MULTILINE | hs.HS_FLAG_PREFILTER | (hs.HS_FLAG_CASELESS if caseless else 0)
    try:
        return _database([value], [flags])
    except hs.error:
        return None


def _find_regex(searcher: Searcher, data: memoryview, core_start: int, core_end: int) -> list[Match]:
    """Matches that start in the core and do not lie inside one that starts earlier."""
    expression, (indexes, _) = searcher.engine.expression, searcher.engine.table[0]
    assert expression is not None
    hits: list[Match] = []
    covered = 0
    for low, high in _starts(searcher, data, max(0, core_start - MAX_MATCH), core_end):
        at = low
        while at < high and (seen := expression.search(data, at)) and seen.start() < high:
            start = seen.start()
            at = start + 1
            match = expression.match(data, start, start + MAX_MATCH)
            if match and match.end() > max(covered, start):
                covered = match.end()
                if start >= core_start:
                    hits += [(index, start, covered) for index in indexes]
            if len(hits) > searcher.limit:
                return hits
    return hits


def _starts(searcher: Searcher, data: memoryview, low: int, high: int) -> list[tuple[int, int]]:
    """Where in ``[low, high)`` a match may start: near the ends that hyperscan sees."""
    if searcher.engine.database is None:
        return [(low, high)]
    ends = searcher.ends(data, low, len(data), _DENSE)
    if len(ends) > _DENSE:
        return [(low, high)]
    found: list[tuple[int, int]] = []
    for _, end in ends:
        first, last = max(low, end - MAX_MATCH), min(high, end)
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        elif first < last:
            found.append((first, last))
    return found


def _database(expressions: list[bytes], flags: list[int]) -> Any:
    import hyperscan as hs

    database = hs.Database(mode=hs.HS_MODE_BLOCK)
    database.compile(expressions=expressions, ids=list(range(len(expressions))), elements=len(expressions), flags=flags)
    return database
