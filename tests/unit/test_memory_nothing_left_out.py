"""Each byte of a file or of a mapping is searched, or named as not searched."""

import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevkit.errors import BadInputError, ExitCode, UsageError
from sevkit.memory.guest_ram.layout import guess
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.request import Request, answer, make_patterns
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import Region
from sevkit.memory.sources.core import HIDDEN, UNCLAIMED, CoreMemory
from sevkit.memory.sources.process import HUGE_ELSEWHERE, LiveMemory
from tests.unit.elf import Load, core, note

SECRET = b"the-secret-that-must-not-be-missed"
PAGE = 4096


def searched(path: Path) -> tuple[int, int, list[str]]:
    """How often `scan --core` finds the secret, its exit status and doubts."""
    result = answer(Request(core=path, secrets=[SECRET.decode()]))
    assert result.data is not None
    return len(result.data["hits"]), result.exit_code, result.data["doubts"]


def with_type(data: bytes, kind: int) -> bytes:
    """The same core, its first program header of another type."""
    return data[:64] + struct.pack("<I", kind) + data[68:]


HIDING_PLACES: dict[str, bytes] = {
    "two segments at one address": core([Load(PAGE, b"a" * PAGE), Load(PAGE, SECRET.ljust(PAGE, b"b"))]),
    "a segment of an unknown type": with_type(core([Load(PAGE, SECRET * 9)]), 0x6FFF0001),
    "no segments at all": core([]) + SECRET,
    "notes only": core([], note(b"CORE", 1, b"x" * 40)),
    "behind the last segment": core([Load(PAGE, b"a" * PAGE)]) + bytes(800_000) + SECRET,
    "a segment that wraps": core([Load((1 << 64) - 2 * PAGE, b"a" * 2 * PAGE + SECRET)]),
    "a process core with a note of QEMU's": core(
        [Load(PAGE, b"a" * PAGE), Load(9 * PAGE, SECRET.ljust(PAGE))], note(b"QEMU", 0, b"x" * 40)
    ),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_what_of_a_core_is_not_searched_is_named(place: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.core"
    path.write_bytes(HIDING_PLACES[place])
    hits, code, doubts = searched(path)
    assert hits == 0
    assert code == ExitCode.INCONCLUSIVE
    assert doubts


def test_what_cores_have_besides_memory_is_no_doubt(tmp_path: Path) -> None:
    path = tmp_path / "core"
    for extended in (False, True):
        path.write_bytes(
            core([Load(PAGE, b"a" * PAGE), Load(3 * PAGE, b"b")], note(b"CORE", 1, b"x" * 40), extended=extended)
        )
        assert searched(path) == (0, ExitCode.DONE, [])


@settings(max_examples=150, deadline=None)
@given(
    loads=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3 * 512)), max_size=6),
    behind=st.integers(0, 3) | st.just(9000),
    where=st.integers(0, 20000),
    kinds=st.lists(st.sampled_from([1, 1, 1, 4, 7]), min_size=6, max_size=6),
)
def test_a_byte_of_a_core_is_read_or_named(
    loads: list[tuple[int, int]], behind: int, where: int, kinds: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A mark anywhere in the body of a core: found, or the search is not conclusive, or it stands in a note."""
    raw = core([Load(page * 512, b"." * size) for page, size in loads]) + b"." * behind
    data = bytearray(raw)
    for index in range(len(loads)):
        struct.pack_into("<I", data, 64 + 56 * index, kinds[index])
    body = 64 + 56 * len(loads)
    if body >= len(data):
        return
    at = body + where % (len(data) - body)
    data[at] = ord("!")
    path = tmp_path_factory.mktemp("core") / "core"
    path.write_bytes(data)
    in_note, offset = False, body
    for index, (_, size) in enumerate(loads):
        in_note |= kinds[index] == 4 and offset <= at < offset + size
        offset += size
    with CoreMemory(path) as memory:
        result = scan(memory, [Pattern(b"!")])
    assert result.hits or in_note or not result.conclusive
    known = sum(result.coverage.unreadable.get(reason, 0) for reason in (HIDDEN, UNCLAIMED))
    assert result.coverage.mapped_bytes == result.coverage.read_bytes + result.coverage.unreadable_bytes
    assert known <= len(data)


# --- processes

TARGET = """
import ctypes, mmap, os, sys
path, kind, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
descriptor = os.open(path, os.O_RDWR)
flags = mmap.MAP_SHARED if kind == "shared" else mmap.MAP_PRIVATE
prot = mmap.PROT_READ | (mmap.PROT_WRITE if kind == "private-rw" else 0)
area = mmap.mmap(descriptor, size, flags=flags, prot=prot)
os.close(descriptor)
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def started() -> Iterator[Callable[..., int]]:
    running: list[subprocess.Popen[bytes]] = []

    def start(code: str, *words: str) -> int:
        process = subprocess.Popen([sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        return process.pid

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("size", [64 << 10, 512 << 10, 8 << 20])
@pytest.mark.parametrize("kind", ["private-r", "private-rw", "shared"])
def test_a_mapped_file_that_nobody_touched_yet_is_searched(
    kind: str, size: int, tmp_path: Path, started: Callable[..., int]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(size - PAGE) + SECRET.ljust(PAGE, b"\0"))
    pid = started(TARGET, str(file), kind, str(size))
    with LiveMemory(pid) as memory:
        assert len(scan(memory, [Pattern(SECRET)]).hits) == 1


@pytest.fixture
def huge_pages() -> Iterator[None]:
    """Four huge pages of 2 MiB in the pool, where this machine gives them to us."""
    pool = Path("/proc/sys/vm/nr_hugepages")
    before = pool.read_text().strip() if pool.exists() else "0"
    try:
        pool.write_text(str(int(before) + 4))
        if int(pool.read_text()) < int(before) + 4:
            pool.write_text(before)
            pytest.skip("no huge pages are to spare")
    except OSError:
        pytest.skip("the pool of huge pages is not ours to change")
    yield
    pool.write_text(before)


HUGE = """
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
memfd = libc.memfd_create(b"ram", 4)  # MFD_HUGETLB
os.ftruncate(memfd, 4 << 20)
start = libc.mmap(None, 4 << 20, 3, 1, memfd, 0)
ctypes.memset(start, 65, 10)
if sys.argv[1] == "elsewhere" and os.fork() == 0:  # another process writes the second page, as vhost-user does
    ctypes.memmove(start + (2 << 20), b"the-secret-that-must-not-be-missed", 34)
    os._exit(0)
if sys.argv[1] == "elsewhere":
    os.wait()
print(flush=True)
sys.stdin.read()
"""


def test_huge_pages_that_another_process_filled_are_named(huge_pages: None, started: Callable[..., int]) -> None:
    with LiveMemory(started(HUGE, "elsewhere")) as memory:
        result = scan(memory, [Pattern(SECRET)])
        assert result.hits or result.coverage.unreadable.get(HUGE_ELSEWHERE) == 2 << 20
        assert result.hits or not result.conclusive
    with LiveMemory(started(HUGE, "alone")) as memory:
        coverage = scan(memory, [Pattern(b"A" * 10)]).coverage
        assert HUGE_ELSEWHERE not in coverage.unreadable


# --- where guest RAM lies, and what is searched for

RAM = [Region(0x7F0000000000, 0x7F0000000000 + (256 << 20), perms="rw-p")]


@pytest.mark.parametrize(
    "more",
    [
        ["-object", "memory-backend-ram,id=m1,size=128M", "-device", "pc-dimm,memdev=m1"],
        ["-device", "virtio-mem-pci,memdev=m1"],
        ["-device", '{"driver":"pc-dimm","memdev":"m1"}'],
        ["-object", "memory-backend-ram,id=a,size=128M", "-object", "memory-backend-memfd,id=b,size=128M"],
        [
            "-object",
            '{"qom-type":"memory-backend-ram","id":"a"}',
            "-object",
            '{"qom-type":"memory-backend-ram","id":"b"}',
        ],
    ],
)
def test_guest_ram_in_several_places_is_not_guessed(more: list[str]) -> None:
    plain = ["qemu-system-x86_64", "-m", "256M"]
    assert guess(RAM, plain) is not None
    assert guess(RAM, [*plain, "-object", "memory-backend-ram,id=m0,size=256M"]) is not None
    assert guess(RAM, [*plain, *more]) is None


def test_guest_ram_alone_by_a_guess_is_a_doubt(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x10000000, bytes(16 << 20))]))
    result = answer(Request(core=path, secrets=["x"], ram_only=True))
    assert result.exit_code == ExitCode.INCONCLUSIVE
    assert result.data is not None
    assert any("guess" in doubt for doubt in result.data["doubts"])


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbffirst\nsecond\n",
        b"first\rsecond\r",
        b"first\r\nsecond\r\n",
        "\ufefffirst\nsecond\n".encode("utf-16-le"),
    ],
)
def test_secrets_of_every_editor_are_the_same(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "secrets.txt"
    path.write_bytes(raw)
    assert [pattern.value for pattern in make_patterns((), str(path), (), wide=False)] == [b"first", b"second"]


def test_secrets_that_have_no_form_in_utf_16_are_refused() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        make_patterns([os.fsdecode(b"p\xe4ss")], None, (), wide=True)


def test_a_list_of_secrets_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secrets.txt"
    path.write_bytes(b"first\nse\0cond\n")
    with pytest.raises(BadInputError, match="line 2"):
        make_patterns((), str(path), (), wide=False)
