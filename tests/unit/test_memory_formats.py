"""Files with memory in them, other than plain ELF cores: read, or named with the way on."""

import bz2
import gzip
import lzma
import struct
from pathlib import Path

import pytest
import zstandard

from sevkit.errors import BadInputError
from sevkit.memory.sources.core import CoreMemory
from tests.unit.elf import Load, core, note

SECRET = b"needle-secret-1234"
PAGE = SECRET.ljust(4096, b"\0")


def lime(*ranges: tuple[int, bytes], version: int = 1) -> bytes:
    return b"".join(struct.pack("<4sIQQQ", b"EMiL", version, at, at + len(data) - 1, 0) + data for at, data in ranges)


def opened(folder: Path, data: bytes, name: str = "core") -> CoreMemory:
    (folder / name).write_bytes(data)
    return CoreMemory(folder / name)


def test_lime(tmp_path: Path) -> None:
    with opened(tmp_path, lime((0x1000, bytes(4096)), (0x100000, PAGE))) as memory:
        assert memory.physical
        assert [(r.start, r.size) for r in memory.regions()] == [(0x1000, 4096), (0x100000, 4096)]
        assert memory.read(0x100000, 18) == SECRET
        assert not memory.partial


def test_lime_that_is_cut_off_is_counted(tmp_path: Path) -> None:
    with opened(tmp_path, lime((0, PAGE * 2))[:-4096]) as memory:
        assert [s.size for s in memory.stretches() if s.reason] == [4096]


@pytest.mark.parametrize("suffix", ["raw", "mem", "vmem", "padded", "dd"])
def test_raw_images_are_taken_by_their_name(tmp_path: Path, suffix: str) -> None:
    with opened(tmp_path, bytes(4096) + PAGE, f"guest.{suffix}") as memory:
        assert memory.read(4096, 18) == SECRET


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress], ids=["gzip", "bzip2", "xz", "zstd"]
)
@pytest.mark.parametrize("make", [lambda: core([Load(0x1000, PAGE)]), lambda: lime((0x1000, PAGE + bytes(1 << 20)))])
def test_compressed_files_are_read(tmp_path: Path, pack: object, make: object) -> None:
    data = pack(make())  # type: ignore[operator]
    with opened(tmp_path, data) as memory:
        assert memory.read(0x1000, 18) == SECRET
    assert list(tmp_path.iterdir()) == [tmp_path / "core"]
    with pytest.raises(BadInputError, match="damaged or cut off"):
        opened(tmp_path, data[:-5])
    with pytest.raises(BadInputError, match="not an ELF file"):
        opened(tmp_path, pack(b"no memory at all"))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"LibvirtQemudSave" + bytes(64), "a guest saved by libvirt"),
        (b"LibvirtQemudPart" + bytes(64), "did not finish"),
        (b"QEVM\0\0\0\3" + bytes(64), "a migration stream of QEMU"),
        (b"AVML\2\0\0\0" + bytes(64), "compressed by AVML"),
        (b"KDUMP   " + bytes(64), "kdump-compressed"),
        (b"QFI\xfb" + bytes(64), "a qcow2 image"),
        (b"\xd2\xbe\xd2\xbe" + bytes(64), "a suspended guest of VMware"),
        (b"\x7fVirtualBox SavedState V2.0" + bytes(64), "saved by VirtualBox"),
        (b"LibxlFmt" + bytes(64), "saved by Xen"),
        (b"HIBR" + bytes(64), "hibernation file"),
        (b"PK\x03\x04" + bytes(64), "zip archive"),
        (b"core".ljust(257, b"\0") + b"ustar" + bytes(300), "tar archive"),
        (b"BZh9" + bytes(64), "damaged or cut off"),
        (lime((0, PAGE), version=2), "LiME file of version 2"),
        (lime((0, PAGE)) + b"more", "damaged at byte 4128"),
        (struct.pack("<4sIQQQ", b"EMiL", 1, 4096, 0, 0), "ends before it begins"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        opened(tmp_path, data)
    with pytest.raises(BadInputError):
        opened(tmp_path, data, "x.raw")


def guest_note(cr3: int, cr0: int = 0x80000001) -> bytes:
    state = bytearray(440)
    struct.pack_into("<II", state, 0, 1, 440)
    struct.pack_into("<Q", state, 392, cr0)
    struct.pack_into("<Q", state, 416, cr3)
    return note(b"QEMU", 0, bytes(state))


@pytest.mark.parametrize(
    ("start", "cr3", "words"),
    [
        (0, 0x2000, ""),
        (0, 0x2018, ""),  # flags in the low bits
        (0, 0x40000000, "the page tables that a CPU uses"),
        (0x40000000, 0x40000000, "guest memory below 0x40000000 is not in the file"),
    ],
)
def test_a_dump_of_a_part_of_the_memory_is_known_as_one(tmp_path: Path, start: int, cr3: int, words: str) -> None:
    load = Load(0, PAGE * 4, physical=start)
    with opened(tmp_path, core([load], guest_note(cr3))) as memory:
        assert memory.partial.startswith(words)
        assert bool(memory.partial) == bool(words)
    with opened(tmp_path, core([load], guest_note(cr3, cr0=1))) as memory:
        assert bool(memory.partial) == (start > 0)


def test_not_found_in_a_part_of_the_memory_is_inconclusive(tmp_path: Path) -> None:
    from sevkit.memory.search.request import Request, answer

    (tmp_path / "core").write_bytes(core([Load(0, PAGE, physical=0x40000000)], guest_note(0x40000000)))
    found = answer(Request(core=str(tmp_path / "core"), secrets=("needle-secret-1234",)))
    missed = answer(Request(core=str(tmp_path / "core"), secrets=("something-else-9",)))
    assert (found.exit_code, missed.exit_code) == (0, 3)
