"""Live reading: of processes that the tests start themselves."""

import ctypes
import itertools
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit.errors import CaptureError, NotPermittedError
from sevkit.memory import capture
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import SourceGoneError, State
from sevkit.memory.sources.mappings import parse
from sevkit.memory.sources.pagemap import PageMap, data_extents
from sevkit.memory.sources.process import BEYOND_FILE, LiveMemory
from tests.support.tools import needs_gdb
from tests.support.waiting import until

PIECES = ("sec", "ret-of-the-live-test-0815")
SECRET = Pattern("".join(PIECES).encode())

# Memory of several kinds, a secret across a page border in each; prints the addresses.
TARGET = """
import ctypes, mmap, os, sys
secret = sys.argv[1].encode() + sys.argv[2].encode()
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
size = 64 << 20
def place(flags, fd=-1):
    at = libc.mmap(None, size, 3, flags, fd, 0)
    ctypes.memmove(at + (32 << 20) - 5, secret, len(secret))
    return at
memfd = os.memfd_create("ram")
os.ftruncate(memfd, size)
file = os.open(sys.argv[3], os.O_RDWR)
os.ftruncate(file, size)
private, shared = place(0x22), place(1, memfd)
of_file, copied = place(1, file), place(2, file)
hidden = place(0x22)
libc.mprotect(ctypes.c_void_p(hidden), ctypes.c_size_t(size), 0)
short = libc.mmap(None, size, 3, 1, memfd, size // 2 if sys.argv[4] == "short" else 0)
print(private, shared, of_file, copied, hidden, short, flush=True)
sys.stdin.read()
"""


class Target:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process, self.pid = process, process.pid
        assert process.stdout is not None
        names = ("private", "shared", "of_file", "copied", "hidden", "short")
        self.at = dict(zip(names, map(int, process.stdout.readline().split()), strict=True))


@pytest.fixture(params=["short"])
def target(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Target]:
    """Its last mapping reaches beyond the end of the file, or does not with the parameter ``whole``."""
    file = tmp_path_factory.mktemp("target") / "backing"
    file.touch()
    argv = [sys.executable, "-c", TARGET, *PIECES, str(file), request.param]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Target(process)
        process.kill()


def test_the_secret_is_found_in_every_kind_of_memory_and_holes_are_skipped(target: Target) -> None:
    with LiveMemory(target.pid) as memory:
        result = scan(memory, [SECRET])
        found = {hit.address for hit in result.hits}
        for kind in ("private", "shared", "of_file", "copied", "hidden"):
            assert target.at[kind] + (32 << 20) - 5 in found, kind
        coverage = result.coverage
        assert result.finished
        assert coverage.skipped_unpopulated_bytes > 250 << 20
        assert coverage.read_bytes < 100 << 20
        assert coverage.unreadable == {BEYOND_FILE: 32 << 20}
        assert coverage.mapped_bytes == sum(region.size for region in memory.regions())


def test_looking_does_not_populate_the_holes(target: Target) -> None:
    def resident() -> int:
        return int(Path(f"/proc/{target.pid}/statm").read_text().split()[1])

    before = resident()
    with LiveMemory(target.pid) as memory:
        scan(memory, [SECRET])
    assert resident() - before < 100


def test_both_ways_to_read_the_page_map_agree(target: Target) -> None:
    start = target.at["private"]
    quick, plain = (PageMap(target.pid, start, start + (64 << 20)) for _ in range(2))
    if not quick.ranges:
        pytest.skip("this kernel gives no ranges")
    plain.ranges = False
    assert quick.populated(start, start + (64 << 20)) == plain.populated(start, start + (64 << 20))
    low, high = plain.populated(start, start + (64 << 20))[0]
    assert low <= start + (32 << 20) - 5 < high
    quick.close()
    plain.close()


