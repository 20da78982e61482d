"""Guest RAM in all the ways that QEMU lays it out: found, placed, and searched to its last byte.

QEMU itself is real and stands still before its first instruction (-S); what a guest or a vhost-user back end would write
is written by the test.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sevkit import processes
from sevkit.errors import ExitCode
from sevkit.memory.guest_ram.layout import GIB, command_line_of, guess
from sevkit.memory.guest_ram.qemu_layout import guest_map
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.request import Request, answer
from sevkit.memory.search.scan import scan
from sevkit.memory.sources import poke
from sevkit.memory.sources.process import LiveMemory

pytestmark = pytest.mark.guest
SECRET = b"secret-of-the-layouts-2604"
MIB = 1 << 20
Start = Callable[..., tuple[int, Path]]

LAYOUTS = {
    "pc, below the hole": ("-machine pc -m 256M", 256 * MIB, True),
    "pc, over 4 GiB": ("-machine pc -m 5G", 5 * GIB, True),
    "q35, over 4 GiB": ("-machine q35 -m 5G", 5 * GIB, True),
    "two NUMA nodes": (
        (
            "-machine q35 -m 512M -smp 2 -object memory-backend-ram,id=m0,size=256M -numa node,memdev=m0,cpus=0 "
            "-object memory-backend-ram,id=m1,size=256M -numa node,memdev=m1,cpus=1"
        ),
        512 * MIB,
        False,
    ),
    "a DIMM": (
        "-machine q35 -m 256M,slots=2,maxmem=1G -object memory-backend-ram,id=m1,size=128M -device pc-dimm,memdev=m1",
        384 * MIB,
        False,
    ),
    "virtio-mem": (
        (
            "-machine q35 -m 256M,slots=2,maxmem=1G -object memory-backend-ram,id=m1,size=128M "
            "-device virtio-mem-pci,memdev=m1,requested-size=128M"
        ),
        384 * MIB,
        False,
    ),
    "a shared memfd": (
        "-machine q35,memory-backend=m0 -m 256M -object memory-backend-memfd,id=m0,size=256M,share=on",
        256 * MIB,
        True,
    ),
    "a file in shared memory": (
        "-machine q35,memory-backend=m0 -m 256M -object memory-backend-file,id=m0,size=256M,share=on,mem-path=/dev/shm",
        256 * MIB,
        True,
    ),
}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    if not processes.have_tool("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed")
    running = []

    def begin(*options: str) -> tuple[int, Path]:
        socket = tmp_path / f"qmp{len(running)}"
        argv = ["qemu-system-x86_64", "-S", "-accel", "tcg", "-nodefaults", "-display", "none", *options]
        process = processes.start([*argv, "-qmp", f"unix:{socket},server=on,wait=off"])
        running.append(process)
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None, "QEMU ended"
            assert time.monotonic() < deadline, "QEMU made no socket"
            time.sleep(0.02)
        return process.pid, socket

    yield begin
    for process in running:
        processes.stop(process)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_end_of_guest_ram_is_found_and_placed(layout: str, start: Start) -> None:
    options, size, one_block = LAYOUTS[layout]
    pid, socket = start(*options.split())
    ram = guest_map(socket)
    assert ram.size == size
    wanted = set()
    for block in ram.blocks:
        assert block.host_address is not None
        for offset in (0, block.size - len(SECRET)):
            poke.write(pid, block.host_address + offset, SECRET)
            wanted.add(block.gpa + offset)
    with LiveMemory(pid) as memory:
        guessed = guess(memory.regions(), command_line_of(pid))
    assert (guessed is not None) == one_block
    assert guessed is None or guessed.host_ranges() == ram.host_ranges()
    result = answer(Request(pid=pid, qmp=socket, secrets=[SECRET.decode()], ram_only=True))
    assert result.data is not None
    assert {hit["gpa"] for hit in result.data["hits"]} == wanted
    nothing = answer(Request(pid=pid, qmp=socket, secrets=["never-anywhere-2604"], ram_only=True))
    assert nothing.exit_code == ExitCode.DONE
    assert nothing.data is not None
    told = nothing.data["guest_ram"]
    assert told is not None
    assert told["bytes"] == told["readable_bytes"] + told["unpopulated_bytes"] == size


@pytest.mark.parametrize("layout", ["two NUMA nodes", "a DIMM", "virtio-mem"])
def test_guest_ram_alone_is_not_searched_by_a_guess_that_knows_only_a_part(layout: str, start: Start) -> None:
    from sevkit.errors import UsageError

    pid, _ = start(*LAYOUTS[layout][0].split())
    with pytest.raises(UsageError, match="no guest RAM"):
        answer(Request(pid=pid, secrets=["x"], ram_only=True))


@pytest.mark.parametrize("layout", ["a shared memfd", "a file in shared memory"])
def test_what_another_process_writes_to_guest_ram_is_found(layout: str, start: Start) -> None:
    """As a vhost-user back end does: QEMU itself has no page table entry for that page."""
    pid, socket = start(*LAYOUTS[layout][0].split())
    ram = guest_map(socket)
    (first, *_) = ram.blocks
    assert first.host_address is not None
    with LiveMemory(pid) as memory:
        (mapping,) = [m for m in memory.mappings() if m.region.start <= first.host_address < m.region.end]
    region = mapping.region
    with Path(f"/proc/{pid}/map_files/{region.start:x}-{region.end:x}").open("r+b") as file:
        os.pwrite(file.fileno(), SECRET, region.offset + (200 << 20))
    with LiveMemory(pid) as memory:
        hits = scan(memory, [Pattern(SECRET)], within=ram.host_ranges()).hits
    assert [place.gpa for hit in hits if (place := ram.place(hit.address))] == [200 << 20]
