"""The compiled search against a search byte by byte, on memory between pages that must not be read."""

import ctypes
import mmap
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatch_build import identity
from sevkit.memory.search import native
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from tests.property.test_scan_law import Islands

SIZE = 1 << 16
letters = st.sampled_from([b"\0", b"a", b"b", b"\xff", b"@"])
literal = st.lists(letters, min_size=1, max_size=40).map(b"".join)


@pytest.fixture(scope="module")
def memory() -> tuple[memoryview, int]:
    """SIZE bytes, before and behind them a page that must not be touched; the address of the first."""
    if not native.built:
        pytest.skip("find.c was not built")
    page = mmap.PAGESIZE
    libc = ctypes.CDLL(None)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    area = mmap.mmap(-1, SIZE + 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area)) + page
    assert libc.mprotect(base - page, page, 0) == libc.mprotect(base + SIZE, page, 0) == 0
    return memoryview(area)[page : page + SIZE], base


def byte_by_byte(data: bytes, values: list[bytes], core: int) -> list[tuple[int, int]]:
    return sorted(
        (at, index)
        for index, value in enumerate(values)
        for at in range(len(data) - len(value) + 1)
        if data.startswith(value, at) and at + len(value) > core
    )


@given(
    values=st.lists(literal, min_size=1, max_size=60, unique=True),
    filler=st.lists(letters, min_size=1, max_size=20).map(b"".join),
    parts=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 30)), max_size=30),
    cut=st.integers(0, 40),
    core=st.integers(0, 400),
    at_end=st.booleans(),
)
def test_every_place_is_found_once_and_nothing_outside_is_read(
    memory: tuple[memoryview, int],
    values: list[bytes],
    filler: bytes,
    parts: list[tuple[int, int]],
    cut: int,
    core: int,
    at_end: bool,
) -> None:
    area, base = memory
    data = b"".join(values[number % len(values)] + (filler * 30)[:gap] for number, gap in parts)[cut:]
    start = SIZE - len(data) if at_end else 0
    area[start : start + len(data)] = data
    core = min(core, len(data))
    together = native.groups(values)
    assert sorted(index for group in together for index in group) == list(range(len(values)))
    if together:
        found = native.Finder(values, together).find(base + start, core, len(data), 1 << 20)
        ours = {index for group in together for index in group}
        assert sorted(found) == [hit for hit in byte_by_byte(data, values, core) if hit[1] in ours]


@given(cut=st.integers(0, 50), core=st.integers(0, 200), size=st.integers(6, 30))
def test_memory_that_begins_within_a_literal(memory: tuple[memoryview, int], cut: int, core: int, size: int) -> None:
    area, base = memory
    values = [bytes([number]) + bytes(range(60, 60 + size + number % 9)) for number in range(40)]
    data = b"".join(values[number] for number in (3, 17, 4, 12, 0, 39, 8))[cut:]
    area[: len(data)] = data
    found = native.Finder(values, [range(len(values))]).find(base, core, len(data), 1 << 20)
    assert sorted(found) == byte_by_byte(data, values, core)


@pytest.mark.parametrize("count", [1, 2, 40, 300])
@pytest.mark.parametrize("size", [4, 5, 6, 8, 14, 15, 16, 40])
def test_a_literal_around_the_start_of_the_core_belongs_to_it_if_it_ends_in_it(
    memory: tuple[memoryview, int], count: int, size: int
) -> None:
    """By each method and stride, also where the memory begins or ends with it."""
    area, base = memory
    values = [(b"%04d" % number).ljust(size, b"\x80") for number in range(count)]
    finder = native.Finder(values, [range(count)])
    for start in (0, 1, 2, 3, 50):
        for behind in (0, 1, 100):
            data = b"\xee" * start + values[start % count] + b"\xee" * behind
            area[SIZE - len(data) :] = data
            for core in range(start + size + min(behind, 2)):
                found = finder.find(base + SIZE - len(data), core, len(data), 100)
                assert found == ([(start, start % count)] if core < start + size else [])


@given(count=st.integers(2, 3000), size=st.integers(6, 60), at=st.integers(0, 5000))
def test_each_of_many_is_found_wherever_it_stands(
    memory: tuple[memoryview, int], count: int, size: int, at: int
) -> None:
    area, base = memory
    values = [(b"%d:" % number).ljust(size, b"x") for number in range(count)]
    area[:SIZE] = bytes(SIZE)
    wanted = values[at % count]
    area[at : at + size] = wanted
    found = native.Finder(values, [range(len(values))]).find(base, 0, SIZE, 100)
    assert (at, at % count) in found
    assert all(start == at for start, _ in found)


