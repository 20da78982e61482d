"""A core file as a source of memory."""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from sevkit.errors import BadInputError, SevkitError
from sevkit.memory.sources.base import MemorySource, ReadOrigin, Region, SourceGoneError, State, Stretch
from sevkit.memory.sources.formats import opened, window
from sevkit.memory.sources.lease import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.sources.elf import Core, MappedFile, Segment

BEYOND = "beyond the end of the file"
LEFT_OUT = "left out of the core"
HIDDEN = "in segments of the core that overlap others, or reach beyond the last address"
UNCLAIMED = "in no segment of the core"


class CoreMemory(MemorySource):
    """The memory in a file: the ELF core of a process (by gdb's gcore or the kernel), or a dump of a guest.

    Dumps are by QEMU, in LiME's format, or raw. If the file changes or shrinks meanwhile, the only harm is a gap that
    is counted: the file is mapped only during a search under a lease, and else read.
    """

    stripe = 64 << 20  # long enough that the kernel reads ahead for each thread

    def __init__(self, path: os.PathLike[str] | str) -> None:
        """Open and parse the file; raises BadInputError."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not block
        except OSError as error:
            raise BadInputError(f"cannot open {path}: {error.strerror}") from error
        try:
            if not os.path.isfile(path):  # noqa: PTH113 - a device or pipe would block or never end
                raise BadInputError("not a regular file")
            self.core: Core = opened(self._fd, str(path))
        except SevkitError as error:
            self.close()
            error.message = f"{path}: {error.message}"
            raise
        except BaseException:
            self.close()
            raise
        self.partial = window(self.core)
        self._segments = self.core.segments
        self._starts = [segment.address for segment in self._segments]
        self._regions: list[Region] | None = None
        self._lease: Lease | None = None
        self._changed = _times(self._fd)

    @property
    def title(self) -> str:
        """The file name."""
        return str(self.path)

    @property
    def physical(self) -> bool:
        """Whether addresses are guest-physical."""
        return self.core.physical

    def regions(self) -> Sequence[Region]:
        """The segments, named after the files in NT_FILE."""
        if self._regions is None:
            files = sorted(self.core.files, key=lambda file: file.start)
            self._regions = [_region(segment, files) for segment in self._segments]
        return self._regions

    def stretches(self) -> Sequence[Stretch]:
        """Up to three stretches per segment: stored in the file, cut off at its end, and left out of the core."""
        found = []
        for segment in self._segments:
            stored, present = segment.address + segment.stored, segment.address + segment.present
            end = segment.address + segment.size
            parts = (
                Stretch(segment.address, present),
                Stretch(present, stored, State.UNREADABLE, BEYOND),
                Stretch(stored, end, State.UNREADABLE, LEFT_OUT),
            )
            found += [part for part in parts if part.size]
        return found

    def unlisted(self) -> dict[str, int]:
        """Bytes of the file that are in no segment, or in a segment that overlaps another one."""
        found = {HIDDEN: self.core.hidden_bytes, UNCLAIMED: self.core.unclaimed_bytes}
        return {reason: size for reason, size in found.items() if size}

    def limits(self) -> list[str]:
        """A core contains only what its writer could read."""
        return [
            "a core holds zeros for what its writer could not read, and does not say so: `scan --pid` sees the process"
        ]

    def readinto(self, address: int, target: memoryview) -> int:
        """Read from the file, also across segments with consecutive addresses."""
        done = 0
        index = bisect_right(self._starts, address) - 1
        while done < len(target) and 0 <= index < len(self._segments):
            segment = self._segments[index]
            skip = address + done - segment.address
            length = min(segment.present - skip, len(target) - done)
            if skip < 0 or length <= 0:
                break
            got = self._pread(target[done : done + length], segment.offset + skip)
            done += got
            if got < length or segment.present < segment.size:
                break
            index += 1
        return done

    def session(self) -> Lease:
        """A lease on the file: until it ends, or a writer wants the file, the file may be mapped."""
        self._lease = Lease(self._fd)
        return self._lease

    def place(self, start: int, end: int) -> ReadOrigin | None:
        """The place of ``[start, end)`` in the file; None unless it is inside one segment."""
        index = bisect_right(self._starts, start) - 1
        if index < 0 or end - (segment := self._segments[index]).address > segment.present:
            return None
        in_place = self._lease is not None and self._lease.holds()
        return ReadOrigin(segment.offset + start - segment.address, self._fd, in_place)

    def _pread(self, target: memoryview, offset: int) -> int:
        done = 0
        while done < len(target):
            try:
                got = os.preadv(self._fd, [target[done:]], offset + done)
            except OSError:
                return done  # a bad disk block, or an offset that the system cannot express
            if not got:
                break
            done += got
        return done

    def read(self, address: int, size: int) -> bytes:
        """The bytes at ``address``: fewer than ``size`` where some are missing."""
        buffer = bytearray(min(size, self._reach(address)))
        return bytes(buffer[: self.readinto(address, memoryview(buffer))])

    def _reach(self, address: int) -> int:
        """An upper bound of what can be read from ``address`` on."""
        index = bisect_right(self._starts, address) - 1
        reach = 0
        while 0 <= index < len(self._segments):
            segment = self._segments[index]
            if segment.address > address + reach:
                break
            reach = segment.address + segment.present - address
            index += 1
        return max(0, reach)

    def check(self) -> None:
        """Raise SourceGoneError if the file was written to meanwhile, such as by a gcore that has not finished."""
        if _times(self._fd) != self._changed:
            raise SourceGoneError(f"{self.path} changed while it was read")

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _times(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_mtime_ns, status.st_size


def _region(segment: Segment, files: Sequence[MappedFile]) -> Region:
    index = bisect_right(files, segment.address, key=lambda file: file.start) - 1
    name, offset = "", 0
    if index >= 0 and segment.address < files[index].end:
        name, offset = files[index].path, files[index].offset + segment.address - files[index].start
    why = "" if segment.present else (BEYOND if segment.stored else LEFT_OUT)
    return Region(
        segment.address, segment.address + segment.size, name, segment.perms + "p", offset, bool(segment.present), why
    )
