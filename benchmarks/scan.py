"""How fast the memory scanner is, next to what it replaces, side by side in one run.

Each comparison is repeated, its sides taking turns, and given as ratios within a turn (median, least, most): absolute
speeds move with what else the machine does. Run as ``python -m benchmarks.scan`` (or ``make bench-scan``); ``--quick``
for a short one.
"""

import argparse
import compileall
import contextlib
import ctypes
import functools
import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import sevkit
from sevkit import processes
from sevkit.memory import capture
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.base import Range, Region, intersect, runs
from sevkit.memory.sources.core import CoreMemory
from sevkit.memory.sources.process import LiveMemory

SECRET = "sevkit-benchmark-secret-4711"
ABSENT = Pattern(b"sevkit-benchmark-never-anywhere")
GIB = 1 << 30
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
BUSY = 5  # percent of a core, from which on a guest is not idle
NOT_THERE = 0xA5  # a byte that memchr looks for in vain

# A process with resident memory like a guest's: a third random, a third program text, a third nearly empty pages.
HOLDER = """
import mmap, os, sys
size, kind = int(sys.argv[1]), sys.argv[2]
block = 16 << 20
noise = os.urandom(block)
with open(sys.executable, "rb") as file:
    text = file.read()
text = (text * (block // len(text) + 1))[:block]
sparse = (b"\\1" + bytes(4095)) * (block // 4096)
if kind == "memfd":
    file = os.memfd_create("ram")
    os.ftruncate(file, size)
    memory = mmap.mmap(file, size)
else:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE if kind == "huge_pages" else mmap.MADV_NOHUGEPAGE)
for index, at in enumerate(range(0, size, block)):
    part = (noise, text, sparse)[index % 3]
    memory[at : at + block] = part[: min(block, size - at)]
print("ready", flush=True)
sys.stdin.read()
"""
# As guest RAM may lie in a VMM: QEMU asks for huge pages with plain -m; a memfd is what sevkit's own guests have.
KINDS = ("small_pages", "huge_pages", "memfd")


class Turns:
    """The times of several sides that took turns; ratios are of one turn each, so that drift hits both sides."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    def turn(self, settle: Callable[[], object] | None = None, **sides: Callable[[], object]) -> None:
        """Time each side once, in this order; ``settle`` runs before each, untimed."""
        for name, side in sides.items():
            if settle is not None:
                settle()
            started = time.perf_counter()
            side()
            self.seconds.setdefault(name, []).append(time.perf_counter() - started)

    def median(self, name: str) -> float:
        """Seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, above: str, below: str) -> dict[str, float]:
        """How many times as long ``above`` takes as ``below``: the median of the turns, the least and the most."""
        ratios = [one / other for one, other in zip(self.seconds[above], self.seconds[below], strict=True)]
        return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def take_turns(repeats: int, settle: Callable[[], object] | None = None, **sides: Callable[[], object]) -> Turns:
    """All sides, as often as said, in turns: there and back again."""
    turns = Turns()
    for number in range(repeats):
        order = list(sides.items())
        turns.turn(settle, **dict(order if number % 2 == 0 else order[::-1]))
    return turns


