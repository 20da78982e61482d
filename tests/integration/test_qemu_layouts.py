"""Guest RAM in all the ways that QEMU lays it out: found, placed, and searched to its last byte.

QEMU itself is real and stands still before its first instruction (-S); what a guest or a vhost-user back end would write
is written by the test.
"""

import os
import socket
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
from sevkit.qemu import qmp
from tests.support.waiting import until

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
    "huge pages in a memfd": (
        "-machine q35,memory-backend=m0 -m 32M -object memory-backend-memfd,id=m0,size=32M,share=on,hugetlb=on",
        32 * MIB,
        True,
    ),
    "huge pages of a file system": (
        (
            "-machine q35,memory-backend=m0 -m 32M "
            "-object memory-backend-file,id=m0,size=32M,share=on,mem-path={hugetlbfs}"
        ),
        32 * MIB,
        True,
    ),
    "huge pages, private": (
        "-machine q35,memory-backend=m0 -m 32M -object memory-backend-memfd,id=m0,size=32M,share=off,hugetlb=on",
        32 * MIB,
        True,
    ),
    "two NUMA nodes in memfds, over 4 GiB, and a DIMM": (
        (
            "-machine q35 -m 5G,slots=2,maxmem=8G -smp 2 "
            "-object memory-backend-memfd,id=m0,size=2G,share=on -numa node,memdev=m0,cpus=0 "
            "-object memory-backend-memfd,id=m1,size=3G,share=on -numa node,memdev=m1,cpus=1 "
            "-object memory-backend-memfd,id=m2,size=1G,share=on -device pc-dimm,memdev=m2"
        ),
        6 * GIB,
        False,
    ),
    "a file in shared memory": (
        "-machine q35,memory-backend=m0 -m 256M -object memory-backend-file,id=m0,size=256M,share=on,mem-path=/dev/shm",
        256 * MIB,
        True,
    ),
}


HUGE_PAGES = 40  # of 2 MiB: two guests' worth


@pytest.fixture
def hugetlbfs(tmp_path: Path) -> Iterator[Path]:
    """A file system of huge pages of our own, where this machine lets us have them."""
    pool, folder = Path("/proc/sys/vm/nr_hugepages"), tmp_path / "huge"
    folder.mkdir()
    before = pool.read_text().strip() if pool.exists() else "0"
    try:
        pool.write_text(str(int(before) + HUGE_PAGES))
        enough = int(pool.read_text()) >= int(before) + HUGE_PAGES
    except OSError:
        pytest.skip("the pool of huge pages is not ours to change")
    mounted = enough and processes.run(["mount", "-t", "hugetlbfs", "none", str(folder)], timeout=60).status == 0
    try:
        if not mounted:
            pytest.skip("there are no huge pages to spare, or no file system of them may be mounted")
        yield folder
    finally:
        if mounted:
            processes.run(["umount", "--lazy", str(folder)], timeout=60)
        pool.write_text(before)


def options_of(layout: str, request: pytest.FixtureRequest) -> list[str]:
    """The options of QEMU for a layout; those with huge pages get some, or are skipped."""
    text = LAYOUTS[layout][0]
    return text.format(hugetlbfs=request.getfixturevalue("hugetlbfs") if "huge" in text else "").split()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    if not processes.have_tool("qemu-system-x86_64"):
        pytest.skip("QEMU is not installed")
    running = []

    def begin(*options: str) -> tuple[int, Path]:
        monitor = tmp_path / f"qmp{len(running)}"
        argv = ["qemu-system-x86_64", "-S", "-accel", "tcg", "-nodefaults", "-display", "none", *options]
        process = processes.start([*argv, "-qmp", f"unix:{monitor},server=on,wait=off"])
        running.append(process)
        until(lambda: _answers(monitor) or process.poll() is not None, "QEMU listens on no socket")
        assert process.poll() is None, "QEMU ended"
        return process.pid, monitor

    yield begin
    for process in running:
        processes.stop(process)


def _answers(path: Path) -> bool:
    """Whether somebody listens: the file is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as one:
        return one.connect_ex(str(path)) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_end_of_guest_ram_is_found_and_placed(layout: str, start: Start, request: pytest.FixtureRequest) -> None:
    _, size, one_block = LAYOUTS[layout]
    options = options_of(layout, request)
    pid, monitor = start(*options)
    ram = guest_map(monitor)
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
    result = answer(Request(pid=pid, qmp=monitor, secrets=[SECRET.decode()], ram_only=True))
    assert result.data is not None
    assert {hit["gpa"] for hit in result.data["hits"]} == wanted
    nothing = answer(Request(pid=pid, qmp=monitor, secrets=["never-anywhere-2604"], ram_only=True, hold=True))
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
    pid, monitor = start(*LAYOUTS[layout][0].split())
    ram = guest_map(monitor)
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


BOOT = bytes.fromhex(
    "b8 00 20 8e c0 31 db"  # mov ax, 0x2000; mov es, ax; xor bx, bx
    "b8 08 02 b9 02 00 b2 80 b6 00 cd 13"  # 8 sectors from the second on, of the first disk, to 0x20000 (INT 13h)
    "b8 58 0e cd 10"  # print X
    "f4 eb fd"  # hlt, for ever
)


@pytest.fixture
def disk_daemon(tmp_path: Path) -> Iterator[Path]:
    """A vhost-user back end with a disk whose second sector holds the secret: it writes to guest RAM, QEMU does not."""
    if not processes.have_tool("qemu-storage-daemon"):
        pytest.skip("qemu-storage-daemon is not installed")
    disk, listener = tmp_path / "disk.img", tmp_path / "vhost"
    disk.write_bytes(BOOT.ljust(510, b"\0") + b"\x55\xaa" + SECRET.ljust(8 * 512, b".") + bytes(1 << 20))
    argv = ["qemu-storage-daemon", "--blockdev", f"file,node-name=disk,filename={disk}"]
    argv += ["--export", f"vhost-user-blk,id=e,node-name=disk,addr.type=unix,addr.path={listener}"]
    process = processes.start(argv)
    until(lambda: listener.exists() or process.poll() is not None, "the daemon made no socket")
    assert process.poll() is None, "the daemon ended"
    yield listener
    processes.stop(process)


@pytest.mark.parametrize("layout", ["a shared memfd", "a file in shared memory", "huge pages in a memfd"])
def test_what_a_vhost_user_back_end_reads_into_guest_ram_is_found_or_named(
    layout: str, start: Start, disk_daemon: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A real one: the firmware boots from its disk, and the boot sector reads more to memory that it never looks at."""
    said = tmp_path / "console"
    options = [*options_of(layout, request), "-chardev", f"socket,id=c,path={disk_daemon}"]
    options += ["-device", "vhost-user-blk-pci,chardev=c,bootindex=0", "-device", "isa-debugcon,iobase=0x402,chardev=d"]
    options += ["-chardev", f"file,id=d,path={said}"]
    pid, monitor = start(*options)
    qmp.execute(monitor, "cont")
    until(lambda: said.exists() and b"Booting from" in said.read_bytes(), "the firmware found no disk")
    found: list[object] = []

    def found_or_named() -> bool:
        result = answer(Request(pid=pid, qmp=monitor, secrets=[SECRET.decode()], ram_only=True))
        assert result.data is not None
        places = {hit["gpa"] for hit in result.data["hits"]}
        found[:] = [places, result.data["coverage"]]
        return 0x20000 in places or (result.exit_code == ExitCode.INCONCLUSIVE and "huge" in layout)

    until(found_or_named, lambda: str(found))  # the boot sector's read comes at some time after that line
