"""The compiled search against a search byte by byte, on memory that ends where nothing may be read."""

import ctypes
import mmap
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.memory import native

SIZE = 1 << 16
letters = st.sampled_from([b"\0", b"a", b"b", b"\xff", b"@"])
literal = st.lists(letters, min_size=1, max_size=40).map(b"".join)


@pytest.fixture(scope="module")
def memory() -> Iterator[tuple[mmap.mmap, int]]:
    """SIZE bytes and a page behind them that must not be touched; the address of the first."""
    if not native.built:
        pytest.skip("find.c was not built")
    libc = ctypes.CDLL(None)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    area = mmap.mmap(-1, SIZE + mmap.PAGESIZE)
    view = ctypes.c_char.from_buffer(area)
    base = ctypes.addressof(view)
    assert libc.mprotect(base + SIZE, mmap.PAGESIZE, 0) == 0
    yield area, base
    del view
    area.close()


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
    parts=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 300)), max_size=12),
    core=st.integers(0, 400),
)
def test_every_place_is_found_once_and_nothing_beyond_the_end_is_read(
    memory: tuple[mmap.mmap, int], values: list[bytes], filler: bytes, parts: list[tuple[int, int]], core: int
) -> None:
    area, base = memory
    data = b"".join(values[number % len(values)] + (filler * 300)[:gap] for number, gap in parts)
    start = SIZE - len(data)
    area[start:SIZE] = data
    core = min(core, len(data))
    together, left = native.groups(values)
    assert sorted(index for group in [*together, left] for index in group) == list(range(len(values)))
    for group in together:
        chosen = [values[index] for index in group]
        found = native.Finder(chosen).find(base + start, core, len(data), 1 << 20)
        assert sorted(found) == byte_by_byte(data, chosen, core)


@given(count=st.integers(2, 3000), size=st.integers(6, 60), at=st.integers(0, 5000))
def test_each_of_many_is_found_wherever_it_stands(
    memory: tuple[mmap.mmap, int], count: int, size: int, at: int
) -> None:
    area, base = memory
    values = [(b"%d:" % number).ljust(size, b"x") for number in range(count)]
    area[:SIZE] = bytes(SIZE)
    wanted = values[at % count]
    area[at : at + size] = wanted
    found = native.Finder(values).find(base, 0, SIZE, 100)
    assert (at, at % count) in found
    assert all(start == at for start, _ in found)


def test_more_hits_than_asked_for_end_the_search(memory: tuple[mmap.mmap, int]) -> None:
    area, base = memory
    area[:SIZE] = b"a" * SIZE
    for values in ([b"aaaa"], [b"a" * 15, b"b" * 40, b"c" * 40]):
        assert len(native.Finder(values).find(base, 0, SIZE, 5000)) == 5001
        assert len(native.Finder(values).find(base, 0, 3000, 5000)) == 3001 - len(values[0])


def test_it_is_built_wherever_there_is_a_compiler() -> None:
    assert native.built or shutil.which("cc") is None, "make setup builds it"
