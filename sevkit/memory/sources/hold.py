"""Stop a process while it is read: PTRACE_SEIZE and PTRACE_INTERRUPT on each of its threads (ptrace(2)).

Unlike SIGSTOP this is invisible to the process and its parent. When we end, even by SIGKILL, the kernel lets the
process continue. All ptrace requests must come from the thread that attached, so one thread exists only for them.
"""

import ctypes
import errno
import os
import threading
from pathlib import Path

from sevkit.errors import DeadlineError, NotPermittedError
from sevkit.memory.sources.base import SourceGoneError
from sevkit.procfs import ptrace_hint

_SEIZE, _INTERRUPT, _DETACH = 0x4206, 0x4207, 17
_WALL = 0x40000000
_LIMIT = 10.0  # seconds for all threads to stop
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


class Held:
    """All threads of a process, stopped until ``release``."""

    def __init__(self, pid: int) -> None:
        """Stop them. Raises NotPermittedError, SourceGoneError or DeadlineError."""
        self._pid = pid
        self._threads: set[int] = set()
        self._ready, self._done = threading.Event(), threading.Event()
        self._error: Exception | None = None
        self._keeper = threading.Thread(target=self._keep, name="ptrace", daemon=True)
        self._keeper.start()
        self._ready.wait()
        if self._error:
            self._keeper.join()
            raise self._error

    def release(self) -> None:
        """Let the process continue."""
        self._done.set()
        self._keeper.join()

    def _keep(self) -> None:
        try:
            self._stop_all()
            self._ready.set()
            self._done.wait()
        except Exception as error:  # noqa: BLE001 - handed to the thread that asked
            self._error = error
        finally:
            for thread in self._threads:
                _libc.ptrace(_DETACH, thread, None, None)
            self._ready.set()

    def _stop_all(self) -> None:
        """Stop threads until the list shows no new one: a running thread may create others while we stop the rest."""
        while new := self._listed() - self._threads:
            for thread in new:
                self._stop(thread)

    def _listed(self) -> set[int]:
        try:
            return {int(entry.name) for entry in Path(f"/proc/{self._pid}/task").iterdir()}
        except OSError as error:
            raise SourceGoneError(f"process {self._pid} ended") from error

    def _stop(self, thread: int) -> None:
        if _libc.ptrace(_SEIZE, thread, None, None) != 0:
            code = ctypes.get_errno()
            if code == errno.ESRCH and thread != self._pid:
                return  # it ended by itself
            if code == errno.ESRCH:
                raise SourceGoneError(f"process {self._pid} ended")
            raise NotPermittedError(f"not permitted to hold process {self._pid}", hint=ptrace_hint(self._pid))
        self._threads.add(thread)
        if _libc.ptrace(_INTERRUPT, thread, None, None) == 0:
            self._await(thread)

    def _await(self, thread: int) -> None:
        import time

        deadline = time.monotonic() + _LIMIT
        while time.monotonic() < deadline:
            try:
                seen, _ = os.waitpid(thread, _WALL | os.WNOHANG)
            except ChildProcessError:
                return
            if seen:
                return
            time.sleep(0.0005)
        raise DeadlineError(f"thread {thread} of process {self._pid} did not stop within {_LIMIT:g} s")