@contextlib.contextmanager
def holder(size: int, kind: str = KINDS[0]) -> Iterator[int]:
    """A process that holds ``size`` bytes of resident memory; gives its PID."""
    argv = [sys.executable, "-c", HOLDER, str(size), kind]
    with processes.running(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the process to scan did not start")
        yield process.pid


def run(argv: list[str], stdin: bytes = b"", status: Collection[int] = (0,)) -> bytes:
    """Run a program to its end, at less cost than processes.run, which would count on every side; what it prints."""
    done = subprocess.run(argv, input=stdin, capture_output=True, check=False)
    if done.returncode not in status:
        raise SystemExit(f"failed: {processes.pasteable(argv)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def sevkit_scan(*arguments: str) -> None:
    """The whole command, start of Python included."""
    installed = Path(sys.executable).with_name("sevkit")
    sevkit = [str(installed)] if installed.exists() else [sys.executable, "-m", "sevkit"]
    run([*sevkit, "scan", *arguments, "--secrets-file", "-", "--json"], SECRET.encode())


def against_memchr(pid: int, repeats: int) -> dict[str, object]:
    """Live scan of most of a process's memory against memchr over the same bytes, copied into our own.

    In between stands what no search can pass that has to copy: copying alone, and looking at nothing.
    """
    libc = ctypes.CDLL(None)
    libc.memchr.restype = ctypes.c_void_p
    libc.memchr.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t)
    with LiveMemory(pid) as memory:
        ranges = max((_resident(memory, region) for region in memory.regions()), key=_size)
        size = _size(ranges)
        own = _own_copy(memory, ranges)

        def search(*patterns: Pattern, threads: int | None = None) -> None:
            result = scan(memory, patterns, within=ranges, threads=threads)
            assert result.coverage.read_bytes == size
            assert not result.hits

        def plain_memchr() -> None:
            assert libc.memchr(own.ctypes.data, NOT_THERE, size) is None

        secrets = [Pattern(os.urandom(12).hex().encode()) for _ in range(1000)]
        turns = take_turns(
            repeats,
            scan=lambda: search(ABSENT),
            scan_1_thread=lambda: search(ABSENT, threads=1),
            thousand_secrets=lambda: search(*secrets),
            memchr=plain_memchr,
            copy=lambda: _merely_copy(memory, ranges, os.cpu_count() or 1),
            copy_1_thread=lambda: _merely_copy(memory, ranges, 1),
        )
    speeds = {f"{name}_gb_s": size / turns.median(name) / 1e9 for name in turns.seconds}
    return {"bytes": size, **speeds} | {
        "scan_speed_over_memchr": turns.ratio("memchr", "scan"),
        "scan_speed_over_memchr_1_thread": turns.ratio("memchr", "scan_1_thread"),
        "copy_speed_over_memchr": turns.ratio("memchr", "copy"),
        "scan_speed_over_copy": turns.ratio("copy", "scan"),
        "thousand_secrets_time_over_one": turns.ratio("thousand_secrets", "scan"),
    }


def _resident(memory: LiveMemory, region: Region) -> list[Range]:
    return runs(intersect(memory.stretches(), [(region.start, region.end)]))


def _size(ranges: Sequence[Range]) -> int:
    return sum(end - start for start, end in ranges)


def _own_copy(memory: LiveMemory, ranges: Sequence[Range]) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The bytes of ``ranges``, one after the other, but for the one that memchr must not find, or it would stop."""
    own = mmap.mmap(-1, _size(ranges), flags=PRIVATE)
    own.madvise(mmap.MADV_HUGEPAGE)
    at = 0
    for start, end in ranges:
        at += memory.readinto(start, memoryview(own)[at : at + end - start])
    array = np.frombuffer(own, dtype=np.uint8)
    for part in np.split(array, range(1 << 24, len(array), 1 << 24)):
        part[part == NOT_THERE] = 0
    return array


def _merely_copy(memory: LiveMemory, ranges: Sequence[Range], threads: int) -> None:
    step = 1 << 20
    starts = iter([at for start, end in ranges for at in range(start, end, step)])

    def worker() -> None:
        with mmap.mmap(-1, step, flags=PRIVATE) as buffer, memoryview(buffer) as view:
            for at in starts:
                memory.readinto(at, view)

    workers = [threading.Thread(target=worker) for _ in range(threads)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()


def against_memchr_everywhere(size: int, repeats: int) -> dict[str, object]:
    """Of a process with memory of each kind, and of a running guest."""
    result: dict[str, object] = {}
    for kind in KINDS:
        with holder(size, kind) as pid:
            result[kind] = against_memchr(pid, repeats)
    with filled_guest(size >> 20) as pid:
        _quiet(pid)
        result["running_guest"] = against_memchr(pid, repeats)
    return result


@contextlib.contextmanager
def filled_guest(memory_mib: int) -> Iterator[int]:
    """A running guest with the secret in its memory, about half of which is in use; gives the PID of its VMM."""
    from sevkit.guest.spec import Accel, GuestSpec
    from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor

    spec = GuestSpec(name=f"bench-scan-{os.getpid()}", memory_mib=memory_mib, accel=Accel.TCG)
    guest = QemuHypervisor().launch(spec)
    try:
        # In blocks of noise; the guest's /tmp takes no more than half of its usable memory.
        fill = f"for _ in $(seq {memory_mib * 3 // 128}); do cat /tmp/noise; done >/tmp/fill"
        done = guest.run(
            f"echo {SECRET} >/tmp/secret; head -c {16 << 20} /dev/urandom >/tmp/noise; {fill}", timeout=300
        )
        if done.status != 0:
            raise SystemExit(f"the guest's memory could not be filled: {done.stderr!r}")
        yield guest.pid
    finally:
        guest.stop()


def against_gcore_and_grep(memory_mib: int, repeats: int) -> dict[str, object]:
    """The published way and ``sevkit scan --pid`` on the same running guest, a new one for each turn.

    gcore comes last in the turn, since the guest is not the same after it: what gdb reads of guest RAM that was never
    used becomes populated, and from then on takes memory of the host and time of every search (given as
    ``after_gcore``).
    """
    turns, disk, searched = Turns(), 0, {}
    for _ in range(repeats):
        with filled_guest(memory_mib) as pid:

            def published(pid: int = pid) -> None:
                nonlocal disk
                with tempfile.TemporaryDirectory() as folder:
                    core = capture.capture(pid, Path(folder))
                    _grep("grep", core)
                    disk = core.stat().st_blocks * 512

            def inside(when: str, pid: int = pid) -> None:
                with LiveMemory(pid) as memory:
                    searched[when] = scan(memory, [Pattern(SECRET.encode())]).coverage.read_bytes

            turns.turn(
                functools.partial(_quiet, pid),
                sevkit_command=functools.partial(sevkit_scan, "--pid", str(pid)),
                sevkit_command_ram_only=functools.partial(sevkit_scan, "--pid", str(pid), "--ram-only"),
                sevkit_search=functools.partial(inside, "before"),
                gcore_and_grep=published,
                sevkit_command_after_gcore=functools.partial(sevkit_scan, "--pid", str(pid)),
                sevkit_search_after_gcore=functools.partial(inside, "after"),
            )
    return {
        "guest_mib": memory_mib,
        **{f"{name}_s": turns.median(name) for name in turns.seconds},
        **{f"times_faster_{name}": turns.ratio("gcore_and_grep", name) for name in turns.seconds if "sevkit" in name},
        "bytes_searched": searched["before"],
        "bytes_searched_after_gcore": searched["after"],
        "disk_bytes_gcore": disk,
        "disk_bytes_sevkit": 0,
    }


def _quiet(pid: int) -> None:
    """The guest ends what it does, or missed while gdb held it, for 20 s at most; the disk writes what is due."""
    os.sync()
    process = psutil.Process(pid)
    for _ in range(20):
        if process.cpu_percent(interval=1) < BUSY:
            return


def core_against_grep(size: int, repeats: int) -> dict[str, object]:
    """``sevkit scan --core`` against rg and grep on the same file, from the page cache and from disk."""
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, holder(size) as pid:
        core = capture.capture(pid, Path(folder), timeout=600)
        os.sync()
        tools = {
            name: processes.find_tool(name, package=package) for name, package in (("rg", "ripgrep"), ("grep", "grep"))
        }

        def search() -> None:
            with CoreMemory(core) as memory:
                scan(memory, [ABSENT])

        runs = {name: functools.partial(_grep, tool, core) for name, tool in tools.items()}
        for cold in (False, True):
            settle = functools.partial(_forget, core) if cold else None
            turns = take_turns(repeats, settle, sevkit=lambda: sevkit_scan("--core", str(core)), search=search, **runs)
            word = "cold" if cold else "warm"
            result |= {f"{word}_{name}_s": turns.median(name) for name in turns.seconds}
            result |= {f"{word}_times_faster_than_{name}": turns.ratio(name, "sevkit") for name in tools}
        result["core_bytes"] = core.stat().st_size
    return result


def _grep(tool: str, core: Path) -> None:
    run([tool, "-c", "-a", "-F", SECRET, str(core)], status=(0, 1))


def _forget(path: Path) -> None:
    """Drop a file from the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


# A process in between, smaller than any of ours: the peak that a process is told of its children begins with its own.
MEASURE = """
import resource, subprocess, sys
status = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""


def peak_memory(size: int) -> dict[str, float]:
    """Peak resident memory in MiB of a whole ``sevkit scan`` of a process of ``size`` bytes, live and from its core."""
    argv = [sys.executable, "-S", "-c", MEASURE, sys.executable, "-m", "sevkit", "scan", "--secret", SECRET, "--json"]
    with holder(size) as pid:
        live = int(run([*argv, "--pid", str(pid)])) / 1024
        with tempfile.TemporaryDirectory() as folder:
            core = int(run([*argv, "--core", str(capture.capture(pid, Path(folder), timeout=600))])) / 1024
    return {"process_gib": size / GIB, "peak_mib_live": live, "peak_mib_core": core}


def main() -> None:
    """Run all comparisons and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller memory, fewer repeats")
    parser.add_argument("--only", choices=("memchr", "guest", "core", "memory"), help="one comparison")
    parser.add_argument("--gib", type=int, default=1, help="size of the process and the core that are compared")
    options = parser.parse_args()
    size, repeats = (GIB // 2, 3) if options.quick else (options.gib * GIB, 7)
    compileall.compile_dir(str(Path(sevkit.__file__).parent), quiet=1)  # as it is where it was installed
    results: dict[str, object] = {"load_average": os.getloadavg(), "cores": os.cpu_count()}
    parts: dict[str, Callable[[], object]] = {
        "memchr": lambda: against_memchr_everywhere(size, repeats),
        "guest": lambda: [
            against_gcore_and_grep(mib, 3 if options.quick else 5) for mib in ((512,) if options.quick else (512, 2048))
        ],
        "core": lambda: [
            core_against_grep(gib << 30, repeats) for gib in ((1,) if options.quick else (options.gib, 4))
        ],
        "memory": lambda: [peak_memory(gib * GIB) for gib in ((1,) if options.quick else (1, 4, 8))],
    }
    for name, part in parts.items():
        if options.only in (None, name):
            print(f"… {name}", file=sys.stderr)
            results[name] = part()
    print(json.dumps(results, indent=2, default=lambda value: round(value, 3)))


if __name__ == "__main__":
    main()
