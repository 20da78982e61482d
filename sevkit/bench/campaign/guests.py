"""Workloads in guests: one boot of a slot, with further guests beside it if co-located guests are requested."""

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from sevkit import processes
from sevkit.bench import factors
from sevkit.bench.campaign import counters, environment, place, sources
from sevkit.bench.campaign import disk as disks
from sevkit.bench.campaign.place import Launch
from sevkit.bench.campaign.plan import Config, Slot
from sevkit.bench.campaign.traffic import HOST_IN_GUEST, Traffic
from sevkit.bench.imports.parse import Measured
from sevkit.bench.model import Boot, SlotId
from sevkit.bench.suite import Workload
from sevkit.errors import GuestError, SevkitError, UsageError
from sevkit.guest import image as images
from sevkit.guest.result import CommandResult
from sevkit.guest.spec import Firmware, GuestSpec, Storage, StorageKind
from sevkit.hypervisor import select
from sevkit.hypervisor.protocols import Guest, Hypervisor
from sevkit.qemu import capabilities
from sevkit.vocabulary import Mode

_BOOT_TIMEOUT = 300.0
_END_WITHIN = 10.0  # seconds in which a launch fails whose guest was killed
_KILL_EVERY = 0.1
_DISK_SERIAL = "sevkit-data"  # the name that argv.py gives the data disk
_FIND_DISK = (
    "for d in /sys/block/*; do cat $d/serial $d/device/serial $d/device/vpd_pg80 2>/dev/null"
    f" | grep -q {_DISK_SERIAL} && echo /dev/${{d##*/}}; done; true"
)
_PHASES = "cat /proc/uptime; dmesg | grep 'as init process'"
_SPEED = re.compile(r"^\[\s*([\d.]+)\].*as init process", re.MULTILINE)