def test_more_hits_than_asked_for_end_the_search(memory: tuple[memoryview, int]) -> None:
    area, base = memory
    area[:SIZE] = b"a" * SIZE
    for values in ([b"aaaa"], [b"a" * 15, b"b" * 40, b"c" * 40]):
        assert len(native.Finder(values, [range(len(values))]).find(base, 0, SIZE, 5000)) == 5001
        assert len(native.Finder(values, [range(len(values))]).find(base, 0, 3000, 5000)) == 3001 - len(values[0])


@pytest.mark.skipif(not native.built, reason="find.c was not built")
@pytest.mark.parametrize("core", [0, 1, 50])
def test_a_literal_that_ends_around_the_border_of_two_blocks_is_found_once(core: int) -> None:
    area, block = mmap.mmap(-1, 600 << 10), 256 << 10  # CACHED of find.c
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    finder = native.Finder([b"a-secret"], [[0]])
    for end in (core + number * block + beside for number in (1, 2) for beside in (-1, 0, 1, 2, 3, 9)):
        area[end - 8 : end] = b"a-secret"
        assert finder.find(base, core, len(area), 100) == [(end - 8, 0)]
        area[end - 8 : end] = bytes(8)


@pytest.mark.skipif(not native.built, reason="find.c was not built")
@pytest.mark.parametrize("hits", range(252, 258))
@pytest.mark.parametrize("more", [0, 40])
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("last", [False, True])
def test_as_many_hits_as_there_is_room_for_end_no_search(hits: int, more: int, first: int, last: bool) -> None:
    """The first buffer has room for 256: by one block, one group, or the parts at borders of pages, and more to come."""
    literals = [b"abcde", b"a-literal-that-is-long"]
    values = [
        *literals,
        *(b"%05d" % number for number in range(more)),
        *(b"long-literal-%07d" % n for n in range(more)),
    ]
    size, page = (300 << 10) + 77, mmap.PAGESIZE
    places = [(100 + 30 * number, literals[first]) for number in range(hits)]
    places += [(5 * page, literals[1][8:])]
    places += [(size - 75, literals[first]), (size - 50, literals[1 - first])] * last
    data, area = bytearray(size), mmap.mmap(-1, size)
    for at, text in places:
        data[at : at + len(text)] = text
    area[:] = bytes(data)
    base = ctypes.addressof(ctypes.c_char.from_buffer(area))
    found = native.Finder(values, native.groups(values), cut=True).find(base, 0, size, 1 << 20)
    wanted = [(at, literals.index(text)) for at, text in places if text in literals]
    assert sorted(hit for hit in found if hit[1] < native.CUT) == sorted(wanted)
    assert (5 * page, 1 + 8 * native.CUT) in found


def test_without_it_the_same_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [b"ab", b"secret", b"a-longer-secret-than-that", b"\0" * 5 + b"x" * 30]
    source = Islands([(4096, b"..ab" + b"".join(values) * 3 + bytes(9000) + values[2])])
    patterns = [Pattern(value) for value in values]
    quick = scan(source, patterns)
    monkeypatch.setattr(native, "built", False)
    assert scan(source, patterns).hits == quick.hits
    assert len(quick.hits) > 10


@pytest.mark.parametrize("said", [None, "", "0" * 32, native.SOURCES])
def test_only_a_library_of_these_sources_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    """A checkout that was updated, and not built again: the functions are there, and may take other arguments."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    names = ("finder_new", "finder_free", "finder_cut", "edges_tell", "find", "stream")
    names += ("borders", "matcher_new", "matcher_free", "matcher_starts", "matcher_reaches")
    lines = [f"int sevkit_{name}(void) {{ return 0; }}" for name in names]
    lines += [] if said is None else [f'const char *sevkit_sources(void) {{ return "{said}"; }}']
    source = tmp_path / "find.c"
    source.write_text("\n".join(lines))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(tmp_path / "find.so"), str(source)], check=True)
    monkeypatch.setattr(native, "_PATH", str(tmp_path / "find.so"))
    assert (native._load() is not None) is (said == native.SOURCES)


def test_the_identity_is_that_of_the_sources() -> None:
    """After a change of the C sources, the new identity belongs into native.py: an older library is then not used."""
    assert identity(Path(native.__file__).parent) == native.SOURCES


def test_the_identity_covers_every_source(tmp_path: Path) -> None:
    shutil.copytree(Path(native.__file__).parent, tmp_path / "search")
    for path in sorted((tmp_path / "search").glob("*.[ch]")):
        before = identity(tmp_path / "search")
        path.write_bytes(path.read_bytes() + b"\n")
        assert identity(tmp_path / "search") != before


def test_it_is_built_wherever_there_is_a_compiler() -> None:
    assert native.built or shutil.which("cc") is None, "make setup builds it"
