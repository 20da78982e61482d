"""One campaign at a time per host: two at once would disturb each other's measurements."""

import contextlib
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator

from sevkit.errors import UsageError

# An abstract address (unix(7)): it leaves no file behind, and all users of the host share it.
_ADDRESS = "\0sevkit-bench"
_ASK_EVERY = 0.2


@contextlib.contextmanager
def alone(patience: float, progress: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the host's lock; waits up to ``patience`` seconds for another campaign, then raises UsageError."""
    deadline = time.monotonic() + patience
    told = False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lock:
        while not _taken(lock):
            owner = _owner()
            if time.monotonic() >= deadline:
                raise UsageError(
                    f"another campaign (process {owner or 'unknown'}) is measuring on this host",
                    hint="wait for it: two campaigns at once measure each other",
                )
            if progress is not None and not told:
                progress(f"waiting for another campaign on this host (process {owner or 'unknown'})")
                told = True
            time.sleep(_ASK_EVERY)
        lock.listen(1)
        yield


def _taken(lock: socket.socket) -> bool:
    try:
        lock.bind(_ADDRESS)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _owner() -> int | None:
    """The process that holds the lock, by the credentials of its socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        asking.connect(_ADDRESS)
        data = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", data)[0])
    return None
