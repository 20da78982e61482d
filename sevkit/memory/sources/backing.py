"""The files behind the shared memory of a process: they tell where there is data, and can be read instead of it.

Guest RAM is often a memfd. Reading the memfd is faster than copying from the process, because the kernel need not look
up and pin each page first. (Mapping it as well is not faster, and kills us if it shrinks.)
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from sevkit.memory.sources.base import ReadOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sevkit.memory.sources.base import Region
    from sevkit.memory.sources.mappings import Mapping

_LARGE = 1 << 20  # bytes; for a smaller mapping, an open file is not worth it
_MOST = 64  # files kept open: a process may have thousands of mappings, and we may open only 1024 files


class Backing:
    """Open files behind mappings of process ``pid``, in order of address."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._files: list[tuple[Region, int]] = []

    def open(self, mapping: Mapping) -> int | None:
        """Open the file that is mapped: from map_files (needs a capability), its path, or the process's descriptors.

        A path may lead to another file by now, so device and inode are compared.
        """
        for path in self._names(mapping.region):
            try:
                status = os.stat(path)  # noqa: PTH116 - a magic link, not a path
                same = status.st_ino == mapping.inode and _device(status.st_dev) == mapping.device
                if same and status.st_mode & 0o170000 == 0o100000:  # only regular files: opening others can block
                    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
        return None

    def _names(self, region: Region) -> Iterator[str]:
        yield f"/proc/{self._pid}/map_files/{region.start:x}-{region.end:x}"
        yield region.name
        try:
            names = os.listdir(f"/proc/{self._pid}/fd")  # noqa: PTH208
        except OSError:
            return
        for name in names:
            yield f"/proc/{self._pid}/fd/{name}"

    def keep(self, region: Region, descriptor: int) -> None:
        """Read this mapping from its file from now on, if worth it. Takes the descriptor; call in order of address."""
        if region.size >= _LARGE and len(self._files) < _MOST:
            self._files.append((region, descriptor))
        else:
            os.close(descriptor)

    def place(self, start: int, end: int) -> ReadOrigin | None:
        """Where to read ``[start, end)``: from one file, or from the process if none is kept; None if it needs both."""
        index = bisect_right(self._files, start, key=lambda entry: entry[0].start) - 1
        if index >= 0 and start < (region := self._files[index][0]).end:
            return (
                ReadOrigin(region.offset + start - region.start, self._files[index][1]) if end <= region.end else None
            )
        if index + 1 < len(self._files) and end > self._files[index + 1][0].start:
            return None
        return ReadOrigin(start, -self._pid)

    def close(self) -> None:
        """Close the files."""
        for _, descriptor in self._files:
            os.close(descriptor)
        self._files = []


def _device(number: int) -> str:
    return f"{os.major(number):02x}:{os.minor(number):02x}"
