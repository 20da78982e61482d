"""Small SEV-SNP machines for tests: the emulator with test firmware instead of OVMF and a kernel; they run for a second."""

import base64
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sevkit import processes
from sevkit.errors import HypervisorError
from sevkit.qemu import qmp
from tests.support.waiting import until

FIRMWARE = Path(__file__).parents[2] / "emulator/tests/guest"
FOLDERS = [path for path in ("/usr/share/seabios", "/usr/share/qemu") if Path(path).is_dir()]
CPU = ",monitor=off,la57=off"  # what every model must do without
DEADLINE = 60.0

# What the firmware is to do: main.c.
ALL, FUZZ, VMPL_WRITE, VMSA_WRITE, PRIVATE_GHCB, _, UNREGISTERED_GHCB, VICTIM = range(8)
UNSUPPORTED, UNKNOWN_REQUEST, RESET = range(8, 11)
# Where it keeps the pages of VICTIM.
FIRST = 0x820000
SECOND = FIRST + 0x1000


def build_firmware(folder: Path) -> Path:
    """The test firmware, compiled."""
    done = processes.run(["make", "-s", "-C", str(FIRMWARE), f"OUT={folder}"], timeout=120)
    assert done.status == 0, done.error_text
    return folder / "guest.bin"


class Machine:
    """A running machine. ``options`` go to the object, ``extra`` to QEMU."""

    def __init__(
        self,
        binary: Path,
        firmware: Path,
        home: Path,
        *,
        run: int = ALL,
        thousands: int = 0,
        kind: str = "sev-snp-tcg-guest",
        options: str = "",
        vcpus: int = 1,
        cpu: str = "max",
        extra: Sequence[str] = (),
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        wanted = base64.b64encode(bytes([run]) + thousands.to_bytes(2, "little") + bytes(13)).decode()
        if kind == "sev-snp-tcg-guest":
            options += f",guest-visible-workarounds={wanted}"
        command = [str(binary), "-accel", "tcg", "-cpu", cpu + CPU, "-m", "64", "-smp", str(vcpus)]
        command += [
            "-machine",
            "q35,smm=off,vmport=off,confidential-guest-support=sev0",
            "-object",
            f"{kind},id=sev0{options}",
        ]
        command += ["-bios", str(firmware), *(word for folder in FOLDERS for word in ("-L", folder)), "-nodefaults"]
        command += ["-display", "none", "-vga", "none", "-debugcon", f"file:{home / 'out'}"]
        command += ["-qmp", f"unix:{home / 'qmp'},server=on,wait=off", *extra]
        self.command = command
        with (home / "log").open("wb") as log:
            self.process = processes.start(command, stdout=log, stderr=log)

    def out(self) -> str:
        """What the firmware has printed."""
        path = self.home / "out"
        return path.read_text(errors="replace") if path.exists() else ""

    def log(self) -> str:
        """What QEMU has printed."""
        return (self.home / "log").read_text(errors="replace")

    def wait_for_text(self, text: str) -> None:
        """Until the firmware has printed it."""

        def seen() -> bool:
            assert text in self.out() or self.process.poll() is None, f"QEMU ended: {self.log()}\n{self.out()}"
            return text in self.out()

        until(seen, text)

    def wait_for_log(self, text: str) -> None:
        """Until QEMU has printed it."""
        until(lambda: text in self.log(), text)

    def wait_end(self) -> str:
        """Until QEMU has ended; what the firmware has printed."""
        until(lambda: self.process.poll() is not None, "QEMU does not end")
        return self.out()

    def ask(self, command: str, **arguments: Any) -> Any:
        """A QMP command; keyword ``to_gpa`` is the argument to-gpa."""
        until(lambda: self._listens() or self.process.poll() is not None, "there is no QMP socket")
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return qmp.execute(self.home / "qmp", command, named or None, timeout=DEADLINE)

    def _listens(self) -> bool:
        """Whether QEMU's socket accepts connections: it exists a moment before."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.home / "qmp")) == 0

    def refusal(self, command: str, **arguments: Any) -> str:
        """The error of a command that must be refused."""
        try:
            answer = self.ask(command, **arguments)
        except HypervisorError as error:
            return error.detail or error.message
        raise AssertionError(f"{command} was accepted: {answer}")

    def read(self, name: str) -> Any:
        """A property of the object."""
        return self.ask("qom-get", path="/objects/sev0", property=name)

    def memory(self) -> int:
        """A file descriptor of the process's memory, opened for reading and writing."""
        return os.open(f"/proc/{self.process.pid}/mem", os.O_RDWR)

    def stop(self) -> None:
        """End it."""
        processes.stop(self.process)
