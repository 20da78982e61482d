"""Regular expressions find what Python's `re` finds, by whatever filter the scanner chooses."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import UsageError
from sevkit.memory.search import native, required
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.regexes import MAX_MATCH, Expression
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
def test_runs_are_found_wherever_they_stand(sequence: "list[Set] | tuple[Set, int]", data: st.DataObject) -> None:
    sets = [sequence[0]] * sequence[1] if isinstance(sequence, tuple) else sequence
    text = bytes(data.draw(st.lists(st.sampled_from(b"0111111ab--x"), max_size=400)))
    low, high = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, len(text)))
    wanted = [
        at
        for at in range(low, high - len(sets) + 1)
        if all(text[at + place] in each for place, each in enumerate(sets))
    ]
    ranges = native.Runs(sets).places(memoryview(bytearray(text or b"x")), low, high, 1000)
    assert ranges is not None
    assert [at for first, last in ranges for at in range(first, last + 1)] == wanted
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(ranges))
    if len(ranges) > 1:
        assert native.Runs(sets).places(memoryview(bytearray(text)), low, high, len(ranges) - 1) is None


def test_what_is_required_is_what_the_expression_says() -> None:
    found = required.required(rb"x?(?:ab|cd)+[0-9]{3}y", 0, MAX_MATCH)
    assert found is not None
    assert [len(sequence) for sequence in found.alternatives] == [4]
    few = required.required(rb"\d?\w{2,5}password=\S+", 0, MAX_MATCH)
    assert few is not None
    assert required.literals(few) == ([b"password="], MAX_MATCH)
    for free in (rb"a*", rb"\w+", rb"(a)|\w+", rb"(?L:ab)x*"):
        assert required.required(free, 0, MAX_MATCH) is None


@pytest.mark.parametrize("value", [rb"x.{5000}q", rb"\Asecret", rb"secret\Z", rb"(?:a|\Ab)c", rb"(", b"", rb"a*"])
def test_what_can_never_be_found_in_memory_is_refused(value: bytes) -> None:
    with pytest.raises(UsageError):
        scan(Islands([(0, b"secret")]), [Pattern(value, regex=True)])
