"""Guests for the emulator's tests: launched with a cache size of our choice, talked to through sevkit's own agent."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from sevkit import processes
from sevkit.errors import SevkitError
from sevkit.guest import cpio, image
from sevkit.guest.channel import AgentChannel, SshChannel
from sevkit.guest.spec import Accel, Firmware, GuestSpec, StorageKind
from sevkit.qemu import argv, capabilities, qmp
from sevkit.vocabulary import Mode

BUILD = Path(__file__).parents[2] / "emulator/build.sh"
SOURCES = Path(__file__).parents[2] / "emulator/tests"
OVMF = [Path(p) for p in ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_CODE_4M.fd")]
FIRMWARE_FOLDERS = tuple(p for p in map(Path, ("/usr/share/seabios", "/usr/share/qemu")) if p.is_dir())
BOOT_DEADLINE = 240.0
PAGE = 4096


def engine() -> Path:
    """The binary under test: the one that SEVKIT_EMULATOR names, or the build of this source; skips if there is none."""
    if named := os.environ.get("SEVKIT_EMULATOR"):
        return Path(named)
    done = processes.run([str(BUILD), "--print-path"], timeout=60)
    if done.status != 0:
        pytest.skip(f"the emulator of this source is not built: {done.error_text}")
    return Path(done.text.strip())


@dataclass
class Emulator:
    """The binary, the image to boot and a folder for sockets and programs."""

    binary: Path
    image: image.Image
    folder: Path
    programs: dict[str, Path] = field(default_factory=dict)
    bios: Path | None = None  # mapped by -bios in every mode; None: the installed OVMF as flash

    def initrd(self, programs: Sequence[str]) -> Path:
        """The image's initramfs with the test programs in /bin added (initramfs archives may follow each other)."""
        path = self.folder / f"initrd-{self.image.initrd.parent.name}-{'-'.join(programs)}"
        if not path.exists():
            entries = [cpio.file(f"bin/{name}", self.programs[name].read_bytes(), 0o755) for name in programs]
            base = self.image.initrd.read_bytes()
            path.write_bytes(base + bytes(-len(base) % 4) + cpio.pack(entries))
        return path

    def launch(
        self, spec: GuestSpec, *, options: str = "", programs: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> "EmulatorGuest":
        """Start a guest and wait for its agent. ``options`` go to the object that encrypts."""
        guest = self.start(spec, options=options, programs=programs, extra=extra)
        try:
            guest.wait_ready()
        except BaseException:
            guest.stop()
            raise
        return guest

    def start(
        self, spec: GuestSpec, *, options: str = "", programs: Sequence[str] = (), extra: Sequence[str] = ()
    ) -> "EmulatorGuest":
        """Start a guest; the same OVMF in all modes, so that guests differ in the encryption alone."""
        home = self.folder / f"{spec.name}-{time.monotonic_ns()}"
        home.mkdir()
        data = None if spec.storage.kind is StorageKind.NONE else home / "data.img"
        if data is not None:
            with data.open("wb") as stream:
                stream.truncate(spec.storage.size_mib << 20)
        place = argv.LaunchFiles(
            kernel=self.image.kernel,
            initrd=self.initrd(programs),
            firmware=self.bios or next(path for path in OVMF if path.exists()),
            qmp=home / "qmp",
            agent=home / "agent",
            console=home / "console",
            console_log=home / "console.log",
            data_disk=data,
            firmware_search=FIRMWARE_FOLDERS,
        )
        able = capabilities.of_binary(str(self.binary))
        spec = replace(spec, firmware=Firmware.OVMF)
        command = argv.build(spec, able, Accel.TCG, place, argv.Encryption(51, 1))
        objects = tuple(f"{name}," for name in argv.EMULATED_OBJECT.values())
        command = [f"{word},{options}" if options and word.startswith(objects) else word for word in command]
        if self.bios is not None and "-bios" not in command:
            at = next(number for number, word in enumerate(command) if word.startswith("if=pflash"))
            command[at - 1 : at + 1] = ["-bios", str(self.bios)]
        command = [word for word in command if word != "-no-reboot"]
        with (home / "qemu.log").open("wb") as log:
            process = processes.start([*command, *extra], stdout=log, stderr=log)
        return EmulatorGuest(home, process, data)


class EmulatorGuest:
    """A running guest."""

    def __init__(self, home: Path, process: "subprocess.Popen[bytes]", data: Path | None) -> None:
        self.home = home
        self.process = process
        self.data = data
        self.agent = AgentChannel(home / "agent", lambda: process.poll() is None)
        self.ssh = SshChannel(home, lambda: qmp.forwarded_port(home / "qmp"), self.agent)

    def wait_ready(self, timeout: float = BOOT_DEADLINE) -> None:
        self.agent.wait_ready(time.monotonic() + timeout, check=self.check)

    def check(self) -> None:
        assert self.process.poll() is None, f"QEMU ended: {self.log()}\n{self.console()[-2000:]}"
        assert "Kernel panic" not in self.console(), self.console()[-3000:]

    def run(self, line: str, *, timeout: float = 120.0, stdin: bytes = b"") -> str:
        """Standard output of a command that must succeed."""
        done = self.agent.run(line, stdin=stdin, timeout=timeout)
        assert done.status == 0, f"{line}: {done.status}\n{done.stdout!r}\n{done.stderr!r}\n{self.log()}"
        return done.text

    def run_until(self, line: str, accept: Callable[[str], bool], timeout: float = BOOT_DEADLINE) -> None:
        """Repeat a command until its output is accepted; what is asked while the guest restarts is lost."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(SevkitError):
                if accept(self.agent.run(line, timeout=5).text):
                    return
            time.sleep(0.5)
        raise AssertionError(f"`{line}` did not change within {timeout:g} s\n{self.console()[-2000:]}")

    def log(self) -> str:
        return (self.home / "qemu.log").read_text(errors="replace")

    def console(self) -> str:
        path = self.home / "console.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def ask(self, command: str, **arguments: Any) -> Any:
        return qmp.execute(self.home / "qmp", command, arguments or None, timeout=60)

    def read(self, name: str) -> Any:
        """A property of the sev-tcg-guest object."""
        return self.ask("qom-get", path="/objects/sev0", property=name)

    def cache_op(self, operation: str) -> None:
        self.ask("qom-set", path="/objects/sev0", property="cache-op", value=operation)

    def dram(self, offset: int, size: int) -> bytes:
        """What the host reads of the guest's DRAM."""
        with Path(f"/proc/{self.process.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(self.read("dram-address") + offset)
            data = b""
            while len(data) < size:
                data += memory.read(size - len(data))
            return data

    def overwrite_dram(self, offset: int, data: bytes) -> None:
        """The hostile host: write into the guest's DRAM behind QEMU's back."""
        with Path(f"/proc/{self.process.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(self.read("dram-address") + offset)
            assert memory.write(data) == len(data)

    def stop(self) -> None:
        processes.stop(self.process)


def spec(mode: Mode, **options: Any) -> GuestSpec:
    """A small guest for tests."""
    return GuestSpec(name=str(mode), mode=mode, **{"memory_mib": 384, **options})


def compile_static(source: Path, target: Path) -> None:
    """A static program for the guest."""
    command = [processes.find_tool("gcc"), "-O1", "-static", "-pthread", "-Wall", "-o", str(target), str(source)]
    done = processes.run(command, timeout=120)
    assert done.status == 0, done.error_text
