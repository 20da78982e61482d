"""The law of the scanner: how memory is cut, and how many threads there are, changes no hit."""

import re
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.regexes import MAX_MATCH
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import MemorySource, Region, State, Stretch

TOP = 1 << 64
Island = tuple[int, bytes]


class Islands(MemorySource):
    """Memory made of islands of bytes; ``bad`` pages are listed as readable and then cannot be read."""

    title = "islands"

    def __init__(self, islands: Sequence[Island], bad: frozenset[int] = frozenset()) -> None:
        self.islands, self.bad = islands, bad

    def regions(self) -> list[Region]:
        return [Region(start, start + len(data)) for start, data in self.islands]

    def stretches(self) -> list[Stretch]:
        return [Stretch(start, start + len(data), State.DATA) for start, data in self.islands]

    def readinto(self, address: int, target: memoryview) -> int:
        done = 0
        for start, data in self.islands:
            while start <= address + done < start + len(data) and done < len(target):
                page = (address + done) // 4096
                if page in self.bad:
                    return done
                stop = min(start + len(data), (page + 1) * 4096, address + len(target))
                target[done : stop - address] = data[address + done - start : stop - start]
                done = stop - address
        return done

    def read(self, address: int, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(address, memoryview(buffer))])

    def check(self) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> "Islands":
        return self

    def __exit__(self, *exc: object) -> None: ...


def pieces(source: Islands) -> list[Island]:
    """Maximal runs of bytes that really can be read, found byte by byte: what the scanner should see."""
    found: list[tuple[int, bytearray]] = []
    for start, data in source.islands:
        for at, byte in enumerate(data, start):
            if at // 4096 in source.bad:
                continue
            if found and found[-1][0] + len(found[-1][1]) == at:
                found[-1][1].append(byte)
            else:
                found.append((at, bytearray([byte])))
    return [(start, bytes(data)) for start, data in found]


def expected(source: Islands, patterns: Sequence[Pattern]) -> list[tuple[int, int, int]]:
    """A search byte by byte."""
    hits = []
    for start, data in pieces(source):
        for index, pattern in enumerate(patterns):
            rx = re.compile(pattern.value if pattern.regex else re.escape(pattern.value), re.MULTILINE)
            covered = 0
            for at in range(len(data)):
                match = rx.match(data, at, at + MAX_MATCH)
                if match and (match.end() > covered or not pattern.regex):
                    covered = match.end()
                    hits.append((start + at, index, len(match[0])))
    return sorted(hits)


few = st.sampled_from([b"a", b"b", b"\0", b"\n"])
text = st.lists(few | st.sampled_from([b"a" * 14, b"ab" * 12]), min_size=1, max_size=40).map(b"".join)
starts = st.sampled_from([0, 5, 4090, 4096, 3 * 4096 - 3, 40960, TOP - 60])


@st.composite
def memories(draw: st.DrawFn) -> Islands:
    """Islands around page borders, some of them neighbours, some at the last address."""
    islands: list[Island] = []
    at = 0
    for _ in range(draw(st.integers(1, 4))):
        at = max(at + draw(st.sampled_from([0, 1, 7])), draw(starts) if draw(st.booleans()) else at)
        data = draw(text)[: TOP - at]
        if data:
            islands.append((at, data))
        at += len(data)
    if draw(st.booleans()):
        data = draw(text)
        if at + len(data) < TOP:
            islands.append((TOP - len(data), data))
    pages = sorted({start // 4096 for start, _ in islands})
    return Islands(islands, frozenset(draw(st.lists(st.sampled_from(pages), max_size=1))) if pages else frozenset())


literals = (
    st.lists(few, min_size=1, max_size=6) | st.lists(st.sampled_from([b"a", b"ab"]), min_size=12, max_size=20)
).map(lambda parts: Pattern(b"".join(parts)))
regexes = st.sampled_from(
    [
        rb"ab{1,3}",
        rb"a[ab]*",
        rb"b\x00",
        rb"(aa|b)+",
        rb"a.b",
        rb"\x00{2,5}",
        rb"^a+$",
        rb"\bb+\b",
        rb"(a)\1",
        rb"(?<=a)b",
        rb"a+?b",
        rb"[[:a]b",
        rb"(?i)A{,2}B",
        rb"\s\x00+|b\x00+",
        rb"(?i)[^b]B\n?",
        rb"a(?!b)",
        rb"a|ab",
    ]
).map(lambda value: Pattern(value, regex=True))


@settings(max_examples=300, deadline=None)
@given(
    memory=memories(),
    patterns=st.lists(literals | regexes, min_size=1, max_size=4),
    chunk=st.sampled_from([1, 2, 3, 5, 16, 4096, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_any_split_and_any_threads_give_the_hits_of_a_byte_by_byte_search(
    memory: Islands, patterns: list[Pattern], chunk: int, threads: int
) -> None:
    result = scan(memory, patterns, chunk=chunk, threads=threads)
    assert [(hit.address, hit.pattern, hit.length) for hit in result.hits] == expected(memory, patterns)
    coverage = result.coverage
    assert result.finished
    readable = sum(len(data) for _, data in pieces(memory))
    assert coverage.read_bytes == readable
    assert (
        coverage.mapped_bytes
        == coverage.read_bytes + coverage.unreadable_bytes
        == sum(len(data) for _, data in memory.islands)
    )


@settings(max_examples=100, deadline=None)
@given(
    filler=st.integers(0, 12000),
    length=st.integers(1, 3000),
    chunk=st.sampled_from([64, 4096, 5000, 1 << 20]),
    pattern=st.sampled_from([rb"^k.*z$", rb"\bk+z", rb"kk*z", rb"k[^q]{10,}z", rb"(?s)k.*z"]),
)
def test_long_matches_of_unbounded_expressions_do_not_depend_on_the_split(
    filler: int, length: int, chunk: int, pattern: bytes
) -> None:
    data = b"\n" * (filler // 2) + b"-" * (filler % 2) + b"k" * length + b"z\nqq" + b"k" * 5000 + b"z"
    memory = Islands([(4096, data)])
    whole = scan(memory, [Pattern(pattern, regex=True)], chunk=1 << 20, threads=1)
    cut = scan(memory, [Pattern(pattern, regex=True)], chunk=chunk, threads=2)
    assert cut.hits == whole.hits


@settings(max_examples=100, deadline=None)
@given(memory=memories(), patterns=st.lists(literals, min_size=1, max_size=3), data=st.data())
def test_a_search_within_ranges_sees_nothing_outside_them(
    memory: Islands, patterns: list[Pattern], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, 4200))
    end = start + data.draw(st.integers(0, 9000))
    result = scan(memory, patterns, within=[(start, end)])
    cut = []
    for at, island in memory.islands:
        low, high = max(at, start), min(at + len(island), end)
        if low < high:
            cut.append((low, island[low - at : high - at]))
    assert [(h.address, h.pattern, h.length) for h in result.hits] == expected(Islands(cut, memory.bad), patterns)
