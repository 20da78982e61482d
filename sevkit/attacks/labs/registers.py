"""The registers of a stopped guest whose state is not encrypted, by QEMU's gdb stub (gdb manual, Remote Protocol)."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from sevkit.errors import HypervisorError
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.paths import work_dir

_TIMEOUT = 30.0
_RIP, _SIZE = 16, 8  # the number of RIP among the registers of x86-64, each of 8 bytes up to it (QEMU: i386-64bit.xml)
_MOST = 1 << 16


@contextlib.contextmanager
def opened(guest: QemuGuest) -> Iterator["Registers"]:
    """The registers of the first vCPU; the guest is stopped while the block runs, and then continues."""
    with work_dir("gdb") as folder, socket.socket(socket.AF_UNIX) as stream:
        path = Path(folder) / "stub"
        guest.pause()
        try:
            guest.monitor(f"gdbserver unix:{path},server=on,wait=off")
            stream.settimeout(_TIMEOUT)
            stream.connect(str(path))
            yield Registers(stream)
        except OSError as error:
            raise HypervisorError("QEMU's gdb stub does not answer", detail=str(error)) from error
        finally:
            guest.monitor("gdbserver none")
            guest.resume()


class Registers:
    """Packets to the stub and back: ``$DATA#SUM``, each acknowledged by a plus sign."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._rest = b""

    @property
    def rip(self) -> int:
        """The instruction pointer."""
        data = bytes.fromhex(self.ask("g")[: 2 * _SIZE * (_RIP + 1)])
        return int.from_bytes(data[_RIP * _SIZE :], "little")

    @rip.setter
    def rip(self, value: int) -> None:
        if (answer := self.ask(f"P{_RIP:x}={value.to_bytes(_SIZE, 'little').hex()}")) != "OK":
            raise HypervisorError("QEMU's gdb stub did not set RIP", detail=answer)

    def ask(self, request: str) -> str:
        """The stub's answer to a request."""
        self._stream.sendall(f"${request}#{sum(request.encode()) % 256:02x}".encode())
        while b"#" not in (packet := self._rest.partition(b"$")[2]) or len(packet.partition(b"#")[2]) < 2:
            piece = self._stream.recv(_MOST)
            if not piece or len(self._rest) > _MOST:
                raise HypervisorError("QEMU's gdb stub closed the connection")
            self._rest += piece
        body, _, after = packet.partition(b"#")
        self._rest = after[2:]
        with contextlib.suppress(OSError):  # the answer is there: it does not matter if the stub has ended
            self._stream.sendall(b"+")
        return body.decode("ascii", errors="replace")
