"""Decide, before anything starts, at which level and on which guest each mode of an attack is performed."""

import secrets as randomness
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sevkit.attacks.experiment import Attack, Form, Mitigation
from sevkit.errors import UnsupportedModeError, UsageError
from sevkit.guest import policy
from sevkit.guest.spec import Accel, Firmware, GuestSpec
from sevkit.hypervisor import select
from sevkit.hypervisor.protocols import Guest, Hypervisor
from sevkit.qemu import capabilities
from sevkit.vocabulary import Level, Mode

HYPERVISORS = {Level.HARDWARE: "qemu", Level.EMULATOR: "emulated", Level.MODEL: "mock"}


@dataclass(frozen=True)
class Target:
    """What to run an attack on. ``level`` None: the strongest one available for each mode.

    ``hypervisor`` names a hypervisor instead of a level. ``capture`` (``gcore`` or ``live``), ``keep`` (a folder for
    cores) and ``as_published`` (also run the article's own commands) are for attacks that capture the VMM's memory;
    ``sev_options`` and ``policy`` (a number or names, see guest/policy.py) are for guests that are encrypted;
    ``mitigations`` and ``seed`` are for the software model. ``timeout``: seconds for the boot of a guest.
    """

    level: Level | None = None
    hypervisor: str | None = None
    spec: GuestSpec = field(default_factory=GuestSpec)
    capture: str = "gcore"
    keep: Path | None = None
    timeout: float = 180.0
    mitigations: frozenset[Mitigation] = frozenset()
    seed: int = 1
    sev_options: str = ""
    policy: str | None = None
    as_published: bool = False


@dataclass(frozen=True)
class Planned:
    """One mode of an attack: its form and the intended ``level``, and for a real guest the hypervisor.

    ``guest``: one that ran before (attacks/running.py); it is not stopped at the end.
    """

    mode: Mode
    level: Level
    form: Form
    choice: select.Choice | None = None
    spec: GuestSpec | None = None
    guest: Guest | None = None

    @property
    def hypervisor(self) -> Hypervisor:
        """What runs the guest."""
        assert self.choice is not None
        return self.choice.hypervisor


def plan(
    attack: Attack,
    modes: Sequence[Mode],
    target: Target,
    *,
    only_show: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Planned]:
    """How each mode will be performed; starts nothing.

    Raises UsageError for options that contradict one another, and UnsupportedModeError if a mode cannot run here.
    ``only_show``: a level that is named need not be available here (for ``--dry-run``).
    """
    _check(attack, modes, target)
    chosen = {mode: _choose(attack, mode, target, only_show, progress) for mode in modes}
    _make_fair(chosen)
    firmware = _firmware(chosen)
    planned = [_planned(attack, mode, target, chosen[mode], firmware) for mode in modes]
    for each in planned:
        if each.spec is not None:
            each.hypervisor.command_line(each.spec)  # raises for what a hypervisor lacks, before the first guest starts
    return planned


def usual_modes(attack: Attack, target: Target) -> list[Mode]:
    """The default modes: nosev and sev, or those that real guests can show instead."""
    usual = [Mode.NOSEV, Mode.SEV]
    named = _named(target)
    if named == "mock" or attack.guest is None:
        return usual
    shown = [mode for mode in usual if attack.has_guest_form(mode)]
    return shown or (usual if named is None else [mode for mode in Mode if attack.has_guest_form(mode)])


def strongest(attack: Attack, target: Target) -> Mode:
    """The strongest mode that real guests can have here; SEV-SNP if the software model runs everything."""
    named = _named(target)
    names = [named] if named is not None else ["qemu", "emulated"]
    for mode in (Mode.SEV_SNP, Mode.SEV_ES, Mode.SEV):
        able = (select.make(name).availability(mode).available for name in names)
        if attack.has_guest_form(mode) and any(able):
            return mode
    return Mode.SEV_SNP


def _check(attack: Attack, modes: Sequence[Mode], target: Target) -> None:
    """Refuse options that would have no effect."""
    named = _named(target)
    on_guest = named is not None and named != "mock"
    if on_guest and attack.guest is None:
        raise UsageError(f"{attack.name} has no form for real guests", hint="--level model")
    if named == "qemu" and Level.HARDWARE not in attack.guest_levels:
        raise UsageError(f"{attack.name} needs what only the emulator's host can do", hint="--level emulator")
    if on_guest and (target.mitigations or target.seed != 1):
        raise UsageError("--mitigations and --seed are for the software model", hint="--level model")
    if target.level is Level.HARDWARE and target.spec.accel is Accel.TCG:
        raise UsageError("--accel tcg contradicts --level hardware", hint="--level emulator, or leave --accel out")
    for mode in modes:
        if on_guest and attack.applies(mode) and not attack.has_guest_form(mode):
            able = ", ".join(each for each in Mode if attack.has_guest_form(each))
            raise UsageError(f"{attack.name} has no form for real guests in mode {mode}", hint=f"modes: {able}")
    if named == "mock" and attack.model is None and not attack.on_mock:
        raise UsageError(f"{attack.name} has no form for the software model", hint="--level emulator or hardware")


