"""The memory of a running process, read where it is: no file, no debugger.

Memory that is shared and sealed is looked at in place; process_vm_readv(2) reads the rest; pages that it refuses
(PROT_NONE) are tried through /proc/PID/mem, which may read what the process itself may not. Page-aligned buffers
matter: the kernel copies into them twice as fast.
"""

import contextlib
import ctypes
import errno
import mmap
import os
from collections.abc import Iterator, Sequence

from sevkit import procfs
from sevkit.errors import NotPermittedError
from sevkit.memory.pagemap import PageMap, data_extents
from sevkit.memory.procmaps import Mapping, read_mappings
from sevkit.memory.sealed import Sealed, cannot_shrink
from sevkit.memory.source import PAGE, Range, Region, SourceGoneError, State, Stretch, normalise
from sevkit.procfs import ptrace_hint

NEVER = "never populated"
BEYOND_FILE = "beyond the end of the mapped file"
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


class LiveMemory:
    """The memory of process ``pid``; with ``stop`` the process is held still until this is closed.

    The mappings are those at the time of opening. Raises SourceGoneError or NotPermittedError.
    """

    def __init__(self, pid: int, *, stop: bool = False) -> None:
        self.pid = pid
        self._held = None
        self._mem = -1
        self._by_file = False
        self._pagemap: PageMap | None = None
        self._sealed = Sealed()
        self._started = procfs.process_start_time(pid)
        if self._started is None:
            raise SourceGoneError(f"there is no process {pid}")
        try:
            if stop:
                from sevkit.memory.hold import Held

                self._held = Held(pid)
            self._mappings = read_mappings(pid)
            self._mem = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
            self._pagemap = PageMap(pid, self._mappings[0].region.start, self._mappings[-1].region.end)
            if not self._pagemap.ranges:  # each mapping that is not used at all is one less to walk through
                self._mappings = read_mappings(pid, flags=True)
        except OSError as error:
            self.close()
            raise self._refused(error) from error
        except BaseException:
            self.close()
            raise
        self._regions = [mapping.region for mapping in self._mappings]
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
        """The mappings with what the kernel says of them."""
        return self._mappings

    def stretches(self) -> Sequence[Stretch]:
        """Which pages hold data, by the page map and by the files behind shared mappings."""
        if self._stretches is None:
            self._stretches = [part for mapping in self._mappings for part in self._tile(mapping)]
        return self._stretches

    def _tile(self, mapping: Mapping) -> list[Stretch]:
        region = mapping.region
        if not region.readable:
            return [Stretch(region.start, region.end, State.UNREADABLE, region.why)]
        end = region.end
        tail: list[Stretch] = []
        backing = self._backing(mapping) if _file_decides(mapping) else None
        if backing is None:
            data = self._populated(mapping)
        else:
            data, end = backing
            if end < region.end:
                tail = [Stretch(end, region.end, State.UNREADABLE, BEYOND_FILE)]
        return [*_tiling(region.start, end, data), *tail]

    def _populated(self, mapping: Mapping) -> list[Range]:
        region = mapping.region
        if _file_decides(mapping):
            return [(region.start, region.end)]  # the file cannot be asked: read everything
        if not mapping.used and "ht" not in mapping.flags:
            return []
        assert self._pagemap is not None
        try:
            return self._pagemap.populated(region.start, region.end)
        except OSError as error:
            raise self._refused(error) from error

    def _backing(self, mapping: Mapping) -> tuple[list[Range], int] | None:
        """Where the file behind a mapping has data, in addresses, and where the file ends; None if it cannot say."""
        region = mapping.region
        descriptor = self._open_backing(mapping)
        if descriptor < 0:
            return None
        try:
            size = min(region.size, max(0, os.fstat(descriptor).st_size - region.offset))
            size = min(region.size, (size + PAGE - 1) & ~(PAGE - 1))
            shift = region.start - region.offset
            data = [(low + shift, high + shift) for low, high in data_extents(descriptor, region.offset, size)]
            if mapping.shared and size == region.size and cannot_shrink(descriptor):
                self._sealed.add(region, descriptor)
        finally:
            os.close(descriptor)
        if not mapping.shared and self._pagemap is not None:  # private copies of pages exist beside the file
            data = normalise([*data, *self._pagemap.populated(region.start, region.start + size)])
        return data, region.start + size

    def _open_backing(self, mapping: Mapping) -> int:
        """Open the very file behind a mapping: by map_files (needs a capability), else by its own descriptors."""
        for path in self._names(mapping.region):
            try:
                status = os.stat(path)  # noqa: PTH116 - a magic link, not a path
                same = status.st_ino == mapping.inode and _device(status.st_dev) == mapping.device
                if same and status.st_mode & 0o170000 == 0o100000:  # only regular files: opening others can block
                    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
        return -1

    def _names(self, region: Region) -> Iterator[str]:
        yield f"/proc/{self.pid}/map_files/{region.start:x}-{region.end:x}"
        with contextlib.suppress(OSError):
            for name in os.listdir(f"/proc/{self.pid}/fd"):  # noqa: PTH208
                yield f"/proc/{self.pid}/fd/{name}"

    def chunk(self, run: Range) -> int | None:
        """The size in which a run of addresses is best searched, where ``window`` can map it."""
        return self._sealed.chunk(run)

    def window(self, address: int, size: int) -> tuple[mmap.mmap, int] | None:
        """A mapping of ours that holds ``[address, address + size)``, and where in it that begins; else None."""
        return self._sealed.window(address, size)

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
                # The mem file is open, so that this user may read: a seccomp profile forbids the call (Docker's does).
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
        """Raise SourceGoneError when the process ended, ran another program, or its PID means another one now."""
        # The open mem file stays bound to the address space of the start; once that is gone it reads as empty.
        gone = procfs.process_start_time(self.pid) != self._started
        first = next((part.start for part in self.stretches() if part.state is State.DATA), None)
        if not gone and first is not None:
            try:
                gone = os.pread(self._mem, 1, first) == b""
            except OSError:
                gone = False  # that page went away, the address space did not
        if gone:
            raise SourceGoneError(f"process {self.pid} ended while it was read")

    def close(self) -> None:
        """Let the process go on, and release what was open."""
        self._sealed.close()
        if self._pagemap is not None:
            self._pagemap.close()
        if self._mem >= 0:
            os.close(self._mem)
            self._mem = -1
        if self._held is not None:
            self._held.release()
            self._held = None

    def __enter__(self) -> "LiveMemory":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _file_decides(mapping: Mapping) -> bool:
    """Whether the file says where there is data: shared mappings, and private writable ones of a file."""
    if mapping.anonymous or "ht" in mapping.flags:
        return False
    return mapping.shared or "w" in mapping.region.perms


def _device(number: int) -> str:
    return f"{os.major(number):02x}:{os.minor(number):02x}"


def _tiling(start: int, end: int, data: Sequence[Range]) -> list[Stretch]:
    """``data`` and the holes between, over all of ``[start, end)``."""
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
