"""Workloads on the host itself: one mode, no guest. For A/A controls, and for comparison with guests."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sevkit import processes
from sevkit.bench import facts
from sevkit.bench.campaign import disk as disks
from sevkit.bench.campaign import environment, place, sources
from sevkit.bench.campaign.place import Launch
from sevkit.bench.campaign.plan import Config, Slot
from sevkit.bench.imports.parse import Measured
from sevkit.bench.model import Boot, SlotId
from sevkit.bench.suite import Workload
from sevkit.guest.result import CommandResult
from sevkit.vocabulary import Mode, Provenance


class HostExecutor:
    """Runs workloads as commands of this machine. ``pin`` names the CPUs to run on, empty for any."""

    name = "host"
    emulated = False

    def __init__(self, *, seconds: float, pin: str = "") -> None:
        self._seconds = seconds
        self._pin = pin
        self._others = environment.Others()

    def modes(self, wanted: Sequence[Mode]) -> tuple[list[Mode], dict[str, str]]:
        """The host has one mode: plain."""
        reasons = {str(mode): "--where host measures the host itself" for mode in wanted if mode is not Mode.NOSEV}
        return [Mode.NOSEV], reasons

    def tried(self) -> bool | None:
        """There are no guests whose speed depends on it."""
        return True

    def settle(self) -> None:
        """Nothing to find out."""

    def ready(self, configs: Sequence[Config]) -> None:
        """Nothing to build."""
        del configs

    def open(self, slot: Slot, identity: SlotId, *, steady: bool) -> "HostPlace":
        """Create a scratch directory in place of a boot."""
        del steady
        self._others.spent()  # what others did before is of no concern
        return HostPlace(slot, identity, self._seconds, self._pin, self._others)

    def environment(self) -> dict[str, Any]:
        """The host."""
        return environment.of_host()


class HostPlace:
    """A scratch directory with a file as disk."""

    launch: Launch | None = None

    def __init__(self, slot: Slot, identity: SlotId, seconds: float, pin: str, others: environment.Others) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="sevkit-bench-", ignore_cleanup_errors=True)
        work = Path(self._scratch.name)
        disk = work / "disk.img"
        if needs_disk := any(w.disk for w in slot.config.workloads):
            disks.fill(disk, slot.config.disk_mib)
        self._pin = pin
        self._others = others
        self._setup = place.variables(slot, disk=str(disk), work=str(work), seconds=seconds, scale=place.SCALE)
        self._clock = place.find_clock(self._shell)
        self._work = work
        known = {**environment.host_facts(), "cache": slot.config.cache, "pinned to": pin or "any CPU"}
        if needs_disk:
            known["disk"] = disks.allocated(disk)
        known[facts.WORK_SCALE] = str(place.SCALE)
        surroundings = environment.moment(slot.config.vcpus, others.cpus())
        surroundings["command seconds"] = place.command_seconds(self._shell, self._clock)
        self.boot = Boot(str(identity), Provenance.HARDWARE, known, environment=surroundings)

    def lacks(self, workload: Workload) -> str | None:
        """Why a workload cannot run here."""
        missing = [name for name in workload.needs if not processes.have_tool(name)]
        return f"{', '.join(missing)} is not installed" if missing else None

    def prepare(self, workload: Workload, slot: Slot, seconds: float) -> None:
        """Install the programs and run the preparation."""
        del slot, seconds
        for source in workload.sources:
            (self._work / Path(source).stem).write_bytes(sources.compiled(source).read_bytes())
            (self._work / Path(source).stem).chmod(0o755)
        if workload.prepare:
            place.run_untimed(
                self._shell, self._setup, f"preparing {workload.name}", workload.prepare, workload.timeout
            )

    def measure(self, workload: Workload, slot: Slot, iteration: int) -> list[Measured]:
        """One sample."""
        del slot, iteration
        if workload.before:
            place.run_untimed(
                self._shell, self._setup, f"what comes before {workload.name}", workload.before, workload.timeout
            )
        return [place.run_timed(self._shell, self._clock, self._setup, workload)]

    def others(self) -> tuple[float, float]:
        """What other programs used since the last call."""
        return self._others.spent()

    def finish(self, workload: Workload) -> None:
        """End the daemons that the workload started on this host."""
        place.run_after(self._shell, self._setup, workload)

    def alive(self) -> bool:
        """Always true: the host keeps running."""
        return True

    def close(self) -> None:
        """Remove the scratch directory."""
        self._scratch.cleanup()

    def _shell(self, command: str, timeout: float) -> CommandResult:
        words = ["taskset", "-c", self._pin] if self._pin else []
        words += ["/bin/sh", "-c", command]
        known = {**os.environ, environment.CAMPAIGN: str(os.getpid())}
        done = processes.run(words, timeout=timeout, cwd=Path(self._scratch.name), env=known)
        return CommandResult(done.status, done.stdout, done.stderr)


def spare_cpus(vcpus: int) -> str:
    """The last ``vcpus`` CPUs, to pin guests to; the runner uses the first. Empty if there are too few."""
    allowed = sorted(os.sched_getaffinity(0))
    return ",".join(map(str, allowed[-vcpus:])) if len(allowed) > vcpus else ""
