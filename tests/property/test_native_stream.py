"""Memory that the compiled search brings in itself: by whatever way, and however it is cut, the hits are the same."""

import contextlib
import ctypes
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevkit.memory.search import native
from sevkit.memory.search.native import Finder, Span
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import PAGE
from sevkit.memory.sources.core import CoreMemory
from sevkit.memory.sources.lease import Lease
from sevkit.memory.sources.process import LiveMemory
from tests.property.test_native_find import byte_by_byte
from tests.unit.elf import Load, core

pytestmark = pytest.mark.skipif(not native.built, reason="find.c was not built")
SIZE = 16 * PAGE
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
WINDOW = 8 << 20  # of stream.c
VALUES = [b"ab", b"needle", b"a-longer-needle-than-that", b"\0" * 3 + b"x" * 30, b"y" * 5000]
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def address_of(area: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


class Memory:
    """The same bytes in this process and in a file, and a buffer of which nothing beyond its ends may be touched."""

    def __init__(self, folder: Path) -> None:
        self.own = mmap.mmap(-1, SIZE, flags=PRIVATE)
        self.path = folder / "memory"
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        os.ftruncate(self.file, SIZE)
        self.readable = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self.finder = Finder(VALUES, native.groups(VALUES))
        self.step = 2 * PAGE
        needed = self.finder.buffer_size(self.step)
        self.area = mmap.mmap(-1, needed + 2 * PAGE, flags=PRIVATE)
        self.buffer = address_of(self.area) + PAGE
        _libc.mprotect(self.buffer - PAGE, PAGE, 0)
        _libc.mprotect(self.buffer + needed, PAGE, 0)

    def fill(self, data: bytes) -> bytes:
        data = data[:SIZE].ljust(SIZE, b"-")
        self.own[:] = data
        os.pwrite(self.file, data, 0)
        return data

    def stream(self, spans: list[Span]) -> tuple[list[tuple[int, int]], int, int]:
        found, reached, done = self.finder.stream(spans, self.buffer, 1 << 20, self.step)
        return sorted(found), reached, done


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    made = Memory(tmp_path_factory.mktemp("stream"))
    base = address_of(made.own)
    if made.stream([Span(base, 1, 0, base, -os.getpid(), False)])[1] == 0:
        pytest.skip("process_vm_readv is forbidden here (a container's seccomp profile?)")
    return made


contents = st.lists(
    st.sampled_from([*VALUES, b"a", b"\0", b"-" * 500, b"x" * 9, b"y" * PAGE, b"-" * (PAGE - 3)]), max_size=60
).map(b"".join)
cuts = st.lists(st.integers(0, SIZE) | st.integers(0, 16).map(lambda page: page * PAGE), max_size=6)


@settings(deadline=None)
@given(data=contents, ends=cuts, way=st.sampled_from(["process", "file", "in place"]))
def test_spans_of_one_run_give_each_hit_once(memory: Memory, data: bytes, ends: list[int], way: str) -> None:
    data = memory.fill(data)
    borders = sorted({0, SIZE, *ends})
    base = address_of(memory.own)
    offset, origin = (base, -os.getpid()) if way == "process" else (0, memory.readable)
    spans = []
    for start, end in zip(borders, borders[1:], strict=False):
        before = min(start, memory.finder.longest - 1)
        spans.append(Span(1 << 40 | start, end - start, before, offset + start, origin, way == "in place"))
    with leased(memory) if way == "in place" else contextlib.nullcontext():
        found, reached, done = memory.stream(spans)
    assert (reached, done) == (len(spans), 0)
    assert found == [(1 << 40 | at, index) for at, index in byte_by_byte(data, VALUES, 0)]


@contextlib.contextmanager
def leased(memory: Memory) -> Iterator[None]:
    """A lease, which nobody gets while the file is open for writing."""
    os.close(memory.file)
    try:
        lease = Lease(memory.readable)
        if not lease.holds():
            pytest.skip("no lease is granted on this file system, or to this user")
        yield
        lease.release()
    finally:
        memory.file = os.open(memory.path, os.O_RDWR | os.O_CLOEXEC)


@settings(deadline=None)
@given(data=contents, bad=st.integers(0, 15), start=st.integers(0, SIZE - 1), last=st.booleans())
def test_what_cannot_be_read_ends_it_and_what_was_searched_until_then_counts(
    memory: Memory, data: bytes, bad: int, start: int, last: bool
) -> None:
    data = memory.fill(data)
    base = address_of(memory.own)
    first = Span(0, PAGE, 0, 0, memory.readable, False)
    span = Span(base + start, SIZE - start, 0, base + start, -os.getpid(), False)
    assert _libc.mprotect(base + bad * PAGE, PAGE, 0) == 0
    try:
        found, reached, done = memory.stream([first, span] if last else [span, first])
    finally:
        assert _libc.mprotect(base + bad * PAGE, PAGE, 3) == 0
    if start >= (bad + 1) * PAGE:
        assert (reached, done) == (2, 0)
        return
    assert reached == (1 if last else 0)
    assert done <= max(0, bad * PAGE - start)
    assert done >= min(max(0, bad * PAGE - start) // memory.step * memory.step - memory.step, SIZE)
    head = [(base + start + at, index) for at, index in byte_by_byte(data[start : start + done], VALUES, 0)]
    assert found == sorted(head + (byte_by_byte(data[:PAGE], VALUES, 0) if last else []))


def test_a_file_is_looked_at_in_place_only_while_its_lease_is_ours_and_all_of_it_there(memory: Memory) -> None:
    memory.fill(b"needle")
    whole, beyond = (Span(0, size, 0, 0, memory.readable, True) for size in (SIZE, SIZE + 1))
    untouched = b"?" * 64

    def copies(span: Span, reached: int, done: int) -> bool:
        ctypes.memmove(buffer, untouched, len(untouched))
        assert memory.stream([span]) == ([(0, VALUES.index(b"needle"))], reached, done)
        return ctypes.string_at(buffer, len(untouched)) != untouched

    buffer = memory.buffer + memory.finder.buffer_size(0)
    assert copies(whole, 1, 0)
    with leased(memory):
        assert not copies(whole, 1, 0)
        assert copies(beyond, 0, SIZE - SIZE % memory.step)
        assert fcntl.fcntl(memory.readable, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    assert memory.stream([Span(0, SIZE + 1, 0, 0, memory.readable, False)])[1:] == (0, SIZE - SIZE % memory.step)


def test_what_can_no_longer_be_looked_at_in_place_is_copied_from_there_on(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "long"
    with path.open("wb") as written:
        written.truncate(WINDOW + SIZE)
        for at in (5, WINDOW - 3, WINDOW + 3 * PAGE):
            os.pwrite(written.fileno(), b"needle", at)
    needle = VALUES.index(b"needle")
    file = os.open(path, os.O_RDONLY)
    lease = Lease(file)
    span = Span(1 << 40, WINDOW + SIZE + 1, 0, 0, file, True)  # one byte more than there is
    found, reached, done = memory.stream([span])
    lease.release()
    assert [at - (1 << 40) for at, index in found if index == needle] == [5, WINDOW - 3, WINDOW + 3 * PAGE]
    assert (reached, done) == (0, WINDOW + SIZE - (WINDOW + SIZE) % memory.step)
    os.close(file)


def test_a_literal_over_the_border_of_two_windows_is_found(memory: Memory, tmp_path: Path) -> None:
    path = tmp_path / "long"
    places = [border - cut for border in (WINDOW, 2 * WINDOW) for cut in range(len(b"needle") + 1)]
    for at in places:
        with path.open("wb") as written:
            written.truncate(2 * WINDOW + SIZE)
            os.pwrite(written.fileno(), b"needle", at)
        with path.open("rb") as fresh:
            if not Lease(fresh.fileno()).holds():
                pytest.skip("no lease is granted on this file system, or to this user")
            found, reached, done = memory.stream([Span(0, 2 * WINDOW + SIZE, 0, 0, fresh.fileno(), True)])
        assert (reached, done) == (1, 0)
        assert [hit for hit in found if hit[1] == VALUES.index(b"needle")] == [(at, VALUES.index(b"needle"))]


def test_more_hits_than_asked_for_end_it(memory: Memory) -> None:
    memory.fill(b"ab" * SIZE)
    spans = [Span(at, PAGE, 0, at, memory.readable, False) for at in range(0, SIZE, PAGE)]
    assert len(memory.finder.stream(spans, memory.buffer, 5, memory.step)[0]) == 6
    assert len(memory.finder.stream(spans, memory.buffer, 3000, memory.step)[0]) == 3001


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=contents,
    values=st.lists(st.sampled_from(VALUES), min_size=1, unique=True),
    chunk=st.sampled_from([100, PAGE, 3 * PAGE + 5, 1 << 20]),
    threads=st.integers(1, 3),
    bad=st.none() | st.integers(0, 15),
)
def test_searches_of_processes_and_cores_agree_with_the_long_way(
    tmp_path: Path, data: bytes, values: list[bytes], chunk: int, threads: int, bad: int | None
) -> None:
    data = data[:SIZE].ljust(SIZE, b"-")
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x1000, data[: 5 * PAGE]), Load(0x1000 + 5 * PAGE, data[5 * PAGE :])]))
    shared = os.memfd_create("shared")
    os.ftruncate(shared, SIZE)
    os.pwrite(shared, data, 0)
    patterns = [Pattern(value) for value in values]
    long_way = [*patterns, Pattern(b"never.anywhere", regex=True)]
    with mmap.mmap(-1, SIZE, flags=PRIVATE) as own, mmap.mmap(shared, SIZE) as other:
        own[:] = data
        ranges = [(address_of(each), address_of(each) + SIZE) for each in (own, other)]
        if bad is not None:
            _libc.mprotect(ranges[0][0] + bad * PAGE, PAGE, 0)
        with LiveMemory(os.getpid()) as live, CoreMemory(path) as stored:
            for source, within in ((live, ranges), (stored, None)):
                quick = scan(source, patterns, within=within, chunk=chunk, threads=threads)
                slow = scan(source, long_way, within=within, threads=1)
                assert quick.hits == slow.hits
                assert quick.coverage == slow.coverage
                assert quick.finished
    os.close(shared)
