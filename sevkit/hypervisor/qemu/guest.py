"""A guest in QEMU: communicate with it and with its VMM, and stop it."""

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sevkit import processes
from sevkit.errors import DeadlineError, GuestError, HypervisorError, NoSpaceError, SevkitError
from sevkit.guest import diagnosis, kernel, secrets
from sevkit.guest.channel import AgentChannel, SshChannel
from sevkit.guest.result import CommandResult
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry
from sevkit.hypervisor.lint import errors
from sevkit.hypervisor.protocols import RamBlock
from sevkit.memory.guest_ram.qemu_layout import guest_map
from sevkit.qemu import argv as argv_builder
from sevkit.qemu import capabilities as capabilities_of
from sevkit.qemu import overlay, qmp
from sevkit.vocabulary import Mode, Provenance

if TYPE_CHECKING:
    import subprocess

_ANSWER = 60.0  # seconds for QEMU's answer, on a busy machine too
_MOMENT = 5.0  # the same, for what is only a hint
_MOST_NOTES = 5  # of a log's last lines
_ENDING = 2.0  # seconds to wait for QEMU to end after it has closed a socket


class QemuGuest:
    """A guest in QEMU, started by this process or found in the registry."""

    def __init__(
        self, record: registry.Record, spec: GuestSpec, children: "Sequence[subprocess.Popen[bytes]]" = ()
    ) -> None:
        self._record = record
        self._spec = spec
        self._children = children  # QEMU first; none when another process has started the guest
        self._folder = registry.folder(record.name)
        self._agent = AgentChannel(self._folder / "agent", self.alive, self._check_disk)
        self._ssh = SshChannel(self._folder, lambda: qmp.forwarded_port(self._folder / "qmp"), self._agent)

    name = property(lambda self: self._record.name)
    spec = property(lambda self: self._spec)
    provenance = property(lambda self: Provenance(self._record.provenance))
    pid = property(lambda self: self._record.pid)
    accel = property(lambda self: self._record.accel)
    command_line = property(lambda self: self._record.command_line)
    notes = property(lambda self: self._record.notes)
    confounds = property(lambda self: argv_builder.forced_differences(self._spec, emulated=self.encrypted_by_engine))
    folder = property(lambda self: self._folder)

    @property
    def versions(self) -> dict[str, str]:
        """The versions of QEMU and, as reported by the guest, of its kernel."""
        return {"QEMU": self.qemu_version, "guest kernel": self.run("uname -r", timeout=30).text.strip()}

    @property
    def qemu_version(self) -> str:
        """The version of the QEMU that runs the guest."""
        return capabilities_of.of_binary(self._record.command_line[0]).version

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult:
        """Run a command in the guest, by the agent or, when ``private``, by ssh."""
        channel = self._ssh if private else self._agent
        try:
            return channel.run(command, stdin=stdin, timeout=timeout)
        except DeadlineError as error:
            if self.suspended():
                raise DeadlineError(error.message, hint=f"it is suspended: sevkit guest resume {self.name}") from error
            raise

    def suspended(self) -> bool:
        """Whether QEMU holds the guest; False too if QEMU does not say so within a moment."""
        return self._state() == "paused"

    def _state(self) -> str:
        """The guest's state as QEMU names it; empty if QEMU does not say so within a moment."""
        try:
            return str(qmp.execute(self._folder / "qmp", "query-status", timeout=_MOMENT)["status"])
        except SevkitError:
            return ""

    def _check_disk(self) -> None:
        """Raise NoSpaceError if QEMU holds the guest because it cannot write the guest's disk (werror=enospc)."""
        if self._state() != "io-error":
            return
        folder = overlay.folder()
        raise NoSpaceError(
            f"QEMU holds the guest {self.name}: what it writes to its disk no longer fits on the host",
            hint=f"writes to a root disk go to {folder}, where {shutil.disk_usage(folder).free >> 20} MiB are free; "
            f"TMPDIR names another folder; with more space, `sevkit guest resume {self.name}` goes on",
        )

    def plant(self, nonce: bytes) -> None:
        """Plant the secrets; a marker passes through the guest's shared buffers before that, and one after it."""
        before, after = secrets.MARKERS
        secrets.mark_shared(self, nonce, before)
        secrets.plant(self, nonce)
        secrets.mark_shared(self, nonce, after)

    def holds(self, nonce: bytes) -> dict[str, bool]:
        """For every place, whether the guest still has its secret there."""
        return secrets.holds(self, nonce)

    def word(self) -> secrets.GuestWord:
        """What the guest says of its memory."""
        return secrets.guest_word(self)

    def put(self, source: Path, target: str) -> None:
        """Copy a file into the guest."""
        self._agent.put(source, target)

    def get(self, source: str, target: Path) -> None:
        """Copy a file out of the guest."""
        self._agent.get(source, target)

    def ask(self, command: str, **arguments: object) -> Any:
        """The answer to a QMP command; ``_`` in the name of an argument stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return qmp.execute(self._folder / "qmp", command, named, timeout=_ANSWER)

    def monitor(self, line: str) -> str:
        """What QEMU's human monitor prints for a line."""
        return qmp.monitor(self._folder / "qmp", line)

    def ram_blocks(self) -> Sequence[RamBlock]:
        """The guest's RAM, as reported by QEMU."""
        return list(guest_map(self._folder / "qmp").blocks)

    def private_blocks(self) -> Sequence[RamBlock]:
        """Where the emulator's engine maps the private pages of an SEV-SNP guest; none with ``private-memory=hole``.

        A page has the same offset there as in DRAM, which is QEMU's RAM block.
        """
        if self._spec.mode is not Mode.SEV_SNP or not self.encrypted_by_engine:
            return []
        private, dram, size = (self.engine(name) for name in ("private-address", "dram-address", "dram-size"))
        blocks = [block for block in self.ram_blocks() if block.host_address is not None]
        inside = [(block, (block.host_address or 0) - dram) for block in blocks] if private else []
        return [
            RamBlock("private memory", block.gpa, block.size, private + offset)
            for block, offset in inside
            if 0 <= offset < size
        ]

    def engine(self, name: str) -> int:
        """A number that the emulator's engine offers (docs/emulator.md has the list)."""
        return int(self.ask("qom-get", path="/objects/sev0", property=name))

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
            processes.end(self._record.pid, self._record.start_time)  # its other processes end with QEMU
        registry.forget(self._record.name)

    @property
    def encrypted_by_engine(self) -> bool:
        """Whether the emulator's engine encrypts this guest's RAM."""
        return any(word.partition(",")[0] in argv_builder.EMULATED_OBJECTS for word in self._record.command_line)

    def pause(self) -> None:
        """Stop all vCPUs."""
        qmp.execute(self._folder / "qmp", "stop")

    def resume(self) -> None:
        """Let the vCPUs continue."""
        qmp.execute(self._folder / "qmp", "cont")

    def write_back(self) -> None:
        """Write the emulated SoC's cache back to DRAM and empty it (WBINVD); real caches are coherent."""
        if self.encrypted_by_engine:
            arguments = {"path": "/objects/sev0", "property": "cache-op", "value": "wbinvd"}
            qmp.execute(self._folder / "qmp", "qom-set", arguments)

    def note_weak_cache(self) -> None:
        """Add a warning to the notes if the host may be able to read the plaintext cache of the emulated SoC."""
        arguments = {"path": "/objects/sev0", "property": "cache-protection"}
        protection = qmp.execute(self._folder / "qmp", "qom-get", arguments)
        if protection != "memfd_secret":
            self._note(
                f"WEAK EMULATION: the SoC's cache is kept from dumps by {protection} only, memfd_secret is missing"
            )

    def check_restored(self) -> None:
        """Read to its end what QEMU wrote while it loaded a saved state; what it wrote becomes notes.

        Raises HypervisorError if QEMU has ended or the guest does not run, GuestError if its kernel has given up.
        """
        self.check()
        state = str(self.ask("query-status")["status"])
        if state != "running":
            raise HypervisorError(f"the restored guest does not run: its state is {state}", detail=self._last_words())
        words = _text(self._folder / "qemu.log").strip().splitlines()
        if words:
            self._note(*(f"QEMU, while it loaded the state: {line}" for line in words[-_MOST_NOTES:]))

    def _note(self, *words: str) -> None:
        """Add remarks for the user to the guest's record."""
        self._record = replace(self._record, notes=[*self._record.notes, *words])
        registry.write(self._record)

    def wait_ready(self, timeout: float) -> None:
        """Wait until the guest's agent answers; if it does not boot, the error has QEMU's or the kernel's messages."""
        if not self._spec.has_agent:
            self._await_qmp(time.monotonic() + timeout)
            return
        try:
            self._agent.wait_ready(time.monotonic() + timeout, check=self.check)
        except DeadlineError as error:
            why = diagnosis.late(self.console(), timeout)
            hint = why.hint if self._spec.kernel is None else f"{kernel.note(self._spec.kernel)}; {why.hint}"
            raise DeadlineError(why.message, hint=hint, detail=self._last_words()) from error
        except HypervisorError:
            self._await_end()
            raise

    def check(self) -> None:
        """Raise if QEMU has ended, or the console shows that the guest will not boot."""
        alive = self.alive()  # before reading the console: after QEMU has ended, the console is complete
        cause = diagnosis.cause(self.console())
        if cause is not None:
            raise GuestError(cause.message, hint=cause.hint, detail=self._last_words())
        if not alive:
            words = self._last_words()
            known = errors.explain(words)
            hint = f"{known[-1].means}; {known[-1].fix}" if known else None
            raise HypervisorError(f"QEMU ended while the guest {self.name} started", hint=hint, detail=words)

    def _await_qmp(self, deadline: float) -> None:
        """Without an agent: wait until QEMU answers, and then a moment in case the firmware fails."""
        while not (self._folder / "qmp").exists():
            self.check()
            if time.monotonic() > deadline:
                raise DeadlineError("QEMU did not open its monitor in time", detail=self._last_words())
            time.sleep(0.05)
        qmp.execute(self._folder / "qmp", "query-status", timeout=max(0.1, deadline - time.monotonic()))
        self.check()

    def set_up(self) -> None:
        """Set up a guest that has booted: name resolution, shared folders, the user's ssh keys."""
        lines = ["echo nameserver 10.0.2.3 >/etc/resolv.conf"] if self._spec.outgoing and self._own_system else []
        lines += [_mount_share(number, share.name) for number, share in enumerate(self._spec.shares)]
        if lines and self._spec.has_agent:
            done = self._agent.run(" && ".join(lines), timeout=60)
            if done.status:
                raise GuestError("the guest could not be set up", detail=done.stderr.decode(errors="replace"))
        if self._spec.ssh_keys and self._spec.has_agent:
            self._ssh.allow("\n".join(self._spec.ssh_keys))

    @property
    def _own_system(self) -> bool:
        """Whether the guest runs one of sevkit's images, which configure no resolver."""
        return self._spec.image in ("mini", "bench") or self._spec.image.startswith(("mini-", "bench-"))

    def ssh_command(self, words: Sequence[str], *, terminal: bool) -> list[str]:
        """The command line of ssh into the guest, for a shell or for ``words``."""
        ssh = processes.find_tool("ssh", package="openssh-client")
        line = [words[0] if len(words) == 1 else shlex.join(words)] if words else []  # one word: a line for the shell
        return [ssh, *self._ssh.options(), *(["-t"] if terminal else []), "root@127.0.0.1", *line]

    def _await_end(self) -> None:
        """After a socket error: wait briefly, and if QEMU has ended, raise an error with its last messages."""
        deadline = time.monotonic() + _ENDING
        while time.monotonic() < deadline:
            self.check()
            time.sleep(0.05)

    def _last_words(self) -> str:
        """What QEMU wrote to stderr, then the console's last lines."""
        parts = (_text(self._folder / "qemu.log").strip(), diagnosis.tail(self.console()))
        return "\n".join(part for part in parts if part)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _mount_share(number: int, name: str) -> str:
    """Shell commands that find the disk of a shared folder by its serial, and mount it."""
    where = shlex.quote(f"/mnt/{name or 'root'}{f'-{number}' if number else ''}")
    disk = f"$(grep -l sevkit-share{number} /sys/block/*/serial 2>/dev/null | cut -d/ -f4)"
    missing = "echo 'no disk with the shared folder: has the kernel virtio_blk and ext4?' >&2; false"
    return f'd={disk}; {{ [ -n "$d" ] || {{ {missing}; }}; }} && mkdir -p {where} && mount -o ro /dev/$d {where}'