class GuestExecutor:
    """Boots guests. All arms use the same hypervisor, so that they differ only in the mode."""

    name = "guest"

    def __init__(
        self,
        hypervisor: str,
        *,
        seconds: float,
        pin: str = "",
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._wanted = hypervisor
        self._seconds = seconds
        self._pin = pin
        self._progress = progress
        self._firmware: Firmware | None = None
        self._quick_clock = False
        self._hypervisor: Hypervisor | None = None
        self._others = environment.Others()

    @property
    def emulated(self) -> bool:
        """Whether guests run without KVM."""
        return self.tried() is False  # a KVM that nobody has tried counts as one that works, until `settle`

    def tried(self) -> bool | None:
        """Whether guests run with KVM; None if nobody has tried: some hosts make a VM that runs no guest."""
        name = self._hypervisor.name if self._hypervisor is not None else self._wanted
        return False if name == "emulated" else capabilities.kvm_verdict(capabilities.find_qemu())

    def settle(self) -> None:
        """Boot the smallest guest if nobody has tried KVM: limits and estimates differ by a factor of ten."""
        if self.tried() is not None:
            return
        hypervisor = self._hypervisor or select.make("qemu", self._progress)
        hypervisor.launch(GuestSpec(name=f"bench-{os.getpid()}-kvm"), timeout=_BOOT_TIMEOUT).stop()

    def modes(self, wanted: Sequence[Mode]) -> tuple[list[Mode], dict[str, str]]:
        """The modes that one hypervisor runs here: of the available ones, the hypervisor with the most modes."""
        names = select.NAMES[:2] if self._wanted == "auto" else (self._wanted,)
        best: tuple[list[Mode], dict[str, str]] = ([], {})
        for name in names:
            hypervisor = select.make(name, self._progress)
            answers = [hypervisor.availability(mode) for mode in wanted]
            able = [a.mode for a in answers if a.available]
            if len(able) > len(best[0]) or self._hypervisor is None:
                best = able, {str(a.mode): a.reason for a in answers if not a.available}
                self._hypervisor = hypervisor
        if any(mode is not Mode.NOSEV for mode in best[0]):
            self._firmware = Firmware.OVMF
            if Mode.SEV_SNP in best[0] and self.emulated:
                self._firmware = Firmware.OVMF_SNP
        return best

    def ready(self, configs: Sequence[Config]) -> None:
        """Build the images now: the first boot's time must not include it."""
        for image in sorted({config.image for config in configs}):
            images.get(image, progress=self._progress)

    def open(self, slot: Slot, identity: SlotId, *, steady: bool) -> "GuestPlace":
        """Boot the guests of a slot, each with a disk of random data."""
        if self._hypervisor is None:
            self.modes([slot.arm.mode])
        assert self._hypervisor is not None
        self._others.spent()  # what others did before is of no concern
        guests: list[Guest] = []
        # The threads live as long as the guests: a child is killed when the thread that started it ends (prctl(2)).
        pool = ThreadPoolExecutor(slot.config.guests)
        scratch = tempfile.TemporaryDirectory(prefix="sevkit-bench-", ignore_cleanup_errors=True)
        held = Held(pool, scratch, Traffic() if any(w.network for w in slot.config.workloads) else None)
        try:
            specs = [self._spec(slot, index, Path(scratch.name)) for index in range(slot.config.guests)]
            started = time.monotonic()
            guests = launched(self._hypervisor, pool, specs)
            seconds = time.monotonic() - started
            made = GuestPlace(guests, slot, identity, held, seconds, self._seconds, self._pin, self._others)
            if steady:
                self._check_clock(made)
        except BaseException:
            for guest in guests:
                guest.stop()
            held.close()
            raise
        return made

    def _check_clock(self, made: "GuestPlace") -> None:
        """Reject a boot whose kernel dropped its usual clock, as it does when the host delays the guest."""
        clock = made.boot.facts.get("guest clock", "")
        slow = clock in environment.SLOW_CLOCKS
        self._quick_clock = self._quick_clock or not slow
        if slow and self._quick_clock:
            raise place.UnsteadyBootError(f"the guest's clock fell back to {clock}")

    def environment(self) -> dict[str, Any]:
        """The host and the hypervisor."""
        name = self._hypervisor.name if self._hypervisor is not None else self._wanted
        return {**environment.of_host(), "hypervisor": name}

    def _spec(self, slot: Slot, index: int, scratch: Path) -> GuestSpec:
        spec = spec_of(slot.config, slot.arm.mode, firmware=self._firmware)
        if spec.storage.kind is not StorageKind.NONE:
            disk = scratch / f"disk{index}.img"
            disks.fill(disk, slot.config.disk_mib)
            spec = replace(spec, storage=replace(spec.storage, path=disk))
        return replace(spec, name=f"bench-{os.getpid()}-{slot.config.index}-{slot.boot}-{index}")


def launched(hypervisor: Hypervisor, pool: ThreadPoolExecutor, specs: Sequence[GuestSpec]) -> list[Guest]:
    """Start guests at the same time; raises the first error, and leaves no guest behind."""
    launches = [pool.submit(hypervisor.launch, spec, timeout=_BOOT_TIMEOUT) for spec in specs]
    try:
        done = wait(launches, return_when=FIRST_EXCEPTION).done
        if failed := [error for job in done if (error := job.exception()) is not None]:
            raise failed[0]
        return [job.result() for job in launches]
    except BaseException:
        # Also when interrupted: a thread that waits for its guest would keep the process alive until the deadline.
        for job in launches:
            job.cancel()
        deadline = time.monotonic() + _END_WITHIN
        while wait(launches, timeout=_KILL_EVERY).not_done and time.monotonic() < deadline:
            _kill([spec.name for spec in specs])
        for job in launches:
            if job.done() and not job.cancelled() and job.exception() is None:
                job.result().stop()
        raise


def _kill(names: Sequence[str]) -> None:
    """End the children of this process that run the guests of these names."""
    wanted = {f"sevkit-{name}" for name in names}
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if wanted & set(child.cmdline()):
                    child.kill()


def spec_of(config: Config, mode: Mode, *, firmware: Firmware | None) -> GuestSpec:
    """The guest of a configuration. With a ``firmware`` the plain guest boots with the same as the encrypted ones."""
    needs_disk = any(w.disk for w in config.workloads)
    storage = Storage()
    if needs_disk:
        storage = Storage(StorageKind(config.storage), size_mib=config.disk_mib, cache=config.cache)
    spec = GuestSpec(
        mode=mode,
        image=config.image,
        memory_mib=config.memory_mib,
        vcpus=config.vcpus,
        storage=storage,
        outgoing=any(w.network for w in config.workloads),
        firmware=firmware,
    )
    return spec if config.switch is None else factors.applied(spec, config.switch)


@dataclass(frozen=True)
class Held:
    """What guests need while they run: the threads that started them, the folder of their disks, a server."""

    pool: ThreadPoolExecutor
    scratch: "tempfile.TemporaryDirectory[str]"
    traffic: Traffic | None

    @property
    def network(self) -> str:
        """Address and port of the server of network workloads, as a guest sees them."""
        return "" if self.traffic is None else f"{HOST_IN_GUEST} {self.traffic.port}"

    def close(self) -> None:
        """Release everything."""
        if self.traffic is not None:
            self.traffic.close()
        self.scratch.cleanup()
        self.pool.shutdown(wait=False, cancel_futures=True)


class GuestPlace:
    """The guests of one boot."""

    def __init__(
        self,
        guests: list[Guest],
        slot: Slot,
        identity: SlotId,
        held: Held,
        boot_seconds: float,
        seconds: float,
        pin: str,
        others: environment.Others,
    ) -> None:
        self._guests = guests
        self._held = held
        self._pool = held.pool
        self._others = others
        for guest in guests:
            pin_process(guest.pid, pin)
        first = guests[0]
        self.launch: Launch | None = Launch(
            boot_seconds, phases(self._shell(first), boot_seconds), counters.footprint(first)
        )
        self._clock = place.find_clock(self._shell(first))
        scale = 1 if first.accel == "tcg" else place.SCALE
        disk = self._shell(first)(_FIND_DISK, 20).text.strip() if slot.config.storage else ""
        self._setup = place.variables(slot, disk=disk, work="/tmp", seconds=seconds, scale=scale)  # noqa: S108 - in the guest
        self._setup += f"export NETWORK='{held.network}'; "
        seen = environment.of_guest(self._shell(first)(environment.GUEST_PROBE, 30).text)
        if slot.config.switch is not None and (reason := factors.unseen(slot.config.switch, seen)) is not None:
            raise GuestError(f"the factor {slot.config.switch} had no effect: {reason}")
        drives = sorted(Path(held.scratch.name).glob("*.img"))
        allocation = disks.allocated(drives[0]) if drives else "none"
        more = {"disk": allocation, "work scale": str(scale)}
        moment = environment.moment(slot.config.vcpus * slot.config.guests, others.cpus())
        self.boot = _boot(first, slot, identity, {**moment, **seen, **self._empty_command()}, pin, more)
        self._missing = self._find_missing(slot.order)
        self._installed: set[str] = set()

    def _find_missing(self, workloads: Sequence[Workload]) -> frozenset[str]:
        """The programs and devices that workloads need and the guest does not have: one question for all of them."""
        programs = " ".join(sorted({name for w in workloads for name in w.needs}))
        devices = " ".join(sorted({w.device for w in workloads if w.device}))
        script = (
            f"for name in {programs}; do command -v $name >/dev/null || echo $name; done; "
            f"for name in {devices}; do test -e $name || echo $name; done"
        )
        return frozenset(self._shell(self._guests[0])(script, 20).text.split())

    def _empty_command(self) -> dict[str, Any]:
        """What a command that does nothing takes and counts: it is in every sample."""
        first = self._guests[0]
        before = counters.read(first)
        seconds = place.command_seconds(self._shell(first), self._clock)
        counted = counters.between(before, counters.read(first))
        each = {name: count / place.EMPTY_COMMANDS for name, count in counted.items()}
        return {"command seconds": seconds, **({"command counted": each} if each else {})}

    def lacks(self, workload: Workload) -> str | None:
        """Why a workload cannot run in this image."""
        if workload.device in self._missing:
            return f"the guest has no {workload.device}"
        missing = [name for name in workload.needs if name in self._missing]
        return f"the image has no {', '.join(missing)}" if missing else None

    def prepare(self, workload: Workload, slot: Slot, seconds: float) -> None:
        """Copy programs into the guests, each once per boot, and run the preparation."""
        del slot, seconds
        new = [source for source in workload.sources if source not in self._installed]
        for guest in self._guests:
            for source in new:
                guest.put(sources.compiled(source), f"/tmp/{Path(source).stem}")  # noqa: S108 - in the guest
            if workload.prepare:
                what = f"preparing {workload.name}"
                place.run_untimed(self._shell(guest), self._setup, what, workload.prepare, workload.timeout)
        self._installed.update(new)

    def measure(self, workload: Workload, slot: Slot, iteration: int) -> list[Measured]:
        """One sample of each guest, all at the same time."""
        del slot, iteration
        if workload.before:
            for guest in self._guests:
                what = f"what comes before {workload.name}"
                place.run_untimed(self._shell(guest), self._setup, what, workload.before, workload.timeout)
        counted = [counters.read(guest) for guest in self._guests]
        jobs = [
            self._pool.submit(place.run_timed, self._shell(guest), self._clock, self._setup, workload)
            for guest in self._guests
        ]
        measured = [job.result() for job in jobs]
        return [
            replace(one, counted=counters.between(before, counters.read(guest)))
            for one, before, guest in zip(measured, counted, self._guests, strict=True)
        ]

    def others(self) -> tuple[float, float]:
        """What other programs of the host used since the last call."""
        return self._others.spent()

    def finish(self, workload: Workload) -> None:
        """End the daemons that the workload started: they would disturb those after it."""
        for guest in self._guests:
            place.run_after(self._shell(guest), self._setup, workload)

    def alive(self) -> bool:
        """Whether all guests still run."""
        return all(guest.alive() for guest in self._guests)

    def close(self) -> None:
        """Stop the guests."""
        for guest in self._guests:
            guest.stop()
        self._held.close()

    @staticmethod
    def _shell(guest: Guest) -> place.Shell:
        def run(command: str, timeout: float) -> CommandResult:
            return guest.run(command, timeout=timeout)

        return run


def phases(shell: place.Shell, total: float) -> dict[str, float]:
    """The phases of a boot: VMM and firmware, kernel, init; from the guest's uptime and kernel log."""
    with contextlib.suppress(SevkitError, ValueError, IndexError):
        text = shell(_PHASES, 20).text
        up = float(text.split()[0])
        match = _SPEED.search(text)
        kernel = float(match.group(1)) if match else up
        return {"vmm_firmware": max(0.0, total - up), "kernel": kernel, "init": max(0.0, up - kernel)}
    return {}


def pin_process(pid: int, cpus: str) -> None:
    """Keep all threads of a process on these CPUs (``2,3``); raises UsageError if they are not available."""
    if not cpus or pid <= 0:
        return
    try:
        chosen = {int(cpu) for cpu in cpus.split(",")}
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), chosen)
    except (ValueError, OSError) as error:
        raise UsageError(f"the guest could not be pinned to CPUs {cpus}: {error}", hint="see --pin") from error


def _boot(guest: Guest, slot: Slot, identity: SlotId, seen: dict[str, Any], pin: str, more: dict[str, str]) -> Boot:
    config = slot.config
    forced = list(guest.confounds)
    facts = {
        **environment.host_facts(),
        **environment.guest_facts(seen),
        "accel": guest.accel,
        "QEMU": environment.version(guest.command_line[0]),
        "firmware": environment.firmware(guest.command_line),
        "memory": f"{config.memory_mib} MiB",
        "cache": config.cache,
        "image": config.image,
        **more,
        "pinned to": pin or "any CPU",
    }
    avoidable = tuple(text for text in forced if text.startswith("firmware:"))
    surroundings = {
        **seen,
        "QEMU": facts["QEMU"],
        "firmware": facts["firmware"],
        "guest vCPUs": config.vcpus,
        "guest memory": f"{config.memory_mib} MiB",
        "command line": processes.pasteable(guest.command_line),
    }
    if compiled := images.sources(config.image):
        surroundings["sources"] = compiled
    if inherent := [text for text in forced if text not in avoidable]:
        surroundings["belongs to the mode"] = inherent
    return Boot(str(identity), guest.provenance, facts, avoidable, surroundings)
