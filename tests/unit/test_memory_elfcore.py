"""The core reader: what it makes of good files, and of hostile ones."""

import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevkit import procfs
from sevkit.errors import BadInputError
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.core import BEYOND, LEFT_OUT, CoreMemory
from sevkit.memory.sources.elf import MAX_SEGMENTS, Core, parse
from tests.support.waiting import PATIENCE, until
from tests.unit.elf import Load, core, note, nt_file

Write = Callable[[bytes], Path]
FUZZ_INPUTS = int(os.environ.get("SEVKIT_FUZZ_INPUTS", "3000"))


def parsed(data: bytes) -> Core:
    descriptor = os.memfd_create("core")
    try:
        os.write(descriptor, data)
        return parse(descriptor)
    finally:
        os.close(descriptor)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(data: bytes) -> Path:
        path = tmp_path / "core"
        path.write_bytes(data)
        return path

    return make


def test_segments_are_named_after_the_files_that_were_mapped(write: Write) -> None:
    notes = nt_file([(0x10000, 0x11000, 0x3000, "/lib/x.so"), (0x40000, 0x41000, 0, "/dev/shm/ram")])
    path = write(core([Load(0x40000, b"b" * 4096), Load(0x10800, b"a" * 2048, flags=5)], notes))
    with CoreMemory(path) as memory:
        first, second = memory.regions()
        assert (first.start, first.name, first.offset, first.perms) == (0x10800, "/lib/x.so", 0x3800, "r-xp")
        assert (second.name, second.size) == ("/dev/shm/ram", 4096)
        assert memory.read(0x10800, 5000) == b"a" * 2048
        assert not memory.physical


def test_what_was_left_out_and_what_was_cut_off_is_counted_each_by_its_reason(write: Write) -> None:
    data = core([Load(0x1000, b"x" * 100, size=4096), Load(0x9000, b"y" * 1000)])
    path = write(data[:-400])
    with CoreMemory(path) as memory:
        coverage = scan(memory, [Pattern(b"y" * 600)]).coverage
        assert coverage.unreadable == {LEFT_OUT: 3996, BEYOND: 400}
        assert coverage.read_bytes == 700
        assert not coverage.complete
        assert memory.core.missing_bytes == 400
        assert memory.read(0x9000, 1000) == b"y" * 600


def test_where_segments_overlap_the_first_in_the_table_counts() -> None:
    found = parsed(core([Load(0x2000, b"b" * 0x2000), Load(0x1000, b"a" * 0x4000), Load(0x2800, b"c" * 16)]))
    assert [(s.address, s.size) for s in found.segments] == [(0x1000, 0x1000), (0x2000, 0x2000), (0x4000, 0x1000)]
    assert found.hidden_bytes == 0x2000 + 16


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.integers(0, 25)), max_size=8))
def test_overlapping_segments_read_as_if_the_first_claim_of_each_byte_won(rows: list[tuple[int, int, int]]) -> None:
    loads = [Load(at, bytes([65 + i]) * stored, size=size) for i, (at, stored, size) in enumerate(rows)]
    owner: dict[int, int | None] = {}
    for index, load in enumerate(loads):
        for offset in range(max(load.size or 0, len(load.data))):
            owner.setdefault(load.address + offset, 65 + index if offset < len(load.data) else None)
    descriptor = os.memfd_create("core")
    os.write(descriptor, core(loads))
    with CoreMemory(Path(f"/proc/self/fd/{descriptor}")) as memory:
        for at in range(100):
            byte = owner.get(at)
            assert memory.read(at, 1) == (b"" if byte is None else bytes([byte]))
        assert sum(region.size for region in memory.regions()) == len(owner)
    os.close(descriptor)


def test_more_than_65534_segments_are_counted_in_the_first_section(write: Write) -> None:
    path = write(core([Load(0x1000 * i, b"z" * 8) for i in range(70_000)], extended=True))
    with CoreMemory(path) as memory:
        assert len(memory.regions()) == 70_000
        assert memory.read(0x1000 * 69_999, 8) == b"z" * 8