def _named(target: Target) -> str | None:
    """The requested hypervisor, by name or by level."""
    if target.level is not None and target.hypervisor is not None:
        raise UsageError("--level and --hypervisor say the same thing: give one of them")
    return HYPERVISORS[target.level] if target.level is not None else target.hypervisor


def _choose(
    attack: Attack, mode: Mode, target: Target, only_show: bool, progress: Callable[[str], None]
) -> select.Choice | None:
    """The hypervisor for the guest of a mode; None: the software model performs the attack, without a guest."""
    named = _named(target)
    if not attack.applies(mode):
        return None
    on_mock = attack.on_mock and not target.mitigations and target.seed == 1
    if named == "mock":
        return select.choose("mock", mode, progress) if on_mock else None
    if named is None:
        return _strongest(attack, mode, target, on_mock, progress)
    if only_show:
        return select.Choice(select.make(named, progress), "asked for", ())
    if target.level is Level.HARDWARE and capabilities.kvm_verdict(capabilities.find_qemu()) is False:
        raise UnsupportedModeError("KVM runs no guests here: level hardware needs it", hint="--level emulator")
    return select.choose(named, mode, progress)


def _strongest(
    attack: Attack, mode: Mode, target: Target, on_mock: bool, progress: Callable[[str], None]
) -> select.Choice | None:
    """The most real way to perform a mode here."""
    if not attack.has_guest_form(mode) or target.mitigations or target.seed != 1:
        return None
    try:
        everywhere = Level.HARDWARE in attack.guest_levels
        choice = select.choose("auto" if everywhere else HYPERVISORS[Level.EMULATOR], mode, progress)
    except UnsupportedModeError:
        if attack.model is None:
            raise
        return None
    return None if choice.hypervisor.name == "mock" and not on_mock else choice


def _make_fair(chosen: dict[Mode, select.Choice | None]) -> None:
    """If the emulator runs an encrypted mode, let it run the plain guest too: then the pair is fair."""
    emulator = next((c for c in chosen.values() if c is not None and c.hypervisor.name == "emulated"), None)
    if emulator is not None and chosen.get(Mode.NOSEV) is not None:
        able = emulator.hypervisor.availability(Mode.NOSEV)
        chosen[Mode.NOSEV] = select.Choice(emulator.hypervisor, able.reason, ())


def _firmware(chosen: Mapping[Mode, select.Choice | None]) -> Firmware | None:
    """The firmware of all guests of a run, which then differ only in the mode; None if no real guest is encrypted."""
    names = {m: c.hypervisor.name for m, c in chosen.items() if c is not None and m is not Mode.NOSEV}
    if names.get(Mode.SEV_SNP) == "emulated":
        return Firmware.OVMF_SNP
    return Firmware.OVMF if set(names.values()) - {"mock"} else None


def _planned(
    attack: Attack, mode: Mode, target: Target, choice: select.Choice | None, firmware: Firmware | None
) -> Planned:
    if choice is None:
        return Planned(mode, target.level or Level.MODEL, Form.MODEL)
    spec = replace(target.spec, name=f"{attack.name}-{mode}-{randomness.token_hex(4)}", mode=mode)
    real = choice.hypervisor.name != "mock"  # the mock boots neither image nor firmware
    if real and attack.image is not None and spec.image == GuestSpec().image and spec.kernel is None:
        spec = replace(spec, image=attack.image)
    if mode is not Mode.NOSEV:
        chosen = policy.parse(target.policy, mode) if target.policy else spec.policy
        spec = replace(spec, sev_options=target.sev_options, policy=chosen)
    if real:
        spec = replace(spec, firmware=spec.firmware or firmware)
    if target.level is Level.HARDWARE and spec.accel is Accel.AUTO:
        spec = replace(spec, accel=Accel.KVM)
    return Planned(mode, _level(choice.hypervisor.name, spec), Form.GUEST, choice, spec)


def _level(hypervisor: str, spec: GuestSpec) -> Level:
    """The level that a guest will have; a plain guest of stock QEMU without KVM is emulated."""
    if hypervisor == "qemu":
        return Level.EMULATOR if spec.accel is Accel.TCG else Level.HARDWARE
    return Level.MODEL if hypervisor == "mock" else Level.EMULATOR
