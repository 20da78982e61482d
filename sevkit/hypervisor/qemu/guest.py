"""A guest in QEMU: how to talk to it, to its VMM, and how to end it."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevkit import processes
from sevkit.errors import GuestError, HypervisorError
from sevkit.guest import secrets
from sevkit.guest.channel import AgentChannel, SshChannel
from sevkit.guest.result import CommandResult
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry
from sevkit.hypervisor.protocols import RamBlock
from sevkit.memory.guest_ram.qemu_layout import guest_map
from sevkit.qemu import argv as argv_builder
from sevkit.qemu import capabilities as capabilities_of
from sevkit.qemu import qmp
from sevkit.vocabulary import Provenance

if TYPE_CHECKING:
    import subprocess


class QemuGuest:
    """A guest in QEMU, started by this process or found again in the registry."""

    def __init__(
        self, record: registry.Record, spec: GuestSpec, children: "Sequence[subprocess.Popen[bytes]]" = ()
    ) -> None:
        self._record = record
        self._spec = spec
        self._children = children  # QEMU first; none when another process has started the guest
        self._folder = registry.folder(record.name)
        self._agent = AgentChannel(self._folder / "agent", self.alive)
        self._ssh = SshChannel(self._folder, lambda: qmp.forwarded_port(self._folder / "qmp"), self._agent)

    name = property(lambda self: self._record.name)
    spec = property(lambda self: self._spec)
    provenance = property(lambda self: Provenance(self._record.provenance))
    pid = property(lambda self: self._record.pid)
    accel = property(lambda self: self._record.accel)
    command_line = property(lambda self: self._record.command_line)
    notes = property(lambda self: self._record.notes)
    confounds = property(lambda self: argv_builder.forced_differences(self._spec))
    folder = property(lambda self: self._folder)

    @property
    def versions(self) -> dict[str, str]:
        """QEMU's version, and the guest kernel's as the guest tells it."""
        able = capabilities_of.of_binary(self._record.command_line[0])
        return {"QEMU": able.version, "guest kernel": self.run("uname -r", timeout=30).text.strip()}

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult:
        """Run a command in the guest, by the agent or, when ``private``, by ssh."""
        channel = self._ssh if private else self._agent
        return channel.run(command, stdin=stdin, timeout=timeout)

    def plant(self, nonce: bytes) -> None:
        """Plant the secrets, then pass the shared marker through the guest's I/O buffers."""
        secrets.plant(self, nonce)
        secrets.mark_shared(self, nonce)

    def holds(self, nonce: bytes) -> dict[str, bool]:
        """Which secrets the guest still has."""
        return secrets.holds(self, nonce)

    def put(self, source: Path, target: str) -> None:
        """Copy a file into the guest."""
        self._agent.put(source, target)

    def get(self, source: str, target: Path) -> None:
        """Copy a file out of the guest."""
        self._agent.get(source, target)

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer to a QMP command; ``_`` in the name of an argument stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return qmp.execute(self._folder / "qmp", command, named)

    def monitor(self, line: str) -> str:
        """What QEMU's human monitor prints for a line."""
        return qmp.monitor(self._folder / "qmp", line)

    def ram_blocks(self) -> Sequence[RamBlock]:
        """The guest's RAM, asked of QEMU."""
        return list(guest_map(self._folder / "qmp").blocks)

    def console(self) -> str:
        """The console so far."""
        return _text(self._folder / "console.log")

    def alive(self) -> bool:
        """Whether QEMU still runs."""
        return self._record.alive()

    def stop(self) -> None:
        """End QEMU and remove the guest's folder."""
        for process in self._children:
            processes.stop(process)
        if not self._children and self.alive():
            processes.end(self._record.pid, self._record.start_time)  # what else belongs to it ends with QEMU
        registry.forget(self._record.name)

    @property
    def encrypted_by_engine(self) -> bool:
        """Whether the emulator's engine encrypts this guest's RAM."""
        names = set(argv_builder.EMULATED_OBJECT.values())
        return any(word.partition(",")[0] in names for word in self._record.command_line)

    def pause(self) -> None:
        """Hold all vCPUs."""
        qmp.execute(self._folder / "qmp", "stop")

    def resume(self) -> None:
        """Let the vCPUs go on."""
        qmp.execute(self._folder / "qmp", "cont")

    def write_back(self) -> None:
        """Write the emulated SoC's cache back to DRAM and empty it (WBINVD); real caches are coherent."""
        if self.encrypted_by_engine:
            arguments = {"path": "/objects/sev0", "property": "cache-op", "value": "wbinvd"}
            qmp.execute(self._folder / "qmp", "qom-set", arguments)

    def note_weak_cache(self) -> None:
        """Record it loudly when the plaintext side of the emulated SoC is not out of the host's reach."""
        arguments = {"path": "/objects/sev0", "property": "cache-protection"}
        protection = qmp.execute(self._folder / "qmp", "qom-get", arguments)
        if protection != "memfd_secret":
            note = f"WEAK EMULATION: the SoC's cache is kept from dumps by {protection} only, memfd_secret is missing"
            self._record = replace(self._record, notes=[*self._record.notes, note])
            registry.write(self._record)

    def wait_ready(self, timeout: float) -> None:
        """Wait until the guest's agent answers; raises with QEMU's or the kernel's words when it does not come up."""
        self._agent.wait_ready(time.monotonic() + timeout, check=self.check)

    def check(self) -> None:
        """Raise when QEMU has ended or the guest's kernel has panicked."""
        console = self.console()
        if "Kernel panic" in console:
            raise GuestError("the guest's kernel panicked", detail=_tail(console))
        if not self.alive():
            raise HypervisorError(
                f"QEMU ended while the guest {self.name} started",
                detail=_text(self._folder / "qemu.log") or _tail(console),
            )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _tail(text: str, lines: int = 15) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])
