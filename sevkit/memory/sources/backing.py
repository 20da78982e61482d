"""The files behind the shared memory of a process: they say where there is data, and can be read in its place.

Guest RAM is often a memfd. To read that is quicker than to copy out of the process, since the kernel need not look up
and hold each page first. (Mapping it a second time is no quicker, and where it shrinks meanwhile it kills us.)
"""

from __future__ import annotations

import os
from bisect import bisect_right
from typing import TYPE_CHECKING

from sevkit.memory.sources.base import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sevkit.memory.sources.base import Region
    from sevkit.memory.sources.mappings import Mapping

_LARGE = 1 << 20  # bytes from which on a mapping is worth an open file
_MOST = 64  # files kept open: a process may have thousands of mappings, and we a limit of 1024


class Backing:
    """Open files behind mappings of process ``pid``, in order of address."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._files: list[tuple[Region, int]] = []

    def open(self, mapping: Mapping) -> int | None:
        """The very file behind a mapping: by map_files (needs a capability), else by the process's own descriptors."""
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
        """Read this mapping by that file from now on, if worth it; the descriptor is ours. Mappings come in order."""
        if region.size >= _LARGE and len(self._files) < _MOST:
            self._files.append((region, descriptor))
        else:
            os.close(descriptor)

    def place(self, start: int, end: int) -> Place | None:
        """Where ``[start, end)`` is to be read: by a file, or, where none is kept, in the process; None: in both."""
        index = bisect_right(self._files, start, key=lambda entry: entry[0].start) - 1
        if index >= 0 and start < (region := self._files[index][0]).end:
            return Place(region.offset + start - region.start, self._files[index][1]) if end <= region.end else None
        if index + 1 < len(self._files) and end > self._files[index + 1][0].start:
            return None
        return Place(start, -self._pid)

    def close(self) -> None:
        """Close the files."""
        for _, descriptor in self._files:
            os.close(descriptor)
        self._files = []


def _device(number: int) -> str:
    return f"{os.major(number):02x}:{os.minor(number):02x}"
