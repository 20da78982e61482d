"""What experiments on a real guest stand on: the guest, the host's powers over it, and how to capture its memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from sevkit.attacks.labs.host import Host
from sevkit.attacks.notebook import Notebook, Observation
from sevkit.errors import InconclusiveError, UsageError
from sevkit.hypervisor.protocols import Guest
from sevkit.hypervisor.qemu.guest import QemuGuest


@dataclass
class GuestLab:
    """A running guest and what an experiment may use.

    ``capture`` is ``gcore`` or ``live``; ``keep`` is a folder for cores. ``progress`` hears one line before each part
    that takes time. ``boot_seconds`` is how long the guest took to come up. ``pages`` remembers where the host has
    found pages of this guest, by the name of the file, for the next attack on it.
    """

    guest: Guest
    capture: str = "gcore"
    keep: Path | None = None
    boot_seconds: float = 0.0
    pages: dict[str, int] = field(default_factory=dict)
    progress: Callable[[str], None] = field(default=lambda _: None)

    @cached_property
    def host(self) -> Host:
        """The hostile host; raises UsageError for a guest that is not in QEMU."""
        return Host(self.qemu)

    @property
    def qemu(self) -> QemuGuest:
        """The guest as QEMU's."""
        if not isinstance(self.guest, QemuGuest):
            raise UsageError(f"{self.guest.name} is not a guest in QEMU")
        return self.guest

    def say(self, text: str) -> None:
        """Report progress, with the mode of the guest before it."""
        self.progress(f"{self.guest.spec.mode}: {text}")


def describe(guest: Guest) -> dict[str, Any]:
    """What a reader needs to judge or repeat a run on this guest, as JSON values."""
    return {
        "guest": guest.name,
        "accel": guest.accel,
        "vmm_pid": guest.pid,
        "command_line": list(guest.command_line),
        "confounds": list(guest.confounds),
        "notes": list(guest.notes),
        "versions": dict(guest.versions),
    }


def ended_by_fault(lab: GuestLab, note: Notebook, why: str) -> Observation:
    """Close an experiment whose guest does not answer: stopped by a fault, or else nothing can be said."""
    fault = lab.host.fault()
    if fault is None:
        raise InconclusiveError("the guest did not answer, and no fault has stopped it")
    check, words = fault
    note.guest("The guest's access does not come through; the host sees:", words)
    return note.stopped(check, why)
