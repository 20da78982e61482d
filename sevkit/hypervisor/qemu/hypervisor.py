"""QEMU as hypervisor: stock QEMU on this host's hardware, and the same QEMU with the emulator's engine."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sevkit import processes, procfs
from sevkit.errors import HypervisorError, MissingToolError, UsageError
from sevkit.guest import cloud, policy
from sevkit.guest import firmware as firmwares
from sevkit.guest import image as images
from sevkit.guest import kernel as kernels
from sevkit.guest import spec as spec_module
from sevkit.guest.spec import Accel, Firmware, GuestSpec, StorageKind
from sevkit.hypervisor import registry
from sevkit.hypervisor.protocols import Availability
from sevkit.hypervisor.qemu import firmware_model, prepare
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.qemu import argv as argv_builder
from sevkit.qemu import capabilities as capabilities_of
from sevkit.qemu import domain_xml
from sevkit.qemu.argv import Capabilities, Encryption, LaunchFiles
from sevkit.vocabulary import Mode, Provenance

if TYPE_CHECKING:
    import subprocess

# Seconds after which a kernel under KVM that has printed nothing is assumed to hang.
_KVM_PATIENCE = 8.0

Progress = Callable[[str], None]


class QemuHypervisor:
    """Runs guests in a QEMU binary. ``emulated``: the binary has the memory-encryption engine."""

    def __init__(self, binary: str | None = None, *, name: str = "qemu", progress: Progress | None = None) -> None:
        self.name = name
        self._binary = binary
        self._progress = progress or (lambda _: None)

    def _capabilities(self) -> Capabilities:
        return capabilities_of.of_binary(self._binary or capabilities_of.find_qemu())

    def availability(self, mode: Mode) -> Availability:
        """Whether this QEMU can run guests of ``mode`` here; asks the binary and the host."""
        try:
            able = self._capabilities()
        except MissingToolError as error:
            return Availability(mode, False, error.message)
        if mode is Mode.NOSEV:
            return Availability(mode, True, f"QEMU {able.version}")
        if able.emulates_sev:
            works = mode in able.emulated_modes
            return Availability(mode, works, "emulated" if works else f"this build of the emulator does not do {mode}")
        if capabilities_of.kvm_verdict(able.binary) is False:
            return Availability(mode, False, "KVM runs no guests here, and SEV needs it")
        if not Path("/dev/sev").exists():
            return Availability(mode, False, "/dev/sev does not exist: no SEV firmware driver on this host")
        if argv_builder.SEV_OBJECT[mode] not in able.objects:
            return Availability(mode, False, f"QEMU {able.version} has no object {argv_builder.SEV_OBJECT[mode]}")
        if _kvm_amd_parameter(mode).startswith(("N", "0")):
            return Availability(mode, False, f"kvm_amd has {mode} switched off")
        if capabilities_of.encryption(able.binary) is None:
            return Availability(mode, False, "QEMU reports no SEV capabilities on this host")
        return Availability(mode, True, "QEMU and this host offer SEV")

    def command_line(self, spec: GuestSpec) -> Sequence[str]:
        """The command line for ``spec`` on any machine; values unknown on this host are placeholders to replace."""
        spec, able, accel, place, known = self._assumed(spec)
        return argv_builder.build(spec, able, accel, place, known or argv_builder.UNKNOWN_ENCRYPTION)

    def domain(self, spec: GuestSpec) -> str:
        """The libvirt domain for ``spec``; raises UsageError for options that libvirt cannot express."""
        spec, able, accel, place, known = self._assumed(spec)
        if able.emulates_sev or self.name == "emulated":
            raise UsageError("libvirt does not know the emulator's objects", hint="--hypervisor qemu")
        return domain_xml.build(spec, able.binary, accel, place, known)

    def _assumed(self, spec: GuestSpec) -> tuple[GuestSpec, Capabilities, Accel, LaunchFiles, Encryption | None]:
        """What a launch would use here, assuming that QEMU has the objects that the mode needs."""
        try:
            able = self._capabilities()
        except MissingToolError:
            able = Capabilities("qemu-system-x86_64", "unknown", frozenset())
        emulates = self.name == "emulated" or able.emulates_sev
        accel = _engine_accel(spec) if emulates else self._shown_accel(spec, able)
        known = self._encryption(spec, able) if spec.mode is not Mode.NOSEV and able.objects else None
        present = argv_builder.EMULATED_OBJECTS if emulates else argv_builder.HARDWARE_OBJECTS
        assumed = replace(able, objects=able.objects | present)
        image = images.expected(spec.image)
        spec = prepare.settled(spec, image, emulated=emulates)
        prepare.check_least(spec)
        return spec, assumed, accel, self._place(spec, image, assumed, assume=True), known

    def launch(self, spec: GuestSpec, *, detach: bool = False, timeout: float = 120.0) -> QemuGuest:
        """Start a guest and wait until its agent answers."""
        return self.launch_many([spec], detach=detach, timeout=timeout)[0]

    def launch_many(
        self, specs: Sequence[GuestSpec], *, detach: bool = False, timeout: float = 120.0
    ) -> list[QemuGuest]:
        """Start several guests at once and wait for all; when one fails, all that were started are stopped."""
        guests: list[QemuGuest] = []
        try:
            for spec in specs:
                guests.append(self._start(spec, self._accel(spec), detach))  # noqa: PERF401 - those before a failure count
            for index in range(len(guests)):
                self._settle(guests, index, detach, timeout)
        except BaseException:
            for guest in guests:
                guest.stop()
            raise
        return guests

    def restore(self, spec: GuestSpec, state: str, *, timeout: float = 120.0) -> QemuGuest:
        """Start a detached guest from a saved state (QEMU's -incoming), and wait until its agent answers."""
        guest = self._start(spec, self._accel(spec), detach=True, more=("-incoming", state))
        try:
            guest.wait_ready(timeout)
            guest.check_restored()
        except BaseException:
            guest.stop()
            raise
        return guest

    def _accel(self, spec: GuestSpec) -> Accel:
        able = self._capabilities()
        if able.emulates_sev:
            return _engine_accel(spec)
        if spec.accel is not Accel.AUTO:
            return spec.accel
        return Accel.TCG if capabilities_of.kvm_verdict(able.binary) is False else Accel.KVM

    def _shown_accel(self, spec: GuestSpec, able: Capabilities) -> Accel:
        """What a launch would take; KVM for a guest of another host: one with SEV, and where there is no QEMU."""
        if spec.accel is Accel.AUTO and (spec.mode is not Mode.NOSEV or not able.objects):
            return Accel.KVM
        return self._accel(spec)

    def _settle(self, guests: list[QemuGuest], index: int, detach: bool, timeout: float) -> None:
        """Wait for a guest; with ``accel=auto``, if it does not boot under KVM, start it again under TCG."""
        guest = guests[index]
        spec = guest.spec
        binary = guest.command_line[0]
        trying = spec.accel is Accel.AUTO and guest.accel == "kvm" and capabilities_of.kvm_verdict(binary) is None
        if trying and not self._comes_up(guest):
            self._progress("KVM does not run a guest here: falling back to TCG")
            capabilities_of.remember_kvm(binary, works=False)
            guest.stop()
            if spec.mode is not Mode.NOSEV:
                raise HypervisorError("KVM does not run a guest here, and SEV needs it")
            guest = guests[index] = self._start(spec, Accel.TCG, detach)
        guest.wait_ready(timeout)
        guest.set_up()
        if guest.spec.mode is not Mode.NOSEV and guest.encrypted_by_engine:
            guest.note_weak_cache()
        if trying and guest.accel == "kvm":
            capabilities_of.remember_kvm(binary, works=True)

    def _comes_up(self, guest: QemuGuest) -> bool:
        self._progress("trying KVM")
        deadline = time.monotonic() + _KVM_PATIENCE
        while time.monotonic() < deadline and guest.alive():
            if guest.console():
                return True
            time.sleep(0.05)
        return False

    def _start(self, spec: GuestSpec, accel: Accel, detach: bool, more: Sequence[str] = ()) -> QemuGuest:
        able = self._capabilities()
        image = images.get(spec.image, progress=self._progress)
        spec = prepare.settled(spec, image, emulated=able.emulates_sev)
        prepare.check_memory(spec)
        folder = registry.claim(spec.name)
        started: list[subprocess.Popen[bytes]] = []
        try:
            place = self._place(spec, image, able)
            prepare.check_sockets(place)
            prepare.check_hashes(spec, place)
            if place.data_disk is not None and spec.storage.path is None:
                prepare.scratch_disk(place.data_disk, spec.storage.size_mib)
            for folder_shared, disk in zip(spec.shares, place.shares, strict=True):
                prepare.share_disk(folder_shared, disk)
            prepare.write_initrd(spec, image, place)
            if place.seed is not None:
                cloud.write_seed(place.seed, spec.name)
            command = [*argv_builder.build(spec, able, accel, place, self._encryption(spec, able)), *more]
            if place.firmware_model is not None:
                started.append(firmware_model.start(folder, spec.platform_seed, detach=detach))
            with (folder / "qemu.log").open("wb") as log:
                start = processes.start(command, stdout=log, stderr=log, detach=detach, mark=registry.mark(folder))
            started.insert(0, start)
            record = self._record(spec, accel, able, command, start.pid, detach)
            registry.write(record)
        except BaseException:
            for process in started:
                processes.stop(process)
            registry.forget(spec.name)
            raise
        return QemuGuest(record, spec, started)

    def _record(
        self, spec: GuestSpec, accel: Accel, able: Capabilities, command: list[str], pid: int, detach: bool
    ) -> registry.Record:
        tcg = accel is Accel.TCG
        notes = [] if spec.accel is not Accel.AUTO or not tcg or able.emulates_sev else ["KVM runs no guests here: TCG"]
        if spec.mode is not Mode.NOSEV:
            value = spec.policy if spec.policy is not None else policy.DEFAULTS[spec.mode]
            notes += policy.check(value, spec.mode)
            notes += _cpu_notes(spec, able)
        notes += [] if spec.kernel is None else [kernels.note(spec.kernel)]
        notes += [] if spec.has_agent else ["no agent in this guest: use `sevkit guest console` and `guest log`"]
        return registry.Record(
            name=spec.name,
            hypervisor=self.name,
            mode=str(spec.mode),
            provenance=str(Provenance.EMULATED if tcg else Provenance.HARDWARE),
            accel=str(accel),
            pid=pid,
            start_time=procfs.process_start_time(pid) or 0,
            detached=detach,
            command_line=command,
            spec=spec_module.to_dict(spec),
            notes=notes,
        )

    def _encryption(self, spec: GuestSpec, able: Capabilities) -> Encryption | None:
        if spec.mode is Mode.NOSEV:
            return None
        return capabilities_of.encryption(able.binary, accel="tcg" if able.emulates_sev else "kvm")

    def _place(self, spec: GuestSpec, image: images.Image, able: Capabilities, *, assume: bool = False) -> LaunchFiles:
        if spec.platform_seed and not _has_firmware_model(spec, able):
            raise UsageError(
                "only the emulated SEV-SNP platform has keys that a seed can give",
                hint="leave --platform-seed out, or add --hypervisor emulated --mode sev-snp",
            )
        folder = registry.folder(spec.name)
        data = None if spec.storage.kind is StorageKind.NONE else spec.storage.path or folder / "data.img"
        return LaunchFiles(
            kernel=None if spec.cdrom else spec.kernel or image.kernel,
            initrd=None if spec.cdrom else prepare.initrd_of(spec, image, folder),
            root_disk=None if spec.cdrom else image.root_disk,
            root_format=image.root_format,
            seed=None if image.kernel else folder / "seed.iso",
            cdrom=spec.cdrom,
            shares=tuple(folder / f"share{number}.img" for number in range(len(spec.shares))),
            firmware=self._firmware(spec, able, assume),
            qmp=folder / "qmp",
            agent=folder / "agent",
            console=folder / "console",
            console_log=folder / "console.log",
            data_disk=data,
            firmware_search=_blob_folders() if able.emulates_sev else (),
            firmware_model=folder / firmware_model.SOCKET if _has_firmware_model(spec, able) else None,
        )

    def _firmware(self, spec: GuestSpec, able: Capabilities, assume: bool) -> Path | None:
        """The firmware file; None for SeaBIOS. With ``assume``, the path that it would have, without fetching it."""
        if argv_builder.firmware_of(spec) is Firmware.SEABIOS:
            return None
        same = spec.firmware is Firmware.OVMF_SNP
        mode, emulated = (Mode.SEV_SNP, True) if same else (spec.mode, able.emulates_sev)
        return firmwares.find(mode, emulated=emulated, fetch=not assume, progress=self._progress)


def _engine_accel(spec: GuestSpec) -> Accel:
    """TCG; raises UsageError if the spec asks for KVM, whether the guest is launched or only shown."""
    if spec.accel is Accel.KVM:
        raise UsageError("the emulator's engine works under TCG only", hint="leave --accel out")
    return Accel.TCG


def attach(record: registry.Record) -> QemuGuest:
    """A guest that another process has started, from its record."""
    return QemuGuest(record, spec_module.from_dict(record.spec))


def _has_firmware_model(spec: GuestSpec, able: Capabilities) -> bool:
    """Whether a process of sevkit signs reports for the guest: only for emulated guests of a mode that has reports."""
    return spec.mode is Mode.SEV_SNP and able.emulates_sev


def _cpu_notes(spec: GuestSpec, able: Capabilities) -> list[str]:
    """Warnings about a CPU model that the user chose."""
    at_risk = able.emulates_sev and spec.mode in (Mode.SEV_ES, Mode.SEV_SNP) and spec.cpu is not None
    missing = [word for word in ("monitor=off", "la57=off") if at_risk and word not in (spec.cpu or "")]
    return [f"the CPU model lacks {', '.join(missing)}: guests may die early in their boot"] if missing else []


def _kvm_amd_parameter(mode: Mode) -> str:
    """The parameter of kvm_amd for a mode (Y or N, 1 or 0); empty if there is none."""
    try:
        return Path(f"/sys/module/kvm_amd/parameters/{mode.replace('-', '_')}").read_text().strip()
    except OSError:
        return ""


def _blob_folders() -> tuple[Path, ...]:
    """Where distributions install SeaBIOS and option ROMs: an emulator built from source has none."""
    return tuple(path for path in map(Path, ("/usr/share/seabios", "/usr/share/qemu")) if path.is_dir())
