"""What experiments on a real guest use: the guest, the host's operations on it, and how to capture its memory."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from sevkit.attacks.labs.host import Host
from sevkit.attacks.notebook import Notebook, Observation
from sevkit.errors import InconclusiveError, SevkitError, UsageError
from sevkit.guest.spec import Firmware, GuestSpec
from sevkit.hypervisor.protocols import Guest
from sevkit.hypervisor.qemu.guest import QemuGuest

T = TypeVar("T")
_LOOK_EVERY = 0.5  # seconds


@dataclass
class GuestLab:
    """A running guest and what an experiment may use.

    ``capture`` is ``gcore`` or ``live``; ``keep`` is a folder for cores. ``progress`` is called with one line before
    each part that takes time. ``boot_seconds`` is the boot time of the guest. ``pages`` has the host addresses of pages
    found in this guest, by the name of the file, for the next attack on it. ``as_published``: also run the published
    article's own commands. ``launch`` starts further guests on the same hypervisor.
    """

    guest: Guest
    capture: str = "gcore"
    keep: Path | None = None
    boot_seconds: float = 0.0
    pages: dict[str, int] = field(default_factory=dict)
    progress: Callable[[str], None] = field(default=lambda _: None)
    as_published: bool = False
    launch: Callable[[GuestSpec], Guest] | None = None

    @cached_property
    def host(self) -> Host:
        """The hostile host; raises UsageError for a guest that does not run in QEMU."""
        return Host(self.qemu)

    @property
    def qemu(self) -> QemuGuest:
        """The guest as QEMU's."""
        if not isinstance(self.guest, QemuGuest):
            raise UsageError(f"{self.guest.name} is not a guest in QEMU")
        return self.guest

    @contextmanager
    def another(
        self, *, policy: int | None = None, sev_options: str = "", firmware: Firmware | None = None
    ) -> Iterator["GuestLab"]:
        """A second guest, launched like this one except for policy, firmware, further options; stopped at the end."""
        if self.launch is None:
            raise UsageError("this experiment launches a second guest: perform it with `sevkit attack run`")
        spec = self.guest.spec
        options = ",".join(filter(None, (spec.sev_options, sev_options)))
        self.say("starting a second guest")
        policy = spec.policy if policy is None else policy
        firmware = firmware or spec.firmware
        guest = self.launch(replace(spec, name=f"{spec.name}-2", policy=policy, sev_options=options, firmware=firmware))
        try:
            yield replace(self, guest=guest, pages={}, boot_seconds=0.0)
        finally:
            guest.stop()

    def say(self, text: str) -> None:
        """Report progress, prefixed with the mode of the guest."""
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


def unless_fault(lab: GuestLab, action: Callable[[], T]) -> T | None:
    """What an action on the guest returns; None as soon as a fault has stopped the guest, which then never answers.

    The action waits in a thread of its own, which ends with the guest. Raises what the action raises.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def perform() -> None:
        try:
            results.append(action())
        except SevkitError as error:
            errors.append(error)

    thread = threading.Thread(target=perform, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_LOOK_EVERY)
        if thread.is_alive() and lab.host.fault() is not None:
            return None
    if errors:
        raise errors[0]
    return results[0]


def ended_by_fault(lab: GuestLab, note: Notebook, why: str) -> Observation:
    """Close an experiment whose guest does not answer: stopped if there was a fault, else inconclusive."""
    fault = lab.host.fault()
    if fault is None:
        raise InconclusiveError("the guest did not answer, and no fault has stopped it")
    check, words = fault
    note.guest("The guest's access does not come through; the host sees:", words)
    return note.stopped(check, why)
