"""Regular expressions find what Python's `re` finds, by whatever filter the scanner chooses."""

import itertools
import re
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sevkit.errors import UsageError
from sevkit.memory.search import native, required
from sevkit.memory.search.automaton import automaton
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.regexes import MAX_MATCH, Expression, _Compiled
from sevkit.memory.search.scan import scan
from tests.property.regex_fuzz import by_re, differences
from tests.property.test_scan_law import Islands

Set = frozenset[int]


@pytest.mark.parametrize("value", [rb"\d\-+", rb"\s=+", rb"\d:+", rb"\s_+", rb"\s\x00+", rb"\d-", rb"\w+@\w+"])
@pytest.mark.parametrize("text", [b"1-", b" =", b"1:", b" _", b" \0", b"a@b"])
def test_a_class_before_a_repeated_byte_is_found_at_every_offset(value: bytes, text: bytes) -> None:
    compiled = re.compile(value)
    wanted = [(text[match.start() :], match.end() - match.start()) for match in compiled.finditer(text)]
    engine = Expression(value, [0])
    for offset in [*range(40), 4090, 4095, 8189]:
        data = bytearray(b"!" * 8191)
        data[offset : offset + len(text)] = text
        del data[8191:]
        found = engine.find(memoryview(data), 0, len(data), 100)
        whole = offset + len(text) <= 8191
        assert (
            not whole or [(bytes(data[start : offset + len(text)]), end - start) for _, start, end in found] == wanted
        )


def test_random_expressions_find_in_random_text_what_re_finds() -> None:
    assert list(differences(6000, seed=17)) == []


def test_without_the_compiled_search_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "built", False)
    assert list(differences(2000, seed=18)) == []


@pytest.mark.parametrize("value", [rb"\w+@\w+\.com", rb"AKIA[A-Z0-9]{16}", rb"(?i)password=\S+", rb"[A-Za-z0-9+/]{40}"])
def test_in_much_memory_the_filters_leave_nothing_out(value: bytes) -> None:
    texts = [b"someone@example.com", b"AKIA" + b"X7" * 8, b"PassWord=x", b"Q" * 40, b"pAsSwOrD=" + b"y" * 5000]
    data = bytearray(b"the quick brown fox \0\0\xff" * 9000)
    for number, text in enumerate(texts * 5):
        at = 4090 + number * 8192
        data[at : at + len(text)] = text
    compiled = re.compile(value)
    assert [hit[1:] for hit in by_re(compiled, bytes(data))] == [
        (hit.address, hit.address + hit.length)
        for hit in scan(Islands([(0, bytes(data))]), [Pattern(value, regex=True)], chunk=1 << 16, threads=2).hits
    ]


SETS = st.sampled_from([b"0123456789", b"01", b"1", b"ab1", bytes(range(256)), b"-"]).map(frozenset)


@pytest.mark.skipif(not native.built, reason="the compiled search is not built")
@given(st.one_of(st.lists(SETS, min_size=1, max_size=12), st.tuples(SETS, st.integers(1, 64))), st.data())
def test_factors_are_found_wherever_they_stand(sequence: "list[Set] | tuple[Set, int]", data: st.DataObject) -> None:
    sets = [sequence[0]] * sequence[1] if isinstance(sequence, tuple) else sequence
    places = data.draw(st.lists(st.integers(0, len(sets) - 1), max_size=4))
    factor = native.Factor(sets, places, data.draw(st.booleans()))
    text = bytes(data.draw(st.lists(st.sampled_from(b"0111111ab--x"), max_size=400)))
    text = text * data.draw(st.integers(1, 40))
    low, high = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    near, far = sorted((data.draw(st.integers(0, 5)), data.draw(st.integers(0, 9))))
    ends = [
        at
        for at in range(low, high - len(sets) + 1)
        if all(text[at + place] in each for place, each in enumerate(sets))
    ]
    wanted = sorted({start for at in ends for start in range(max(low, at - far), at - near + 1)})
    matcher = native.Matcher([factor], None, near, far)
    ranges = matcher.starts(memoryview(bytearray(text or b"x")), low, high, 20_000)
    assert ranges is not None
    assert [at for first, last, _ in ranges for at in range(first, last + 1)] == wanted
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(ranges))
    if len(ranges) > 1:
        assert matcher.starts(memoryview(bytearray(text)), low, high, len(ranges) - 1) is None


