"""Shared memory of a process looked at in place, where it cannot shrink under us.

Guest RAM is often a memfd. It can be mapped a second time, which is quicker than having the kernel copy it. But reading
a page beyond the end of a file kills the process (SIGBUS), so that only what is sealed against shrinking (fcntl(2),
F_SEAL_SHRINK; QEMU's memory-backend-memfd does that) may be mapped.
"""

import contextlib
import fcntl
import mmap
import os
from bisect import bisect_right

from sevkit.memory.source import Range, Region

WINDOW = 16 << 20  # bytes mapped at once by each thread: they count as our memory meanwhile


def cannot_shrink(descriptor: int) -> bool:
    """Whether an open file can be mapped without fear."""
    with contextlib.suppress(OSError):
        return bool(fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    return False  # not a memfd


class Sealed:
    """The sealed mappings of a process, each with an open descriptor of the memory behind it."""

    def __init__(self) -> None:
        self._regions: list[tuple[Region, int]] = []  # in order of address

    def add(self, region: Region, descriptor: int) -> None:
        """Remember a mapping, in order of address; the descriptor stays the caller's."""
        self._regions.append((region, os.dup(descriptor)))

    def chunk(self, run: Range) -> int | None:
        """The size in which a run of addresses is best searched, if it can be mapped."""
        return WINDOW if self._holding(*run) else None

    def window(self, address: int, size: int) -> tuple[mmap.mmap, int] | None:
        """A mapping that holds ``[address, address + size)``, and where in it that begins; None where there is none.

        It goes with the last view of it.
        """
        found = self._holding(address, address + size)
        if found is None:
            return None
        region, descriptor = found
        offset = region.offset + address - region.start
        into = offset % mmap.ALLOCATIONGRANULARITY
        try:
            # A private mapping, never written to: ctypes takes addresses of writable buffers only.
            return mmap.mmap(descriptor, into + size, access=mmap.ACCESS_COPY, offset=offset - into), into
        except (OSError, ValueError):
            return None

    def _holding(self, start: int, end: int) -> tuple[Region, int] | None:
        index = bisect_right(self._regions, start, key=lambda entry: entry[0].start) - 1
        if index >= 0 and end <= self._regions[index][0].end:
            return self._regions[index]
        return None

    def close(self) -> None:
        """Close the descriptors."""
        for _, descriptor in self._regions:
            os.close(descriptor)
        self._regions = []
