"""Choose a hypervisor: by name, or the one closest to hardware that can run a mode here."""

from collections.abc import Callable
from dataclasses import dataclass

from sevkit.errors import UnsupportedModeError, UsageError
from sevkit.guest.spec import Accel, GuestSpec
from sevkit.hypervisor import registry
from sevkit.hypervisor.protocols import Availability, Guest, Hypervisor
from sevkit.qemu import capabilities
from sevkit.vocabulary import Mode

NAMES = ("qemu", "emulated", "mock")


@dataclass(frozen=True)
class Choice:
    """A hypervisor, the reason why it was chosen, and those that were rejected."""

    hypervisor: Hypervisor
    reason: str
    passed_over: tuple[str, ...]


def make(name: str, progress: Callable[[str], None] | None = None) -> Hypervisor:
    """The hypervisor of that name."""
    if name == "mock":
        from sevkit.hypervisor.mock.hypervisor import MockHypervisor

        return MockHypervisor()
    if name == "emulated":
        from sevkit.hypervisor.qemu.emulated import emulated

        return emulated(progress)
    if name == "qemu":
        from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor

        return QemuHypervisor(progress=progress)
    raise UsageError(f"there is no hypervisor {name!r}", hint=f"hypervisors: auto, {', '.join(NAMES)}")


def choose(name: str, mode: Mode, progress: Callable[[str], None] | None = None, *, real: bool = False) -> Choice:
    """The hypervisor called ``name``, or for ``auto`` the first of hardware, emulator, mock that runs ``mode`` here.

    With ``real``, ``auto`` never chooses the mock: a test that passes without a real guest is worse than a failure.
    Raises UnsupportedModeError with each reason if no hypervisor can run the mode.
    """
    names = (name,) if name != "auto" else NAMES[:-1] if real else NAMES
    passed: list[str] = []
    for candidate in names:
        hypervisor = make(candidate, progress)
        able = hypervisor.availability(mode)
        if able.available:
            return Choice(hypervisor, able.reason, tuple(passed))
        passed.append(f"{candidate}: {able.reason}")
    raise UnsupportedModeError(
        f"no hypervisor here runs mode {mode}: {'; '.join(passed)}",
        hint=_hint(name, real),
    )


def planned(name: str, spec: GuestSpec) -> tuple[Hypervisor, Availability]:
    """What would launch a guest here, and whether it can: for ``auto`` as ``choose`` does it, but never the mock.

    If nothing here runs the guest, QEMU stands in, whose command line serves on another host.
    """
    try:
        chosen = choose(name, spec.mode, real=True).hypervisor if name == "auto" else make(name)
    except UnsupportedModeError:
        chosen = make("qemu")
    able = chosen.availability(spec.mode)
    if able.available and chosen.name == "qemu" and spec.accel is Accel.KVM:
        works = capabilities.kvm_verdict(capabilities.find_qemu()) is not False
        able = able if works else Availability(spec.mode, False, "KVM runs no guests here")
    return chosen, able


def _hint(name: str, real: bool) -> str | None:
    if name != "auto":
        return "--hypervisor auto takes the most real one that can"
    return "`make emulator` builds the emulator; --hypervisor mock takes the software model instead" if real else None


def attach(name: str) -> Guest:
    """A running guest that this or another process has launched; raises UsageError if there is none of that name."""
    record = registry.read(name)
    if record.hypervisor == "mock":
        from sevkit.hypervisor.mock import hypervisor as mock

        return mock.attach(record)
    from sevkit.hypervisor.qemu import hypervisor as qemu

    return qemu.attach(record)
