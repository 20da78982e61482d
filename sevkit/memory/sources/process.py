"""The memory of a running process, read directly: without a core file, without a debugger.

Shared memory is read from the file behind it (backing.py), other memory with process_vm_readv(2). Pages that this call
refuses (PROT_NONE) are read through /proc/PID/mem, which ignores page permissions. Page-aligned buffers matter: the
kernel copies into them twice as fast.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING

from sevkit import procfs
from sevkit.errors import NotPermittedError
from sevkit.memory.sources import activity
from sevkit.memory.sources.backing import Backing
from sevkit.memory.sources.base import PAGE, MemorySource, SourceGoneError, State, Stretch, normalise, page_up
from sevkit.memory.sources.mappings import read_mappings
from sevkit.memory.sources.pagemap import PageMap, data_extents
from sevkit.procfs import ptrace_hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.sources.base import Range, ReadOrigin, Region
    from sevkit.memory.sources.mappings import Mapping

NEVER = "never populated"
BEYOND_FILE = "beyond the end of the mapped file"
HUGE_ELSEWHERE = "huge pages that other processes may have filled"
_libc = ctypes.CDLL(None, use_errno=True)


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_readv.argtypes = (
    ctypes.c_int,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.POINTER(_Iovec),
    ctypes.c_ulong,
    ctypes.c_ulong,
)


class LiveMemory(MemorySource):
    """The memory of process ``pid``; with ``stop`` the process is stopped until this is closed.

    The list of mappings is read once, on opening. Raises SourceGoneError or NotPermittedError.
    """

    def __init__(self, pid: int, *, stop: bool = False) -> None:
        self.pid = pid
        self._held = None
        self._mem = -1
        self._by_file = False
        self._pagemap: PageMap | None = None
        self._backing = Backing(pid)
        self._ran = activity.ran(pid)
        self._others: dict[int, dict[int, str] | None] = {}  # other processes that can write to this memory
        self._started = procfs.process_start_time(pid)
        if self._started is None:
            raise SourceGoneError(f"there is no process {pid}")
        try:
            if stop:
                from sevkit.memory.sources.hold import Held

                self._held = Held(pid)
            self._mappings = read_mappings(pid)
            if stop:  # else it runs itself, and to look at all processes would take longer than many a search
                files = {mapping.file for mapping in self._shared(None)}
                self._others = {other: activity.ran(other) for other in activity.writers(pid, files)}
            self._mem = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            self._pagemap = PageMap(pid, self._mappings[0].region.start, self._mappings[-1].region.end)
            if not self._pagemap.ranges:  # smaps shows unused mappings: the slow page map need not be read for them
                self._mappings = read_mappings(pid, flags=True)
        except OSError as error:
            self.close()
            raise self._refused(error) from error
        except BaseException:
            self.close()
            raise
        self._regions = [mapping.region for mapping in self._mappings]
        # Programs and libraries: only their pages in memory are searched; the rest of the file is not process memory.
        self._programs = {m.file for m in self._mappings if "x" in m.region.perms and not m.anonymous}
        self._stretches: list[Stretch] | None = None

    def _refused(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOENT, errno.ESRCH):
            return SourceGoneError(f"process {self.pid} ended")
        return NotPermittedError(f"not permitted to read process {self.pid}", hint=ptrace_hint(self.pid))

    @property
    def title(self) -> str:
        """``process 123``."""
        return f"process {self.pid}"

    def regions(self) -> Sequence[Region]:
        """The mappings, without the kernel's own pages ([vvar], [vsyscall])."""
        return self._regions

    def mappings(self) -> Sequence[Mapping]:
        """The mappings, with their files and flags."""
        return self._mappings

    def stretches(self) -> Sequence[Stretch]:
        """Which pages hold data, from the page map and from the files behind mappings."""
        if self._stretches is None:
            self._stretches = [part for mapping in self._mappings for part in self._tile(mapping)]
        return self._stretches

    def newer(self) -> Sequence[Stretch] | None:
        """Look at the process again: it may have mapped more, or written to more pages. None if it is held still."""
        if self._held is not None:
            return None
        with LiveMemory(self.pid) as now:
            return now.stretches()

    def moved(self, within: Sequence[Range] | None = None) -> list[str]:
        """What moves from memory that was not searched yet to memory that was is never seen."""
        found = []
        if self._held is None and (self._ran is None or activity.ran(self.pid) != self._ran):
            found.append(
                f"process {self.pid} ran during the search, so data may have moved: `--hold` stops it meanwhile"
            )
        others = activity.writers(self.pid, {mapping.file for mapping in self._shared(within)})
        return found + [
            f"process {other} can write to memory that was searched, and was not stopped"
            for other in others
            if self._others.get(other) is None or activity.ran(other) != self._others[other]
        ]

    def limits(self) -> list[str]:
        """Writers of shared memory need not map it."""
        if not self._shared(None):
            return []
        return ["processes that hold a file of shared memory open may have written to it, and so may devices"]

    def _shared(self, within: Sequence[Range] | None) -> list[Mapping]:
        """Shared memory that can be written to: files that are not programs."""
        shared = [m for m in self._mappings if m.shared and "w" in m.region.perms and not m.anonymous]
        if within is None:
            return shared
        return [m for m in shared if any(low < m.region.end and m.region.start < high for low, high in within)]

    def _tile(self, mapping: Mapping) -> list[Stretch]:
        region = mapping.region
        if not region.readable:
            return [Stretch(region.start, region.end, State.UNREADABLE, region.why)]
        if mapping.huge:
            return self._tile_huge(mapping)
        if mapping.anonymous or (not mapping.shared and mapping.file in self._programs):
            return _tiling(region.start, region.end, self._populated(mapping))
        descriptor = self._backing.open(mapping)
        if descriptor is None:
            return [Stretch(region.start, region.end)]  # the file cannot be opened to find its holes: read everything
        try:
            size = min(region.size, max(0, os.fstat(descriptor).st_size - region.offset))
            end = region.start + min(region.size, page_up(size))
            tiles = _tiling(region.start, end, self._with_data(mapping, descriptor, end))
        except BaseException:
            os.close(descriptor)
            raise
        if mapping.shared:
            self._backing.keep(region, descriptor)
        else:
            os.close(descriptor)
        return tiles if end == region.end else [*tiles, Stretch(end, region.end, State.UNREADABLE, BEYOND_FILE)]

    def _tile_huge(self, mapping: Mapping) -> list[Stretch]:
        """Huge pages of a file: the file system tells how much data there is, but not where (no SEEK_DATA).

        Reading a page that was never written would allocate it from the pool of huge pages. So only pages in the page
        tables are searched. If the file holds more data than these (another process wrote to it), the other pages are
        reported as unreadable. ``held``: bytes of data in the file; ``shown``: those of them in our page tables.
        """
        region = mapping.region
        known = self._in_page_tables(region.start, region.end)
        descriptor = self._backing.open(mapping)
        held = 0 if mapping.nameless else None
        if descriptor is not None:
            held = os.fstat(descriptor).st_blocks * 512
            os.close(descriptor)
        same = [other for other in self._mappings if other.file == mapping.file]
        shown = sum(high - low for low, high in known) if mapping.shared and len(same) == 1 else 0
        tiles = _tiling(region.start, region.end, known)
        if held is not None and held <= shown:
            return tiles
        return [
            part._replace(state=State.UNREADABLE, reason=HUGE_ELSEWHERE) if part.state == State.UNPOPULATED else part
            for part in tiles
        ]

    def _populated(self, mapping: Mapping) -> list[Range]:
        if not mapping.used and not mapping.huge:
            return []
        return self._in_page_tables(mapping.region.start, mapping.region.end)

    def _in_page_tables(self, start: int, end: int) -> list[Range]:
        assert self._pagemap is not None
        try:
            return self._pagemap.populated(start, end)
        except OSError as error:
            raise self._refused(error) from error

    def _with_data(self, mapping: Mapping, descriptor: int, end: int) -> list[Range]:
        """The addresses at which the file behind a mapping has data, or the process has private copies of its pages."""
        assert self._pagemap is not None
        region = mapping.region
        # Pages in the page table hold data. If PAGEMAP_SCAN is available, query the file (SEEK_DATA) only for the gaps
        # between them. `shift` translates: address = file offset + shift.
        known = [] if mapping.shared and not self._pagemap.ranges else self._in_page_tables(region.start, end)
        shift = region.start - region.offset
        gaps = zip([region.start, *(high for _, high in known)], [*(low for low, _ in known), end], strict=True)
        data = [data_extents(descriptor, low - shift, high - low) for low, high in gaps if low < high]
        return normalise([*known, *((low + shift, high + shift) for part in data for low, high in part)])

    def place(self, start: int, end: int) -> ReadOrigin | None:
        """Where to read ``[start, end)``: from the file behind it, or from the process."""
        place = self._backing.place(start, end)
        return None if place and place.origin < 0 and self._by_file else place

    def readinto(self, address: int, target: memoryview) -> int:
        """Read until the first byte that cannot be read."""
        done = 0
        base = ctypes.addressof(ctypes.c_char.from_buffer(target)) if len(target) else 0
        while done < len(target):
            if self._by_file:
                got = self._force(address + done, target[done:])
                if got <= 0:
                    break
                done += got
                continue
            local = _Iovec(base + done, len(target) - done)
            remote = _Iovec(address + done, len(target) - done)
            got = _readv(self.pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
            if got > 0:
                done += got
                continue
            code = ctypes.get_errno()
            if code == errno.ESRCH:
                raise self._refused(OSError(code, ""))
            if code in (errno.EPERM, errno.ENOSYS):
                # /proc/PID/mem is open, so we do have permission: a seccomp profile blocks the call (Docker's does).
                self._by_file = True
                continue
            page = min(PAGE - (address + done) % PAGE, len(target) - done)
            forced = self._force(address + done, target[done : done + page])
            done += forced
            if forced < page:
                break
        return done

    def _force(self, address: int, target: memoryview) -> int:
        try:
            return os.preadv(self._mem, [target], address)
        except (OSError, OverflowError):
            return 0

    def read(self, address: int, size: int) -> bytes:
        """The bytes at ``address``: fewer than ``size`` where some cannot be read."""
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(address, memoryview(buffer))])

    def check(self) -> None:
        """Raise SourceGoneError if the process ended, executed another program, or its PID was reused."""
        # The open mem file refers to the address space at the time of opening. After exit or exec it reads as empty.
        gone = procfs.process_start_time(self.pid) != self._started
        first = next((part.start for part in self.stretches() if part.state == State.DATA), None)
        if not gone and first is not None:
            try:
                gone = os.pread(self._mem, 1, first) == b""
            except OSError:
                gone = False  # the page was unmapped, but the address space still exists
        if gone:
            raise SourceGoneError(f"process {self.pid} ended while it was read")

    def close(self) -> None:
        """Let the process continue, and close all files."""
        self._backing.close()
        if self._pagemap is not None:
            self._pagemap.close()
        if self._mem >= 0:
            os.close(self._mem)
            self._mem = -1
        if self._held is not None:
            self._held.release()
            self._held = None


def _tiling(start: int, end: int, data: Sequence[Range]) -> list[Stretch]:
    """Cut ``[start, end)`` into the ranges in ``data`` and the unpopulated gaps between them."""
    parts: list[Stretch] = []
    at = start
    for low, high in data:
        if at < low:
            parts.append(Stretch(at, low, State.UNPOPULATED, NEVER))
        parts.append(Stretch(low, high))
        at = high
    if at < end:
        parts.append(Stretch(at, end, State.UNPOPULATED, NEVER))
    return parts
