"""Find out which pages of a process were populated; the others need not be read.

/proc/PID/pagemap has 8 bytes per page: bit 63 present, bit 62 in swap (kernel, admin-guide/mm/pagemap). Since Linux 6.7
the ioctl PAGEMAP_SCAN returns ranges instead. It is much faster for sparse mappings, and recognises the shared zero
page: a page that was read but never written (gcore, for example, reads all of guest RAM) holds zeros and is not
populated. A page of a shared or file mapping can hold data without being in this process's page tables; for these the
file is queried (lseek SEEK_DATA).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from sevkit.memory.sources.base import PAGE, normalise, page_up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sevkit.memory.sources.base import Range

_PAGEMAP_SCAN = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg), include/uapi/linux/fs.h
_PRESENT, _SWAPPED, _ZERO = 1 << 3, 1 << 4, 1 << 5  # PAGE_IS_PRESENT, PAGE_IS_SWAPPED, PAGE_IS_PFNZERO
_BATCH = 1 << 16  # pages of pagemap read at once: 512 KiB
_VECTOR = 4096


class _PageRegion(ctypes.Structure):
    _fields_ = (("start", ctypes.c_uint64), ("end", ctypes.c_uint64), ("categories", ctypes.c_uint64))


class _ScanArg(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "size",
            "flags",
            "start",
            "end",
            "walk_end",
            "vec",
            "vec_len",
            "max_pages",
            "category_inverted",
            "category_mask",
            "category_anyof_mask",
            "return_mask",
        )
    )


class PageMap:
    """The page map of ``[start, end)`` of one process, kept open. ``ranges``: whether the kernel has PAGEMAP_SCAN."""

    def __init__(self, pid: int, start: int, end: int) -> None:
        self._fd = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self.ranges = True
        try:
            # With more ranges than its own buffer holds (512) the kernel may report a `walk_end` that is too low; the
            # next call then returns some ranges again. Sorting and merging removes these duplicates.
            found = normalise(self._scan(start, end))
            self._starts, self._ends = [low for low, _ in found], [high for _, high in found]
        except OSError:  # ENOTTY before Linux 6.7; EINVAL or EPERM where it is filtered
            self.ranges = False

    def populated(self, start: int, end: int) -> list[Range]:
        """The populated parts of ``[start, end)``; with ``ranges``, as they were when this was opened."""
        if not self.ranges:
            return list(_merge(self._read(start, end)))
        first, last = bisect_right(self._ends, start), bisect_left(self._starts, end)
        pairs = zip(self._starts[first:last], self._ends[first:last], strict=True)
        return [(max(low, start), min(high, end)) for low, high in pairs]

    def _scan(self, start: int, end: int) -> Iterator[Range]:
        vector = (_PageRegion * _VECTOR)()
        argument = _ScanArg(
            size=ctypes.sizeof(_ScanArg),
            end=end,
            vec=ctypes.addressof(vector),
            vec_len=_VECTOR,
            category_inverted=_ZERO,
            category_mask=_ZERO,
            category_anyof_mask=_PRESENT | _SWAPPED,
            return_mask=_PRESENT,
        )
        while start < end:
            argument.start = start
            count = fcntl.ioctl(self._fd, _PAGEMAP_SCAN, argument)
            for index in range(count):
                yield vector[index].start, vector[index].end
            if argument.walk_end <= start:
                return
            start = argument.walk_end

    def _read(self, start: int, end: int) -> Iterator[Range]:
        import numpy as np

        for first in range(start, end, _BATCH * PAGE):
            pages = min(_BATCH, (end - first) // PAGE)
            raw = os.pread(self._fd, pages * 8, first // PAGE * 8)
            entries: np.ndarray[Any, Any] = np.frombuffer(raw, dtype="<u8") >> np.uint64(62)
            edges = np.flatnonzero(np.diff(np.concatenate(([0], (entries != 0).astype(np.int8), [0]))))
            for low, high in edges.reshape(-1, 2).tolist():
                yield first + low * PAGE, first + high * PAGE

    def close(self) -> None:
        """Close the page map."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _merge(ranges: Iterator[Range]) -> Iterator[Range]:
    held: Range | None = None
    for start, end in ranges:
        if held and start == held[1]:
            held = (held[0], end)
        else:
            if held:
                yield held
            held = (start, end)
    if held:
        yield held


def data_extents(descriptor: int, offset: int, size: int) -> list[Range]:
    """The parts of ``[offset, offset + size)`` of a file that hold data, as file offsets; the rest is holes."""
    found: list[Range] = []
    at, end = offset, offset + size
    while at < end:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data from here on
                break
            return [(offset, end)]  # the file system does not support SEEK_DATA
        if start >= end:
            break
        stop = min(os.lseek(descriptor, start, os.SEEK_HOLE), end)
        if start < stop:
            found.append((start & ~(PAGE - 1), min(page_up(stop), end)))
        at = max(stop, start + 1)
    return found
