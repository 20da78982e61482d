"""Write a guest's RAM to a file by guest-physical address, in formats that forensic tools read.

``lime``: each stretch after a header of 32 bytes (LiME's doc/README.md, "Specification"; Volatility 3 reads it).
``padded``: the offset in the file is the guest-physical address; gaps are holes of the file (Volatility 3 reads it as a
raw layer). ``raw``: the stretches one after another, without anything between them.
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sevkit.errors import CaptureError, NoSpaceError
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.payload import Extract
from sevkit.memory.sources.base import PAGE, MemorySource, State, intersect

_BUFFER = 4 << 20
_LIME = struct.Struct("<IIQQQ")
_LIME_MAGIC, _LIME_VERSION = 0x4C694D45, 1
Progress = Callable[[int, int], None]


class Format(StrEnum):
    """The formats of extracted memory."""

    LIME = "lime"
    PADDED = "padded"
    RAW = "raw"


@dataclass(frozen=True)
class Extracted:
    """What was written, in bytes of guest RAM. ``missing_bytes`` could not be read; they are zeros in the file."""

    path: Path
    format: Format
    guest_bytes: int
    written_bytes: int
    unpopulated_bytes: int
    missing_bytes: int
    stretches: tuple[tuple[int, int], ...]  # guest-physical address, size

    def as_dict(self, origin: str, limits: list[str]) -> Extract:
        """The JSON form. ``limits``: why the file may hold data twice, or not at all, that moved meanwhile."""
        return {
            "path": str(self.path),
            "format": self.format.value,
            "guest_ram_bytes": self.guest_bytes,
            "read_bytes": self.written_bytes,
            "unpopulated_bytes": self.unpopulated_bytes,
            "missing_bytes": self.missing_bytes,
            "stretches": [{"gpa": gpa, "size": size} for gpa, size in self.stretches],
            "origin": origin,
            "limits": limits,
        }


def extract(
    source: MemorySource, guest: GuestMap, path: Path, layout: Format, *, progress: Progress | None = None
) -> Extracted:
    """Write the RAM of ``guest`` to ``path`` (mode 0600, must not exist).

    Memory that was never populated, or cannot be read, is zeros in the file, and counted. Raises NoSpaceError or
    CaptureError; then the file is removed.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise CaptureError(f"{path} exists", hint="choose another name, or remove it") from error
    except OSError as error:
        raise CaptureError(f"cannot write {path}: {error.strerror}") from error
    try:
        counts = _write(source, guest, descriptor, layout, progress)
        source.check()
    except OSError as error:
        path.unlink(missing_ok=True)
        raise NoSpaceError(f"cannot write {path}: {error.strerror}", hint="choose a larger disk") from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    written, unpopulated = counts
    stretches = tuple((block.gpa, block.size) for block in guest.blocks)
    missing = guest.size - written - unpopulated
    return Extracted(path, layout, guest.size, written, unpopulated, missing, stretches)


def _write(
    source: MemorySource, guest: GuestMap, descriptor: int, layout: Format, progress: Progress | None
) -> tuple[int, int]:
    """Write all blocks; returns (bytes read, bytes never populated)."""
    at = written = unpopulated = 0
    view = memoryview(bytearray(_BUFFER))
    for block in guest.blocks:
        if layout is Format.LIME:
            header = _LIME.pack(_LIME_MAGIC, _LIME_VERSION, block.gpa, block.gpa + block.size - 1, 0)
            os.pwrite(descriptor, header, at)
            at += len(header)
        place = block.gpa if layout is Format.PADDED else at
        if block.host_address is not None:
            for offset, data in _pieces(source, block.host_address, block.size, view):
                _pwrite(descriptor, data, place + offset)
                written += len(data)
                if progress is not None:
                    progress(written, guest.size)
            unpopulated += _unpopulated(source, block.host_address, block.size)
        at += block.size
        os.ftruncate(descriptor, max(os.fstat(descriptor).st_size, place + block.size))
    return written, unpopulated


def _pieces(source: MemorySource, base: int, size: int, view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The readable parts of a block, as (offset, bytes)."""
    for stretch in intersect(source.stretches(), [(base, base + size)]):
        at = stretch.start
        while stretch.state == State.DATA and at < stretch.end:
            wanted = min(len(view), stretch.end - at)
            got = source.readinto(at, view[:wanted])
            if got:
                yield at - base, view[:got]
            at += got
            if got < wanted:  # skip the page that cannot be read
                at = (at & ~(PAGE - 1)) + PAGE


def _unpopulated(source: MemorySource, base: int, size: int) -> int:
    parts = intersect(source.stretches(), [(base, base + size)])
    return sum(part.size for part in parts if part.state == State.UNPOPULATED)


def _pwrite(descriptor: int, data: memoryview, offset: int) -> None:
    while data:
        done = os.pwrite(descriptor, data, offset)
        data, offset = data[done:], offset + done