@pytest.mark.skipif(not native.built, reason="the compiled search is not built")
@given(
    st.lists(st.sampled_from([b"abc", b"abd", b"bcab", b"x1x1x1x1x1x1x1x1", b"ccc"]), min_size=1, unique=True),
    st.lists(st.sampled_from([b"abc", b"abd", b"x1x1", b"c", b"-----"]), max_size=60).map(b"".join),
    st.data(),
)
def test_literals_of_an_expression_are_found_wherever_they_stand(
    strings: list[bytes], text: bytes, data: st.DataObject
) -> None:
    low, high = sorted((data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))))
    near, far = sorted((data.draw(st.integers(0, 5)), data.draw(st.integers(0, 9))))
    hits = [at for at in range(low, high) for each in strings if text.startswith(each, at, high)]
    wanted = sorted({start for at in hits for start in range(max(low, at - far), at - near + 1)})
    matcher = native.Matcher(strings, None, near, far)
    memory = memoryview(bytearray(text or b"x"))
    ranges = matcher.starts(memory, low, high, 20_000)
    assert ranges is not None
    assert [at for first, last, _ in ranges for at in range(first, last + 1)] == wanted
    if hits:  # more than there is room for: none is left out without a word
        assert matcher.starts(memory, low, high, len(hits) - 1) is None
    assert matcher.reaches(memory, 0, 0, len(text)), "without an automaton it cannot say that no match does"


ALL_SETS = st.one_of(
    st.frozensets(st.integers(0, 255), min_size=1),
    st.tuples(st.integers(0, 255), st.integers(0, 255)).map(lambda ends: frozenset(range(min(ends), max(ends) + 1))),
    st.integers(0, 255).map(lambda byte: frozenset({byte})),
)


@pytest.mark.skipif(not native.built, reason="the compiled search is not built")
@given(st.lists(ALL_SETS, min_size=1, max_size=4), st.integers(0, 1 << 30))
def test_any_set_of_bytes_is_looked_up_rightly(sets: list[Set], seed: int) -> None:
    """All 256 values at all places of a vector; with sets of more kinds of rows than the lookup tells apart, too."""
    random = Random(seed)
    text = bytes(random.sample(range(256), 256)) + random.randbytes(700)
    factor = native.Factor(sets, list(range(len(sets))), skip=False)
    ranges = native.Matcher([factor], None, 0, 0).starts(memoryview(bytearray(text)), 0, len(text), 2000)
    assert ranges is not None
    assert [at for first, last, _ in ranges for at in range(first, last + 1)] == [
        at
        for at in range(len(text) - len(sets) + 1)
        if all(text[at + place] in each for place, each in enumerate(sets))
    ]


@pytest.mark.skipif(not native.built, reason="the compiled search is not built")
@pytest.mark.parametrize("value", [rb"\w+@\w+\.com", rb"a\d+b", rb"\d{3}-\d{2}-\d{4}", rb"(?:ab|cd+)*x[a-f]{70,}y"])
@given(
    st.lists(st.sampled_from([b"ab", b"1", b"@", b".com", b"-", b"x", b"ffff" * 30, b"y", b"cd", b"12"]), max_size=60)
)
@example([b"ab", b"@", b"1", b".com", b"-"] * 3)
def test_no_place_is_left_out_and_matches_end_where_it_says(value: bytes, parts: list[bytes]) -> None:
    data, compiled = b"".join(parts) + b" ", re.compile(value)
    found = required.required(value, compiled.flags, MAX_MATCH)
    assert found is not None
    filtered = _Compiled(found, automaton(value, compiled.flags))
    ranges, matcher = filtered.ranges(memoryview(bytearray(data)), 0, len(data)) or [], filtered._matcher
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
    if len(ranges) > 1:  # more than there is room for: none is left out without a word
        assert matcher.starts(memoryview(bytearray(data)), 0, len(data), len(ranges) - 1) is None
    for start in range(len(data)):
        if match := compiled.match(data, start):
            assert [reach for low, high, reach in ranges if low <= start < high and reach >= match.end()]