def test_both_ways_to_read_the_page_map_agree_on_memory_in_shreds() -> None:
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as some:
        some.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(0, len(some) // 4096, 3):
            some[page * 4096] = 1
        here = ctypes.addressof(ctypes.c_char.from_buffer(some))
        quick, plain = (PageMap(os.getpid(), here, here + len(some)) for _ in range(2))
        if not quick.ranges:
            pytest.skip("this kernel gives no ranges")
        plain.ranges = False
        found = quick.populated(here, here + len(some))
        assert found == plain.populated(here, here + len(some))
        assert len(found) == -(-len(some) // 4096 // 3)
        assert quick.populated(here + 4096, here + 3 * 4096) == []
        assert quick.populated(here + 100, here + 3 * 4096 + 100) == [
            (here + 100, here + 4096),
            (here + 3 * 4096, here + 3 * 4096 + 100),
        ]
        with LiveMemory(os.getpid()) as memory:  # more ranges than the kernel's buffer holds, in many mappings
            parts = list(memory.stretches())
        assert all(part.size > 0 for part in parts)
        assert all(one.end <= other.start for one, other in itertools.pairwise(parts))


def test_a_held_process_stands_still_and_goes_on_afterwards(target: Target) -> None:
    def state() -> str:
        return Path(f"/proc/{target.pid}/stat").read_text().rpartition(")")[2].split()[0]

    with LiveMemory(target.pid, stop=True) as memory:
        assert state() == "t"
        assert scan(memory, [SECRET]).hits
    until(lambda: state() in "SR", "the process does not go on")


def test_a_process_that_ends_during_the_search_leaves_it_unfinished(target: Target) -> None:
    with LiveMemory(target.pid) as memory:
        memory.stretches()
        target.process.kill()
        target.process.wait()
        result = scan(memory, [SECRET])
        assert not result.finished
        assert "ended" in str(result.stopped)
        assert not result.conclusive


def test_a_process_that_runs_another_program_is_noticed() -> None:
    argv = ["/bin/sh", "-c", "read line; exec sleep 600"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            with LiveMemory(process.pid) as memory:
                memory.stretches()
                process.stdin.write(b"\n")
                process.stdin.flush()
                until(
                    lambda: b"sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes()[:6],
                    "the shell runs no other program",
                )
                with pytest.raises(SourceGoneError):
                    memory.check()
        finally:
            process.kill()


def test_there_is_no_process() -> None:
    with pytest.raises(SourceGoneError, match="no process"):
        LiveMemory(2**22 + 1)


def test_a_kernel_thread_has_no_memory() -> None:
    kthreadd = Path("/proc/2/comm")
    if not kthreadd.exists() or kthreadd.read_text().strip() != "kthreadd":
        pytest.skip("no kernel threads can be seen from here (a container)")
    with pytest.raises((SourceGoneError, NotPermittedError)):
        LiveMemory(2)


def test_the_file_behind_shared_memory_says_where_it_has_data() -> None:
    descriptor = os.memfd_create("holes")
    os.ftruncate(descriptor, 1 << 20)
    os.pwrite(descriptor, b"x", 40960)
    assert data_extents(descriptor, 0, 1 << 20) == [(40960, 45056)]
    assert data_extents(descriptor, 45056, 4096) == []
    os.close(descriptor)


def test_smaps_are_read_with_odd_names_and_without_the_kernels_pages() -> None:
    text = (
        "7f00-8f00 rw-s 00001000 00:01 77                         /dev/shm/a: b (deleted)\n"
        "Size:  4 kB\nRss:   0 kB\nSwap:  4 kB\nVmFlags: rd wr sh dd\n"
        "9000-a000 r--p 00000000 00:00 0                          [vvar]\nRss: 0 kB\nVmFlags: rd pf\n"
        "b000-c000 rw-s 00000000 00:05 12                         /dev/vfio/1\nRss: 0 kB\nVmFlags: rd wr io pf\n"
    )
    first, device = parse(text)
    assert (first.region.name, first.region.offset, first.inode) == ("/dev/shm/a: b (deleted)", 0x1000, 77)
    assert first.used
    assert first.shared
    assert "dd" in first.flags
    assert not device.region.readable


@needs_gdb
def test_a_file_that_ends_within_a_mapping_makes_gdb_lose_all_of_it(target: Target, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="with data are zeros in the core"):
        capture.capture(target.pid, tmp_path, timeout=60)
    assert list(tmp_path.iterdir()) == []


@needs_gdb
@pytest.mark.parametrize("target", ["whole"], indirect=True)
def test_gcore_gives_a_private_file_in_which_the_secret_is_found(target: Target, tmp_path: Path) -> None:
    from sevkit.memory.sources.core import CoreMemory

    path = capture.capture(target.pid, tmp_path, timeout=60)
    assert path.stat().st_mode & 0o777 == 0o600
    with CoreMemory(path) as memory:
        found = {hit.address for hit in scan(memory, [SECRET]).hits}
    assert target.at["private"] + (32 << 20) - 5 in found


@needs_gdb
def test_gcore_of_nobody_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceGoneError):
        capture.capture(2**22 + 1, tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_gdb
def test_gcore_that_is_refused_names_the_tracer(target: Target, tmp_path: Path) -> None:
    with LiveMemory(target.pid, stop=True), pytest.raises(NotPermittedError) as caught:
        capture.capture(target.pid, tmp_path, timeout=60)
    assert str(os.getpid()) in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


@needs_gdb
@pytest.mark.root
def test_gcore_on_a_full_disk_is_no_space(target: Target, tmp_path: Path) -> None:
    from sevkit.errors import NoSpaceError

    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        with pytest.raises(NoSpaceError):
            capture.capture(target.pid, small, timeout=60)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_gdb
def test_gcore_that_takes_too_long_lets_the_process_go(target: Target, tmp_path: Path) -> None:
    from sevkit.errors import DeadlineError

    with pytest.raises(DeadlineError):
        capture.capture(target.pid, tmp_path, timeout=0.05)
    assert list(tmp_path.iterdir()) == []
    os.kill(target.pid, signal.SIG_DFL)

    def goes_on() -> bool:
        status = Path(f"/proc/{target.pid}/status").read_text()
        return "TracerPid:\t0" in status and "T (stopped)" not in status

    until(goes_on, "the process is still stopped")


def test_without_gdb_the_hint_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sevkit.errors import MissingToolError

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingToolError) as caught:
        capture.capture(os.getpid(), tmp_path)
    assert "gdb" in (caught.value.hint or "")


def test_states_tile_every_region_without_gap_or_overlap() -> None:
    with mmap.mmap(-1, 1 << 20) as some, LiveMemory(os.getpid()) as memory:
        some[5000] = 1
        parts = list(memory.stretches())
        for region in memory.regions():
            inside = [p for p in parts if region.start <= p.start < region.end]
            assert inside[0].start == region.start
            assert inside[-1].end == region.end
            assert all(a.end == b.start for a, b in itertools.pairwise(inside))
        assert {part.state for part in parts} >= {State.DATA, State.UNPOPULATED}


def test_what_was_only_read_needs_no_second_look() -> None:
    with mmap.mmap(-1, 64 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as some:
        assert not some.find(b"x") >= 0  # reads it all, as gcore does
        some[1 << 20] = 1
        here = ctypes.addressof(ctypes.c_char.from_buffer(some))
        with LiveMemory(os.getpid()) as memory:
            if not PageMap(os.getpid(), here, here + len(some)).ranges:
                pytest.skip("this kernel does not tell the zero page")
            inside = [part for part in memory.stretches() if here <= part.start < here + len(some)]
        assert sum(part.size for part in inside if part.state == State.DATA) < 4 << 20


def test_shared_memory_is_read_by_its_file_and_private_memory_in_the_process() -> None:
    size = 2 << 20
    descriptor = os.memfd_create("shared")
    os.ftruncate(descriptor, size)
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(descriptor, size // 2, offset=size // 2) as shared, mmap.mmap(-1, size, flags=private) as own:
        one, other = (ctypes.addressof(ctypes.c_char.from_buffer(each)) for each in (shared, own))
        os.pwrite(descriptor, SECRET.value, size // 2 + 4096 * 9 - 3)
        own[4096 * 9 - 3 : 4096 * 9 - 3 + len(SECRET.value)] = SECRET.value
        with LiveMemory(os.getpid()) as memory:
            memory.stretches()
            here = memory.place(one + 5, one + 8000)
            assert here is not None
            assert os.pread(here.origin, len(SECRET.value), here.offset + 4096 * 9 - 3 - 5) == SECRET.value
            assert memory.place(one, one + size // 2 + 1) is None
            assert memory.place(one - 1, one + 1) is None
            assert memory.place(other, other + size) == (other, -os.getpid(), False)
            hits = {hit.address for hit in scan(memory, [SECRET]).hits}
        assert {one + 4096 * 9 - 3, other + 4096 * 9 - 3} <= hits
    os.close(descriptor)


def test_a_process_with_many_shared_mappings_takes_few_of_our_descriptors() -> None:
    descriptor = os.memfd_create("shared")
    os.ftruncate(descriptor, 2 << 20)
    os.pwrite(descriptor, SECRET.value, (1 << 20) + 77)
    many = [mmap.mmap(descriptor, 1 << 20, offset=offset) for offset in (0, 1 << 20) for _ in range(100)]
    many += [mmap.mmap(descriptor, 4096) for _ in range(100)]
    mapped = len(os.listdir("/proc/self/fd"))
    places = {ctypes.addressof(ctypes.c_char.from_buffer(area)) + 77 for area in many[100:200]}
    with LiveMemory(os.getpid()) as memory:
        memory.stretches()
        assert len(os.listdir("/proc/self/fd")) - mapped < 80
        assert places <= {hit.address for hit in scan(memory, [SECRET]).hits}
    assert len(os.listdir("/proc/self/fd")) == mapped
    for area in many:
        area.close()
    os.close(descriptor)


def test_mappings_that_only_their_flags_can_tell_are_asked_for_them() -> None:
    lines = {
        "7f0000000000-7f0000200000 rw-s 00000000 00:01 77 /memfd:ram (deleted)": True,  # may be huge pages
        "7f0000001000-7f0000201000 rw-s 00000000 00:01 77 /memfd:ram (deleted)": False,
        "7f0000000000-7f0000200000 rw-p 00000000 00:00 0 ": False,
        "7f0000001000-7f0000002000 rw-s 00000000 00:05 12 /dev/vfio/1": True,
        "7f0000001000-7f0000002000 rw-s 00000000 00:0e 12 anon_inode:kvm-vcpu:0": False,
    }
    for line, doubtful in lines.items():
        (mapping,) = parse(line + "\n")
        assert mapping.doubtful == doubtful, line
