"""The protocols (interfaces) of all hypervisors and all guests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sevkit.guest.result import CommandResult
from sevkit.guest.secrets import GuestWord
from sevkit.guest.spec import GuestSpec
from sevkit.memory.guest_ram.layout import GuestRange as RamBlock
from sevkit.vocabulary import Mode, Provenance

__all__ = ["Availability", "Guest", "Hypervisor", "RamBlock"]


@dataclass(frozen=True)
class Availability:
    """Whether a hypervisor can run a mode here, and if not, why."""

    mode: Mode
    available: bool
    reason: str


class Guest(Protocol):
    """A running guest."""

    @property
    def name(self) -> str:
        """The name it was launched under."""
        ...

    @property
    def spec(self) -> GuestSpec:
        """The spec it was launched from."""
        ...

    @property
    def provenance(self) -> Provenance:
        """Where results from this guest come from."""
        ...

    @property
    def pid(self) -> int:
        """The process that holds the guest's memory: what the host can dump."""
        ...

    @property
    def accel(self) -> str:
        """What executes the guest's instructions: ``kvm``, ``tcg``, or ``model``."""
        ...

    @property
    def command_line(self) -> Sequence[str]:
        """The command line of the VMM."""
        ...

    @property
    def versions(self) -> Mapping[str, str]:
        """The programs that the guest consists of and runs on: name -> version."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Remarks on this launch for the user, such as a fallback or a weak policy."""
        ...

    @property
    def confounds(self) -> Sequence[str]:
        """Differences from the plain guest of the same spec, other than the mode."""
        ...

    def run(
        self, command: str | Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, private: bool = False
    ) -> CommandResult:
        """Run a command in the guest: a string by the guest's shell, a sequence as one command without a shell.

        With ``private``, the VMM sees input and output only encrypted (ssh); by default it may see them as plaintext.
        Raises DeadlineError after ``timeout`` seconds, GuestError if the guest has ended.
        """
        ...

    def plant(self, nonce: bytes) -> None:
        """Let the guest derive secrets from a public nonce and keep them (guest/secrets.py).

        The positive control, a marker, passes through guest memory that is shared with the host.
        """
        ...

    def holds(self, nonce: bytes) -> dict[str, bool]:
        """For every place where a secret was planted, whether the guest still has it there."""
        ...

    def write_back(self) -> None:
        """Write cached guest memory back to DRAM, as WBINVD does, because only DRAM is captured."""
        ...

    def word(self) -> GuestWord:
        """What the guest reports about its own memory; call it after ``plant``."""
        ...

    def put(self, source: Path, target: str) -> None:
        """Copy a file from the host into the guest."""
        ...

    def get(self, source: str, target: Path) -> None:
        """Copy a file from the guest to the host."""
        ...

    def ram_blocks(self) -> Sequence[RamBlock]:
        """The guest's RAM as the VMM has it, from the hypervisor itself; in order of ``gpa``."""
        ...

    def private_blocks(self) -> Sequence[RamBlock]:
        """A second mapping of the same guest addresses, where the VMM maps the ciphertext of private pages; else none.

        Only an SEV-SNP guest has one: its private pages are not in ``ram_blocks``.
        """
        ...

    def console(self) -> str:
        """What the guest has printed on its console so far."""
        ...

    def alive(self) -> bool:
        """Whether the guest still runs."""
        ...

    def stop(self) -> None:
        """End the guest and remove its files. Calling it twice is harmless."""
        ...


class Hypervisor(Protocol):
    """Something that can run guests."""

    @property
    def name(self) -> str:
        """``qemu``, ``emulated`` or ``mock``."""
        ...

    def availability(self, mode: Mode) -> Availability:
        """Whether guests of this mode can run here."""
        ...

    def command_line(self, spec: GuestSpec) -> Sequence[str]:
        """The command line that ``launch`` would run, for ``--dry-run``; works on any machine."""
        ...

    def launch(self, spec: GuestSpec, *, detach: bool = False, timeout: float = 120.0) -> Guest:
        """Start a guest and wait until it answers. A detached guest continues after this process has ended."""
        ...

    def launch_many(
        self, specs: Sequence[GuestSpec], *, detach: bool = False, timeout: float = 120.0
    ) -> "Sequence[Guest]":
        """Start several guests at once and wait for all; if one fails, all are stopped."""
        ...
