"""Maps, extraction and reports, on guests made of a few pages."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import BadInputError, CaptureError
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.extract import Format, extract
from sevkit.memory.guest_ram.layout import GIB, GuestMap, GuestRange
from sevkit.memory.guest_ram.picture import MAX_POINTS, GuestPages, Picture, draw, from_dict, guest_pages, shrink
from sevkit.memory.search import report
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.regexes import Expression
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.core import CoreMemory
from sevkit.render import memory_map
from tests.unit.elf import Load, core

PAGE = 4096
TEXT = b"a secret in plain sight\n" * 171
HIGH = 0x7F0000010000
NOISE = np.random.default_rng(3).bytes(PAGE)


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[CoreMemory]:
    """Two pages of text and zeros, one of noise, one left out; then a hole in the core, then high memory."""
    path = tmp_path / "core"
    low = (TEXT[:PAGE] + bytes(PAGE) + NOISE, 4 * PAGE)
    path.write_bytes(core([Load(0x10000, low[0], size=low[1]), Load(HIGH, b"h" * PAGE)]))
    with CoreMemory(path) as source:
        yield source


GUEST = GuestMap([GuestRange("ram", 0, 5 * PAGE, 0x10000), GuestRange("ram", 4 * GIB, PAGE, HIGH)], "qmp")


def test_every_page_of_the_guest_has_a_class(memory: CoreMemory) -> None:
    pages = guest_pages(memory, GUEST)
    kinds = [PageClass(kind).word for kind in pages.classes]
    assert kinds == ["plaintext", "zero", "ciphertext", "unread", "hole", "plaintext"]
    assert pages.counts() == {"hole": 1, "zero": 1, "plaintext": 2, "ciphertext": 1, "unread": 1}
    assert [pages.index(gpa) for gpa in (0, PAGE - 1, 4 * GIB + 5, 3 * GIB)] == [0, 0, 5, None]


def test_ram_that_is_not_mapped_is_a_hole(memory: CoreMemory) -> None:
    pages = guest_pages(memory, GuestMap([GuestRange("private", 0, 3 * PAGE, None)]))
    assert pages.counts()["hole"] == 3


def test_private_pages_show_where_the_shared_mapping_is_empty(memory: CoreMemory) -> None:
    shared = guest_pages(memory, GUEST)
    blocks = (
        GuestRange("private memory", PAGE, 2 * PAGE, 0x90000),
        GuestRange("private memory", 4 * GIB, PAGE, 0x99000),
    )
    private = GuestPages(blocks, np.array([PageClass.CIPHERTEXT, PageClass.HOLE, PageClass.CIPHERTEXT], dtype=np.uint8))
    kinds = [PageClass(kind).word for kind in shared.with_private(private).classes]
    assert kinds == ["plaintext", "ciphertext", "ciphertext", "unread", "hole", "plaintext"]
    assert shared.counts()["zero"] == 1


def test_zeros_of_pages_that_were_never_populated_are_holes(memory: CoreMemory) -> None:
    pages = guest_pages(memory, GUEST)
    spans = [(0x10000, 0x10000 + PAGE), (0x10000 + PAGE, 0x10000 + 3 * PAGE)]
    assert pages.with_holes(spans).counts() == {"hole": 2, "zero": 0, "plaintext": 2, "ciphertext": 1, "unread": 1}
    part = [(0x10000 + PAGE + 1, 0x10000 + 2 * PAGE)]
    assert pages.with_holes(part).counts() == pages.counts()


@given(st.lists(st.sampled_from(list(PageClass)), min_size=1, max_size=300), st.integers(1, 50))
def test_a_shrunk_map_never_hides_plaintext(kinds: list[PageClass], points: int) -> None:
    small = shrink(np.array(kinds, dtype=np.uint8), points)
    assert len(small) <= max(points, 1)
    each = -(-len(kinds) // points)
    for index, kind in enumerate(small.tolist()):
        part = kinds[index * each : (index + 1) * each] if each > 1 else [kinds[index]]
        assert kind in part
        assert (PageClass.PLAINTEXT in part) == (kind == PageClass.PLAINTEXT)


def picture(memory: CoreMemory) -> Picture:
    return draw(guest_pages(memory, GUEST), "<b>nosev</b>", "a & b", [(5, "file"), (9, "file"), (4 * GIB, "<i>")])


def test_an_interruption_stays_one_while_memory_is_looked_at(
    memory: CoreMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(data: Any, *rest: Any) -> Any:
        held = memoryview(data)[1:]  # as the frames of a real one do until it is dealt with
        raise KeyboardInterrupt(len(held), rest)

    monkeypatch.setattr("sevkit.memory.guest_ram.picture.classify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guest_pages(memory, GUEST)
    monkeypatch.setattr(Expression, "find", lambda self, data, *rest: interrupted(data, self, *rest))
    with pytest.raises(KeyboardInterrupt):
        scan(memory, [Pattern(b"n[e]ver", regex=True)], threads=1)


def test_a_picture_survives_json(memory: CoreMemory) -> None:
    drawn = picture(memory)
    assert from_dict(drawn.as_dict()) == drawn
    assert drawn.marks == ((0, "file at 0x5, file at 0x9"), (5, "<i> at 0x100000000"))


@pytest.mark.parametrize(
    "damage",
    [
        {"points": "!!"},
        {"points": ""},
        {"marks": [{"point": 99, "label": "x"}]},
        {"blocks": None},
        {"pages": {"a": "b"}},
    ],
)
def test_a_damaged_picture_is_bad_input(memory: CoreMemory, damage: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        from_dict(picture(memory).as_dict() | damage)


def test_a_bomb_of_points_is_not_unpacked(memory: CoreMemory) -> None:
    import base64
    import zlib

    bomb = base64.b64encode(zlib.compress(bytes(200 * MAX_POINTS), 9)).decode()
    with pytest.raises(BadInputError):
        from_dict(picture(memory).as_dict() | {"points": bomb})


def test_html_is_self_contained_and_escapes_what_it_shows(memory: CoreMemory) -> None:
    page = memory_map.html([picture(memory), picture(memory)])
    assert "<b>nosev</b>" not in page
    assert "&lt;b&gt;nosev" in page
    assert "&lt;i&gt; at 0x100000000" in page
    for elsewhere in ("http://", "https://", "<script", "<link", "@import", "url("):
        assert elsewhere not in page
    assert page.count("data:image/png;base64,") == 2


def test_figures_are_of_the_kind_that_was_asked_for(memory: CoreMemory) -> None:
    assert memory_map.figure([picture(memory)], "png").startswith(b"\x89PNG")
    svg = memory_map.figure([picture(memory), picture(memory)], "svg")
    assert b"<svg" in svg


def test_the_short_form_shows_classes_and_hits(memory: CoreMemory) -> None:
    text = memory_map.text(picture(memory), width=60)
    assert "@·≈? @" in text
    assert "ciphertext 16.7%" in text
    assert "\x1b" not in text
    assert "\x1b[" in memory_map.text(picture(memory), colour=True)


def test_lime_has_a_header_before_each_stretch(memory: CoreMemory, tmp_path: Path) -> None:
    done = extract(memory, GUEST, tmp_path / "ram.lime", Format.LIME)
    data = done.path.read_bytes()
    assert struct.unpack_from("<IIQQQ", data) == (0x4C694D45, 1, 0, 5 * PAGE - 1, 0)
    assert data[32 : 32 + PAGE] == TEXT[:PAGE]
    second = 32 + 5 * PAGE
    assert struct.unpack_from("<IIQQQ", data, second) == (0x4C694D45, 1, 4 * GIB, 4 * GIB + PAGE - 1, 0)
    assert data[second + 32 :] == b"h" * PAGE
    assert (done.written_bytes, done.missing_bytes) == (4 * PAGE, 2 * PAGE)
    assert done.path.stat().st_mode & 0o777 == 0o600


def test_padded_has_each_byte_at_its_guest_physical_address(memory: CoreMemory, tmp_path: Path) -> None:
    done = extract(memory, GUEST, tmp_path / "ram.padded", Format.PADDED)
    with done.path.open("rb") as file:
        assert file.read(len(TEXT[:PAGE])) == TEXT[:PAGE]
        file.seek(4 * GIB)
        assert file.read() == b"h" * PAGE
    assert done.path.stat().st_blocks * 512 < 1 << 20  # the hole below 4 GiB takes no room


def test_raw_has_the_stretches_one_after_another(memory: CoreMemory, tmp_path: Path) -> None:
    done = extract(memory, GUEST, tmp_path / "ram.raw", Format.RAW)
    assert done.path.read_bytes() == TEXT[:PAGE] + bytes(PAGE) + NOISE + bytes(2 * PAGE) + b"h" * PAGE


def test_an_existing_file_is_not_overwritten(memory: CoreMemory, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine")
    with pytest.raises(CaptureError, match="exists"):
        extract(memory, GUEST, there, Format.RAW)
    assert there.read_text() == "mine"


def test_hits_are_placed_and_their_surroundings_redacted(memory: CoreMemory) -> None:
    patterns = [Pattern(b"a secret in plain sight\na"), Pattern(b"hhhhhhhhh" * 440, name="high"), Pattern(b"missing")]
    data = report.as_dict(memory, scan(memory, patterns), patterns, GUEST, show=False)
    first = data["hits"][0]
    assert (first["address"], first["gpa"], first["ram_block"], first["region"]) == (0x10000, 0, "ram", "[anonymous]")
    assert first["context"] == "«25 bytes»xxxxxxxxxxxxxxxxxxxxxx.x"
    assert "plain sight" not in str(data)
    assert data["guest_ram"]["unreadable_bytes"] == PAGE
    assert data["guest_ram"]["not_mapped_bytes"] == PAGE
    assert len(data["doubts"]) == 2
    shown = report.as_dict(memory, scan(memory, patterns), patterns, GUEST, show=True)
    assert shown["hits"][0]["context"].startswith("«a secret in plain sight.a»")


def test_what_was_found_everywhere_needs_no_complete_search(memory: CoreMemory) -> None:
    patterns = [Pattern(b"plain sight")]
    assert report.as_dict(memory, scan(memory, patterns), patterns, GUEST, show=False)["doubts"] == []
