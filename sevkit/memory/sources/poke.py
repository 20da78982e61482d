"""Write into the memory of another process, as a hostile host can."""

import errno
import os

from sevkit.errors import CaptureError, NotPermittedError


def write(pid: int, address: int, data: bytes) -> None:
    """Write all of ``data`` at ``address`` of process ``pid``.

    Raises NotPermittedError when ptrace access is refused, CaptureError when the address cannot be written.
    """
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    except PermissionError as error:
        raise NotPermittedError(
            f"the kernel refuses access to the memory of process {pid}", hint="run as root, or as the process's user"
        ) from error
    except FileNotFoundError as error:
        raise CaptureError(f"process {pid} is gone") from error
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(memory, data[done:], address + done)
    except OSError as error:
        words = errno.errorcode.get(error.errno or 0, "?")
        raise CaptureError(f"cannot write {len(data)} bytes at {address:#x} of process {pid}: {words}") from error
    finally:
        os.close(memory)
