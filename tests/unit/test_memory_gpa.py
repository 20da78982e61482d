"""Where guest memory lies: QEMU's answers, the guesses, and the arithmetic both ways."""

from hypothesis import given
from hypothesis import strategies as st

from sevkit.memory.guest_ram.layout import GIB, GuestMap, GuestRange, guess, guess_largest, ram_size, split
from sevkit.memory.guest_ram.qemu_layout import ask, guest_ranges, parse_flat_view, parse_ramblocks
from sevkit.memory.sources.base import Region

# As QEMU 7.2 and 10.0 print them, shortened.
RAMBLOCK_7 = """\
              Block Name    PSize              Offset               Used              Total
                    ram0    4 KiB  0x0000000000000000 0x0000000140000000 0x0000000140000000
                 pc.bios    4 KiB  0x0000000140000000 0x0000000000040000 0x0000000000040000
"""
RAMBLOCK_10 = """\
              Block Name    PSize              Offset               Used              Total                HVA  RO
                    ram0    4 KiB  0x0000000000000000 0x0000000140000000 0x0000000140000000 0x00007f0000000000  rw
                 pc.bios    4 KiB  0x0000000140000000 0x0000000000040000 0x0000000000040000 0x00007e0000000000  ro
"""
MTREE = """\
FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): ram0 KVM
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000dffff (prio 0, rom): ram0 @00000000000c0000 KVM
  00000000000e0000-00000000bfffffff (prio 0, ram): ram0 @00000000000e0000 KVM
  00000000fd000000-00000000fdffffff (prio 1, ram): vga.vram
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000017fffffff (prio 0, ram): ram0 @00000000c0000000 KVM
"""
EXPECTED = [
    GuestRange("ram0", 0, 0xC0000000, 0x7F0000000000),
    GuestRange("ram0", 4 * GIB, 0x80000000, 0x7F00C0000000),
]


def test_guest_ram_is_read_from_the_flat_view_without_video_memory_and_firmware() -> None:
    assert guest_ranges(RAMBLOCK_10, MTREE, ["ram0"]) == EXPECTED


def test_older_qemu_is_asked_for_each_host_address() -> None:
    asked = []

    def execute(command: str, arguments: dict[str, str]) -> object:
        line = arguments.get("command-line", command)
        asked.append(line)
        if line.startswith("gpa2hva"):
            gpa = int(line.split()[1], 16)
            host = 0x7F0000000000 + (gpa if gpa < 4 * GIB else gpa - 4 * GIB + 0xC0000000)
            return f"Host virtual address for {gpa:#x} (ram0) is {host:#x}\r\n"
        return {"info ramblock": RAMBLOCK_7, "info mtree -f": MTREE, "query-memdev": [{"id": "ram0"}]}[line]

    assert list(ask(execute).blocks) == EXPECTED
    assert any(line.startswith("gpa2hva") for line in asked)


def test_words_that_are_not_understood_give_no_memory_rather_than_an_error() -> None:
    assert parse_ramblocks("nonsense\n\n") == []
    assert parse_flat_view('FlatView #0\n AS "memory"\n  garbage') == []
    assert guest_ranges("", MTREE, ["ram0"])[0].host_address is None


def test_a_block_named_by_its_path_is_the_same_block() -> None:
    blocks = RAMBLOCK_10.replace("                    ram0", "           /objects/ram0")
    assert guest_ranges(blocks, MTREE.replace(": ram0", ": /objects/ram0"), ["ram0"]) == EXPECTED


@given(st.integers(1, 64).map(lambda n: n * (GIB // 2)), st.sampled_from(["pc", "q35", "pc-i440fx-7.2", "pc-q35-9.1"]))
def test_the_split_covers_all_ram_once_and_keeps_clear_of_the_hole(ram: int, machine: str) -> None:
    parts = split(ram, machine)
    assert sum(size for _, _, size in parts) == ram
    assert parts[0][:2] == (0, 0)
    for gpa, offset, size in parts[1:]:
        assert (gpa, offset) == (4 * GIB, parts[0][2])
        assert size > 0
    assert parts[0][2] <= 0xE0000000


def test_host_and_guest_addresses_are_each_others_inverse() -> None:
    guest = GuestMap(EXPECTED)
    for gpa in (0, 0xBFFFFFFF, 4 * GIB, 4 * GIB + 0x7FFFFFFF):
        host = guest.host(gpa)
        assert host is not None
        place = guest.place(host)
        assert place is not None
        assert place.gpa == gpa
    assert guest.host(0xC0000000) is None
    assert guest.place(0x7F0000000000 - 1) is None
    assert guest.place(0x7F0000000000 + 5 * GIB) is None


def test_ram_that_the_vmm_does_not_map_has_no_host_address() -> None:
    guest = GuestMap([GuestRange("private", 0, GIB, None)])
    assert guest.host(4096) is None
    assert guest.host_ranges() == []
    assert guest.size == GIB


def test_sizes_on_qemus_command_line() -> None:
    for words, size in (("512", 512 << 20), ("2G", 2 << 30), ("size=1g,maxmem=4g", 1 << 30), ("65536K", 64 << 20)):
        assert ram_size(["qemu-system-x86_64", "-m", words]) == size
    assert ram_size(["qemu-system-x86_64"]) is None
    assert ram_size(["x", "-m", "lots"]) is None


def test_a_mapping_of_the_size_of_guest_ram_is_a_guess_and_two_are_none() -> None:
    ram = Region(0x7F0000000000, 0x7F0000000000 + GIB, "", "rw-p")
    other = Region(0x10000, 0x90000, "[heap]", "rw-p")
    line = ["qemu-system-x86_64", "-machine", "q35", "-m", "1G"]
    found = guess([other, ram], line)
    assert found is not None
    assert found.origin == "guess"
    assert found.host_ranges() == [(ram.start, ram.end)]
    twin = Region(0x7E0000000000, 0x7E0000000000 + GIB, "", "rw-p")
    assert guess([twin, ram], line) is None
    named = Region(twin.start, twin.end, "/memfd:memory-backend-memfd (deleted)", "rw-s")
    chosen = guess([named, ram], line)
    assert chosen is not None
    assert chosen.host_ranges() == [(twin.start, twin.end)]
    halves = [Region(ram.start, ram.start + 4096, "", "rw-p"), Region(ram.start + 4096, ram.end, "", "rw-p")]
    joined = guess(halves, line)
    assert joined is not None
    assert joined.size == GIB


def test_the_largest_region_of_a_core_must_stand_out() -> None:
    big, small = Region(0, 64 << 20), Region(1 << 40, (1 << 40) + (8 << 20))
    found = guess_largest([big, small])
    assert found is not None
    assert found.size == 64 << 20
    assert guess_largest([big, Region(1 << 40, (1 << 40) + (60 << 20))]) is None
    assert guess_largest([small]) is None
    assert guess_largest([]) is None
