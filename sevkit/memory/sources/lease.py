"""Map a file without fear: under a read lease (fcntl(2), F_SETLEASE) whoever wants to write to it or cut it waits.

Reading a page of a mapping that lies beyond the end of a file kills the process (SIGBUS), so that a file that may
shrink must not be mapped. Under a read lease it cannot: the kernel grants it only when nobody has the file open for
writing, and later writers wait until we give it up, or for lease-break-time (45 s) at most. What remains is a disk
that cannot read a block: that ends any program which maps files.
"""

import fcntl
import signal

_PATIENCE = "/proc/sys/fs/lease-break-time"
_ENOUGH = 5  # seconds; a window is looked at within a fraction of one


class Lease:
    """A read lease on an open file, as long as nobody wants to write to it."""

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor
        self._held = False
        try:
            with open(_PATIENCE) as file:  # noqa: PTH123 - pathlib would cost start-up time
                if int(file.read()) < _ENOUGH:
                    return
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # ignored by default; SIGIO would end us
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            self._held = True
        except (OSError, ValueError):  # somebody writes to it, or the file system has no leases
            pass

    def holds(self) -> bool:
        """Whether it is still ours, with nobody waiting for it; who waits is let go on."""
        if self._held and fcntl.fcntl(self._fd, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
            self.release()
        return self._held

    def release(self) -> None:
        """Let writers go on. Calling it twice is harmless."""
        if self._held:
            self._held = False
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            except OSError:  # it was taken from us meanwhile
                pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self.release()
