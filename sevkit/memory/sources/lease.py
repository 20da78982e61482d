"""Map a file safely, under a read lease (fcntl(2), F_SETLEASE): writers must wait until we release it.

A process that reads a mapped page beyond the end of the file is killed (SIGBUS). So a file that may shrink must not be
mapped. Under a read lease it cannot shrink: the kernel grants the lease only if no process has the file open for
writing, and later writers wait until we release it, at most lease-break-time (45 s). One risk remains: a disk block
that cannot be read. It kills any program that maps files.
"""

import fcntl
import signal

_PATIENCE = "/proc/sys/fs/lease-break-time"
_ENOUGH = 5  # seconds of lease-break-time; we search one window in less than a second


class Lease:
    """A read lease on an open file, held until another process wants to write to it."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._held = False
        try:
            with open(_PATIENCE) as file:  # noqa: PTH123 - pathlib would cost start-up time
                if int(file.read()) < _ENOUGH:
                    return
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default; SIGIO would kill us
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            self._held = True
        except (OSError, ValueError):  # a process has it open for writing, or the file system has no leases
            pass

    def holds(self) -> bool:
        """Whether the lease is still ours. If a writer waits for it, release it."""
        if self._held and fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            self.release()
        return self._held

    def release(self) -> None:
        """Let writers continue. Calling it twice is harmless."""
        if self._held:
            self._held = False
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            except OSError:  # the kernel has revoked it
                pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self.release()