LONGEST = [
    (rb"k[a-f]{%d}y" % (MAX_MATCH - 2), b"k", b"y"),
    (rb"[a-f]{%d}y=;" % (MAX_MATCH - 3), b"", b"y=;"),
    (rb"k=;[a-f]{%d}" % (MAX_MATCH - 3), b"k=;", b""),
    (rb"(?:[a-z][a-z][a-z]){%d}=" % (MAX_MATCH // 3), b"", b"="),
]


@pytest.mark.parametrize(("value", "begin", "end"), LONGEST)
@pytest.mark.parametrize("size", [MAX_MATCH - 1, MAX_MATCH, MAX_MATCH + 1])
@pytest.mark.parametrize("before", [0, 63, 5000])
@pytest.mark.parametrize("after", [0, 70])
def test_a_match_of_as_many_bytes_as_are_looked_at_is_found(
    value: bytes, begin: bytes, end: bytes, size: int, before: int, after: int
) -> None:
    data = b"-" * before + begin + b"a" * (size - len(begin) - len(end)) + end + b"-" * after
    wanted = [(start, stop) for _, start, stop in by_re(re.compile(value), data)]
    assert bool(wanted) == (size == MAX_MATCH or (size > MAX_MATCH and not (begin and end)))
    for chunk in (64, 1 << 20):
        found = scan(Islands([(0, data)]), [Pattern(value, regex=True)], chunk=chunk).hits
        assert [(hit.address, hit.address + hit.length) for hit in found] == wanted


@pytest.mark.parametrize("value", [rb"k[a-f=]+==", rb"==[a-f=]+k", rb"k[a-f=]{9,}[=;]k"])
@given(st.lists(st.sampled_from([b"k", b"==", b";"]) | st.integers(0, 4500).map(bytes), max_size=12))
@example([b"k", bytes(3000), b"==", bytes(3000), b"==", b";"])
@example([b"==", bytes(3000), b"==", bytes(3000), b"k", b";"])
def test_places_that_are_within_reach_of_one_another_hide_no_match(value: bytes, parts: list[bytes]) -> None:
    """One after another they can stretch over more memory than a match has."""
    data = b"".join(parts).replace(b"\0", b"a")
    wanted = [(start, stop) for _, start, stop in by_re(re.compile(value), data)]
    found = scan(Islands([(0, data or b"-")]), [Pattern(value, regex=True)], chunk=1 << 20).hits
    assert [(hit.address, hit.address + hit.length) for hit in found] == wanted


@pytest.mark.skipif(not native.built, reason="the compiled search is not built")
@pytest.mark.parametrize(
    "value", [rb"\w+@\w+\.com", rb"a\d+b", rb"(?:ab|cd)+", rb"[ab]{3}", rb"(\d)\1b?", rb"a.{4094}b"]
)
@given(st.lists(st.sampled_from([b"ab", b"1", b"@", b".com", b"-", b"cd", b"a", b"b" * 4093]), max_size=12), st.data())
def test_where_a_match_ends_beyond_what_is_covered_it_says_so(
    value: bytes, parts: list[bytes], data: st.DataObject
) -> None:
    text, compiled = b"".join(parts), re.compile(value)
    found = required.required(value, compiled.flags, MAX_MATCH)
    matches = [match for at in range(len(text)) if (match := compiled.match(text, at, at + MAX_MATCH))]
    if found is None or not matches:
        return
    match = data.draw(st.sampled_from(matches))
    first, last = data.draw(st.integers(0, match.start())), data.draw(st.integers(match.start(), len(text) - 1))
    covered = data.draw(st.just(match.end() - 1) | st.integers(0, match.end() - 1))
    assert _Compiled(found, automaton(value, compiled.flags)).reaches(memoryview(bytearray(text)), first, last, covered)


def test_what_is_required_is_what_the_expression_says() -> None:
    found = required.required(rb"x?(?:ab|cd)+[0-9]{3}y", 0, MAX_MATCH)
    assert found is not None
    assert [len(sequence) for sequence in found.alternatives] == [4]
    few = required.required(rb"\d?\w{2,5}password=\S+", 0, MAX_MATCH)
    assert few is not None
    assert required.literals(few) == ([b"password="], 2, 6)
    for free in (rb"a*", rb"\w+", rb"(a)|\w+", rb"(?L:ab)x*"):
        assert required.required(free, 0, MAX_MATCH) is None


@pytest.mark.parametrize("value", [rb"x.{5000}q", rb"\Asecret", rb"secret\Z", rb"(?:a|\Ab)c", rb"(", b"", rb"a*"])
def test_what_can_never_be_found_in_memory_is_refused(value: bytes) -> None:
    with pytest.raises(UsageError):
        scan(Islands([(0, b"secret")]), [Pattern(value, regex=True)])
