"""A match of a regular expression that the border of two pages cuts: seen, or named as a limit, and not by chance."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import ExitCode
from sevkit.memory.guest_ram.layout import GuestMap, GuestRange
from sevkit.memory.search import native
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.regexes import cut_is_seen
from sevkit.memory.search.report import as_dict
from sevkit.memory.search.request import Request, answer
from sevkit.memory.search.scan import scan
from tests.property.test_scan_law import Islands
from tests.unit.elf import Load, core

PAGE = 4096
BLOCK = 256 << 10  # CACHED of find.c
pytestmark = pytest.mark.skipif(not native.built, reason="the compiled search is not built")
EXPRESSIONS = [
    rb"\d{3}-\d{2}-\d{4}",
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    rb"AKIA[A-Z0-9]{16}",
    rb"(?i)password=\S{1,20}",
    rb"key:(?:[0-9a-f]{32}|[A-Z]{20,24})\n",
    rb"\bBEGIN (?:RSA |EC )?PRIVATE KEY\b",
    rb"\d{16}",
    rb"[A-Za-z0-9+/]{40,}",
    rb"(?:password|secret): \S+",
]


def in_two_pages(match: bytes, cut: int, gap: int = 3) -> bytes:
    """The rest of a match begins a page, its first ``cut`` bytes end another one ``gap`` pages further."""
    return (match[cut:].ljust(gap * PAGE, b"\xee") + match[:cut].rjust(PAGE, b"\xee")).ljust(8 * PAGE, b"\xee")


@pytest.mark.parametrize("value", EXPRESSIONS)
@given(st.data())
def test_each_cut_of_a_match_is_seen(value: bytes, data: st.DataObject) -> None:
    assert cut_is_seen(value)
    match = data.draw(st.from_regex(re.compile(value), fullmatch=True))
    cut = data.draw(st.integers(1, len(match) - 1))
    chunk = data.draw(st.sampled_from([PAGE, 3 * PAGE, 1 << 20]))
    memory = in_two_pages(match, cut)
    found = scan(Islands([(16 * PAGE, memory)]), [Pattern(value, regex=True)], chunk=chunk)
    assert found.hits or [part for part in found.parts if part.border in (16 * PAGE, 20 * PAGE)]


@pytest.mark.parametrize(
    "value", [rb"\d{3}-\d{2}-\d{4}", rb"AKIA[A-Z0-9]{16}", b"a-secret-that-somebody-hides", b"7-bytes", b"8-bytes!"]
)
@given(st.data())
def test_a_part_is_seen_in_memory_that_begins_or_ends_with_it(value: bytes, data: st.DataObject) -> None:
    regex = b"[" in value or b"{" in value
    match = data.draw(st.from_regex(re.compile(value, re.ASCII), fullmatch=True))
    cut = data.draw(st.integers(1, len(match) - 1))
    start, chunk = data.draw(st.sampled_from([(0, 0), (5, 0), (0, 5)])), data.draw(st.sampled_from([7, 100, 1 << 20]))
    rest = (16 * PAGE - start[0], b"\xee" * start[0] + match[cut:])
    first = (32 * PAGE - cut, match[:cut] + b"\xee" * start[1])
    found = scan(Islands([rest, first]), [Pattern(value, regex=regex)], chunk=chunk)
    assert found.hits or [part for part in found.parts if part.border in (16 * PAGE, 32 * PAGE)]


@given(st.binary(min_size=8, max_size=150), st.integers(1, 150), st.booleans(), st.data())
def test_a_part_is_seen_however_far_from_a_page_the_memory_begins(
    value: bytes, cut: int, behind: bool, data: st.DataObject
) -> None:
    """The memory is searched in blocks; a part may lie in two of them."""
    cut = 1 + cut % (len(value) - 1)
    border = 16 * PAGE + BLOCK * data.draw(st.integers(0, 1))
    start = 16 * PAGE + data.draw(st.integers(-70, 70)) if border > 16 * PAGE else 15 * PAGE
    memory = bytearray(b"\xee" * (border + 2 * PAGE - start))
    at = border - start
    memory[at - cut : at + len(value) - cut] = value
    memory[slice(at - cut, at) if behind else slice(at, at + len(value) - cut)] = b"\xee" * (
        cut if behind else len(value) - cut
    )
    found = scan(Islands([(start, bytes(memory))]), [Pattern(value)], chunk=data.draw(st.sampled_from([100, 1 << 20])))
    wanted = seen_side(value, cut) == ("behind" if behind else "before")
    assert not wanted or found.hits or [part for part in found.parts if (part.border, part.cut) == (border, cut)]


def seen_side(value: bytes, cut: int) -> str | None:
    """Which part of a secret is looked for: the longer one that tells something (edges.c)."""
    parts = [("behind", value[cut:][:64]), ("before", value[:cut][-64:])]
    if len(value) - cut < cut:
        parts.reverse()
    return next((side for side, part in parts if len(part) >= 4 and len(set(part)) > 1), None)


@pytest.mark.parametrize(
    "value", [rb"a.{20}b", rb"\d{3}-\d{4}", rb"\w+@\w+\.com", rb"\d{9}\w+\d{9}", rb"(a+)\1{30}", rb"\x00{16}"]
)
def test_what_has_common_parts_stays_a_limit(value: bytes, tmp_path: Path) -> None:
    assert not cut_is_seen(value)
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, b"\1" * (16 << 20))]))
    result = answer(Request(core=path, regexes=[value.decode()]))
    assert result.data is not None
    assert (result.exit_code, result.data["verdict"]) == (ExitCode.DONE, "not found")
    assert any("across two pages of the guest" in limit for limit in result.data["limits"])


@pytest.mark.parametrize(("digits", "seen"), [(1, False), (7, False), (8, True), (15, True)])
def test_some_digits_at_the_end_of_a_page_tell_nothing(digits: int, seen: bool) -> None:
    memory = (b"7" * digits).rjust(PAGE, b"\xee") + b"\xee" * PAGE
    found = scan(Islands([(PAGE, memory)]), [Pattern(rb"\d{16}", regex=True)])
    assert [(part.border, part.cut) for part in found.parts] == ([(2 * PAGE, 8)] if seen else [])


def test_random_memory_has_no_parts() -> None:
    memory = random.Random(4).randbytes(4 << 20)
    assert not scan(Islands([(PAGE, memory)]), [Pattern(value, regex=True) for value in EXPRESSIONS]).parts


@pytest.mark.parametrize("shift", range(16))
@pytest.mark.parametrize("below", [True, False])
def test_a_part_beside_guest_ram_hides_none_in_it(shift: int, below: bool) -> None:
    """Of many parts close to one another only some are kept; those that are not the guest's count for nothing."""
    start = (64 + shift) * PAGE
    parts = [start - PAGE, start + PAGE] if below else [start + 31 * PAGE, start + 33 * PAGE]
    memory = bytearray(b"\xee" * (48 * PAGE))
    for border in parts:
        at = border - start + 8 * PAGE
        memory[at - 6 : at] = b"123-45"
    source, pattern = Islands([(start - 8 * PAGE, bytes(memory))]), Pattern(rb"\d{3}-\d{2}-\d{4}", regex=True)
    guest = GuestMap([GuestRange("ram", 0, 32 * PAGE, start)])
    data = as_dict(source, scan(source, [pattern]), [pattern], guest, show=False)
    assert data["verdict"] == "inconclusive"
    assert "6 bytes that may be a part of a match" in data["doubts"][0]


def test_a_match_in_two_pages_is_never_a_conclusive_not_found(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, in_two_pages(b"123-45-6789", 6).ljust(16 << 20, b"\0"))]))
    result = answer(Request(core=path, regexes=[r"\d{3}-\d{2}-\d{4}"]))
    assert result.data is not None
    assert (result.exit_code, result.data["verdict"]) == (ExitCode.INCONCLUSIVE, "inconclusive")
    assert "6 bytes that may be a part of a match of regex 1 stand at the end of a page" in result.data["doubts"][0]
    path.write_bytes(core([Load(0x10000000, bytes(16 << 20))]))
    result = answer(Request(core=path, regexes=[r"\d{3}-\d{2}-\d{4}"]))
    assert result.data is not None
    assert (result.exit_code, result.data["verdict"]) == (ExitCode.DONE, "not found")
    assert not any("two pages" in limit for limit in result.data["limits"])