def test_a_dump_of_a_guest_is_addressed_by_guest_physical_addresses(write: Write) -> None:
    path = write(core([Load(0, b"q" * 64, physical=0x100000)], note(b"QEMU", 0, b"")))
    with CoreMemory(path) as memory:
        assert memory.physical
        assert memory.read(0x100000, 4) == b"qqqq"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not an ELF"),
        (b"hello", "not an ELF"),
        (b"\x7fELF", "cut short"),
        (b"KDUMP   " + bytes(100), "kdump-compressed"),
        (b"\x28\xb5\x2f\xfd" + bytes(100), "zstd"),
        (b"\x7fELF\x07\x01" + bytes(100), "class 7"),
        (core([])[:16] + struct.pack("<H", 2) + core([])[18:], "not a core"),
        (core([Load(0, b"")])[:80], "cut short"),
        (core([])[:56] + struct.pack("<H", 0xFFFF) + core([])[58:], "not how many"),
    ],
)
def test_what_is_no_core_is_said_in_words(data: bytes, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        parsed(data)


def test_a_million_headers_are_refused_before_any_memory_is_spent() -> None:
    data = bytearray(core([Load(0, b"")], extended=True))
    data[64 + 56 + 44 : 64 + 56 + 48] = struct.pack("<I", 1_000_000)
    assert MAX_SEGMENTS < 1_000_000
    with pytest.raises(BadInputError, match="1000000 segments"):
        parsed(bytes(data))


def test_sizes_of_two_to_the_63_cost_nothing_and_are_counted(write: Write) -> None:
    load = Load(0x7000, b"needle", size=1 << 63)
    with CoreMemory(write(core([load, Load((1 << 64) - 4, b"last")]))) as memory:
        result = scan(memory, [Pattern(b"needle"), Pattern(b"last")])
        assert [hit.address for hit in result.hits] == [0x7000, (1 << 64) - 4]
        assert result.coverage.unreadable_bytes == (1 << 63) - 6
        assert memory.read(0x7000, 1 << 62) == b"needle"


def test_a_core_that_shrinks_while_it_is_read_leaves_a_counted_gap(write: Write) -> None:
    path = write(core([Load(0x1000, b"k" * 20000)]))
    with CoreMemory(path) as memory:
        os.truncate(path, 9000)
        coverage = scan(memory, [Pattern(b"kk" * 20)], max_hits=100_000).coverage
        assert coverage.read_bytes + coverage.unreadable_bytes == 20000
        assert coverage.unreadable_bytes > 10000


def test_whoever_wants_to_cut_a_core_waits_for_the_search_and_no_longer(write: Write) -> None:
    path = write(core([Load(0x1000, b"k" * 100_000 + b"the-needle-in-it")]))
    with CoreMemory(path) as memory:
        with memory.session():
            placed = memory.place(0x1000, 0x1000 + 100_016)
            assert placed is not None
            if not placed.in_place:
                pytest.skip("no lease is granted on this file system, or to this user")
            code = f"import os; print(flush=True); os.truncate({str(path)!r}, 100)"
            with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as cutter:
                assert cutter.stdout is not None
                cutter.stdout.readline()
                until(lambda: procfs.thread_state(cutter.pid, cutter.pid) == "S", "it does not wait")
                assert cutter.poll() is None
                assert path.stat().st_size > 100_000
                again = memory.place(0x1000, 0x1010)
                assert again is not None
                assert not again.in_place  # from now on we read, and let the other go on
                assert cutter.wait(PATIENCE) == 0
        result = scan(memory, [Pattern(b"the-needle-in-it")])
        assert not result.hits
        assert not result.conclusive


def test_a_search_gives_the_file_back_even_when_it_stops_early(write: Write) -> None:
    path = write(core([Load(0x1000, b"many-many-many-" * 1000)]))
    with CoreMemory(path) as memory:
        for pattern in (Pattern(b"many-many-many"), Pattern(b"m.ny", regex=True), Pattern(b"(?i)MANY", regex=True)):
            result = scan(memory, [pattern], max_hits=5)
            assert not result.finished
            assert result.stopped == "more than 5 hits"
            assert len(result.hits) == 5
        os.truncate(path, 100)  # would wait for the lease


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A damaged copy: bytes flipped, words set to extreme values, pieces cut out, doubled, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[at] = rng.randrange(256)
        elif kind == 1:
            word = rng.choice([0, 1, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 4096])
            changed[at : at + 8] = struct.pack("<Q", word)[: len(changed) - at]
        elif kind == 2:
            del changed[at : at + rng.randint(1, 64)]
        else:
            changed = changed[: max(1, rng.randrange(len(changed)))]
        if not changed:
            changed = bytearray(1)
    return bytes(changed)


def test_damaged_cores_give_a_typed_error_or_bounded_segments() -> None:
    """Seeded; SEVKIT_FUZZ_INPUTS=1000000 runs as many."""
    rng = random.Random(2023)
    seeds = [
        core([Load(0x1000, b"a" * 300), Load(0x2000, b"b" * 64, size=999)], nt_file([(0x1000, 0x2000, 0, "/x")])),
        core([Load(0x1000 * i, b"s" * 16) for i in range(20)], note(b"CORE", 1, b"x" * 50)),
        core([Load(0, b"g" * 40, physical=4096)], note(b"QEMU", 0, b"")),
        core([Load(0x5000, b"e" * 10)], extended=True),
    ]
    descriptor = os.memfd_create("fuzz")
    good = 0
    for _ in range(FUZZ_INPUTS):
        data = mutated(rng.choice(seeds), rng)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, data, 0)
        try:
            found = parse(descriptor)
        except BadInputError:
            continue
        good += 1
        end = 0
        for segment in found.segments:
            assert segment.address >= end
            assert 0 <= segment.present <= segment.stored <= segment.size
            assert segment.present == 0 or segment.offset + segment.present <= len(data)
            end = segment.address + segment.size
        assert end <= 1 << 64
    os.close(descriptor)
    assert good > FUZZ_INPUTS // 20
