"""The published experiment: dump the VMM's memory as the host can, and look for the guest's secret in it.

Setup: a guest derives secrets from a public nonce and keeps them in its page cache, in anonymous memory, in a
process's environment and in the kernel's log. Prediction: the plain guest leaks them; an encrypted one shows ciphertext
(SEV, SEV-ES) or nothing at all (SEV-SNP, whose private pages the VMM does not map). How a verdict is earned is in
docs/leak.md.
"""

import contextlib
import platform
import secrets as randomness
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sevkit import __version__
from sevkit.attacks.leak import verdict as judge
from sevkit.errors import GuestError
from sevkit.guest import secrets
from sevkit.guest.spec import Firmware, GuestSpec
from sevkit.hypervisor import select
from sevkit.hypervisor.protocols import Guest
from sevkit.memory import capture
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.guest_ram.picture import GuestPages, Picture, draw, guest_pages
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import ScanResult, scan
from sevkit.memory.search.workers import Hit
from sevkit.memory.sources.base import PAGE, MemorySource, SourceGoneError, State, intersect, normalise, region_at
from sevkit.memory.sources.core import CoreMemory
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Mode, Provenance, Verdict

Progress = Callable[[str], None]

PREDICTED = {
    Mode.NOSEV: Verdict.LEAKED,
    Mode.SEV: Verdict.PROTECTED,
    Mode.SEV_ES: Verdict.PROTECTED,
    Mode.SEV_SNP: Verdict.PROTECTED,
}
SHARED, VMM, NEVER = "shared", "vmm", "never-planted"


@dataclass(frozen=True)
class Setup:
    """How to run the experiment. ``capture``: ``gcore`` (as published) or ``live``; ``keep``: a folder for cores."""

    modes: Sequence[Mode] = (Mode.NOSEV, Mode.SEV)
    hypervisor: str = "auto"
    capture: str = "gcore"
    spec: GuestSpec = field(default_factory=GuestSpec)
    keep: Path | None = None
    timeout: float = 180.0


@dataclass(frozen=True)
class PlacedHit:
    """Where a secret stands: the VMM's address, the guest-physical address if it is guest RAM, and what lies there."""

    secret: str
    address: int
    gpa: int | None
    region: str


@dataclass(frozen=True)
class Experiment:
    """One mode's outcome. Sizes in bytes, times in seconds; ``pages`` counts guest RAM pages by class."""

    mode: Mode
    provenance: Provenance
    decision: judge.Decision
    controls: judge.Controls
    hits: tuple[PlacedHit, ...]
    coverage: dict[str, int]
    pages: dict[str, int]
    picture: Picture
    seconds: float
    phases: dict[str, float]
    details: dict[str, Any]

    @property
    def as_predicted(self) -> bool:
        """Whether the verdict is the one that AMD's claims predict."""
        return self.decision.verdict is PREDICTED[self.mode]


def run(setup: Setup, progress: Progress) -> Iterator[Experiment]:
    """Start a guest in each mode, all at once; then dump, search and judge one after the other."""
    chosen = choose(setup, progress)
    specs = {mode: guest_spec(setup, mode, chosen) for mode in setup.modes}
    clocks = {mode: _Clock() for mode in setup.modes}
    guests = _launch(setup, chosen, specs, progress)
    try:
        for mode in setup.modes:
            clocks[mode].lap("boot")
        for mode in setup.modes:
            clocks[mode].skip()
            yield _perform(chosen[mode], guests[mode], setup, clocks[mode], progress)
    finally:
        for guest in guests.values():
            guest.stop()


def _launch(
    setup: Setup, chosen: dict[Mode, select.Choice], specs: dict[Mode, GuestSpec], progress: Progress
) -> dict[Mode, Guest]:
    """A running guest for each mode; the guests of one hypervisor boot side by side."""
    by_name: dict[str, list[Mode]] = {}
    for mode in setup.modes:
        by_name.setdefault(chosen[mode].hypervisor.name, []).append(mode)
    guests: dict[Mode, Guest] = {}
    try:
        for name, modes in by_name.items():
            progress(f"{', '.join(modes)}: starting on {name}")
            started = chosen[modes[0]].hypervisor.launch_many([specs[m] for m in modes], timeout=setup.timeout)
            guests |= dict(zip(modes, started, strict=True))
    except BaseException:
        for guest in guests.values():
            guest.stop()
        raise
    return guests


def choose(setup: Setup, progress: Progress) -> dict[Mode, select.Choice]:
    """A hypervisor for each mode. Where the emulator serves a mode, it serves the plain guest too: a fair pair."""
    chosen = {mode: select.choose(setup.hypervisor, mode, progress) for mode in setup.modes}
    emulator = next((c for c in chosen.values() if c.hypervisor.name == "emulated"), None)
    if emulator is not None and Mode.NOSEV in chosen:
        able = emulator.hypervisor.availability(Mode.NOSEV)
        chosen[Mode.NOSEV] = select.Choice(emulator.hypervisor, able.reason, ())
    return chosen


def guest_spec(setup: Setup, mode: Mode, chosen: dict[Mode, select.Choice]) -> GuestSpec:
    """The guest of one mode: all are equal but for the mode, down to the firmware, which encryption decides."""
    firmware = setup.spec.firmware
    real = [m for m in setup.modes if m is not Mode.NOSEV and chosen[m].hypervisor.name != "mock"]
    if firmware is None and real:
        firmware = Firmware.OVMF
    return replace(setup.spec, name=f"leak-{mode}-{randomness.token_hex(4)}", mode=mode, firmware=firmware)


def _perform(choice: select.Choice, guest: Guest, setup: Setup, clock: "_Clock", progress: Progress) -> Experiment:
    spec = guest.spec
    nonce = randomness.token_bytes(16)
    try:
        progress(f"{spec.mode}: planting secrets")
        guest.plant(nonce)
        clock.lap("plant")
        ram = GuestMap(guest.ram_blocks())
        progress(f"{spec.mode}: capturing the VMM's memory ({setup.capture})")
        with _captured(guest, setup) as (source, what):
            clock.lap("capture")
            progress(f"{spec.mode}: searching")
            patterns = _patterns(nonce, spec.name)
            found = scan(source, patterns)
            clock.lap("search")
            progress(f"{spec.mode}: looking at every page of guest RAM")
            pages = guest_pages(source, ram)
            coverage = _coverage(source, ram, pages.counts())
            placed = [_place(hit, patterns[hit.pattern].name, source, ram) for hit in found.hits]
            clock.lap("classify")
        alive = guest.holds(nonce)
        clock.lap("read back")
        details = _details(guest, choice, what, found, nonce)
    except SourceGoneError as error:
        raise GuestError(f"the VMM of {guest.name} ended during the experiment", detail=error.message) from error
    finally:
        guest.stop()
    return _conclude(guest, placed, found, pages, coverage, alive, clock, details)


def _patterns(nonce: bytes, name: str) -> list[Pattern]:
    """What is searched for: the secret of each place, and the three controls."""
    wanted = [Pattern(secrets.secret(nonce, place), name=place) for place in secrets.PLACES]
    wanted.append(Pattern(secrets.shared_marker(nonce), name=SHARED))
    wanted.append(Pattern(name.encode(), name=VMM))
    wanted.append(Pattern(b"SEVKIT-never-" + randomness.token_hex(32).encode(), name=NEVER))
    return wanted


@contextlib.contextmanager
def _captured(guest: Guest, setup: Setup) -> Iterator[tuple[MemorySource, dict[str, Any]]]:
    """The VMM's memory, by gcore into a file without a name unless it is to be kept, or live without any file."""
    if setup.capture == "live":
        with LiveMemory(guest.pid) as live:
            yield live, {"method": "live", "dump_bytes": 0, "command": f"sevkit scan --pid {guest.pid}"}
        return
    with contextlib.ExitStack() as stack:
        if setup.keep is None:
            path = stack.enter_context(capture.captured(guest.pid))
        else:
            path = capture.capture(guest.pid, setup.keep).rename(setup.keep / f"{guest.name}.core")
        what = {"method": "gcore", "dump_bytes": path.stat().st_size, "command": f"gcore {guest.pid}"}
        with CoreMemory(path) as core:
            yield core, {**what, "kept": str(path) if setup.keep else None}


def _place(hit: Hit, secret: str, source: MemorySource, ram: GuestMap) -> PlacedHit:
    """Where a hit lies: guest RAM with its guest-physical address, else the VMM's own mapping."""
    place = ram.place(hit.address)
    if place is not None:
        return PlacedHit(secret, hit.address, place.gpa, f"guest RAM ({place.block})")
    region = region_at(source.regions(), hit.address)
    return PlacedHit(secret, hit.address, None, f"VMM: {region.label if region else 'unknown mapping'}")


def _coverage(source: MemorySource, ram: GuestMap, counts: dict[str, int]) -> dict[str, int]:
    """How much of guest RAM the capture holds, in bytes. What was never touched is known to be empty: not missing."""
    inside = intersect(source.stretches(), normalise(ram.host_ranges()))
    return {
        "guest_ram_bytes": ram.size,
        "read_bytes": sum(counts[word] for word in ("plaintext", "ciphertext", "zero")) * PAGE,
        "unreadable_bytes": counts["unread"] * PAGE,
        "unpopulated_bytes": sum(part.size for part in inside if part.state == State.UNPOPULATED),
    }


def _conclude(
    guest: Guest,
    placed: list[PlacedHit],
    found: ScanResult,
    pages: GuestPages,
    coverage: dict[str, int],
    alive: dict[str, bool],
    clock: "_Clock",
    details: dict[str, Any],
) -> Experiment:
    """Weigh what was seen."""
    hits = tuple(hit for hit in placed if hit.secret in secrets.PLACES)
    in_ram = any(hit.secret == SHARED and hit.gpa is not None for hit in placed)
    in_vmm = any(hit.secret == VMM and hit.gpa is None for hit in placed)
    controls = judge.Controls(
        positive=in_ram and in_vmm,
        negative=not any(hit.secret == NEVER for hit in placed),
        secret_alive=all(alive.values()),
    )
    missing = coverage["guest_ram_bytes"] - coverage["read_bytes"] - coverage["unpopulated_bytes"]
    decision = judge.decide(
        judge.Seen(len(hits), found.finished and pages.stopped is None, missing, pages.counts()), controls
    )
    details["controls"] = {
        "shared_marker_in_guest_ram": in_ram,
        "vmm_marker_in_vmm": in_vmm,
        "secret_alive": alive,
        "search_stopped": found.stopped,
    }
    marks = [(hit.gpa, hit.secret) for hit in hits if hit.gpa is not None]
    return Experiment(
        mode=guest.spec.mode,
        provenance=guest.provenance,
        decision=decision,
        controls=controls,
        hits=hits,
        coverage=coverage,
        pages=pages.counts(),
        picture=draw(pages, str(guest.spec.mode), f"{guest.provenance}, {decision.verdict}", marks),
        seconds=clock.total(),
        phases=clock.laps,
        details=details,
    )


def _details(
    guest: Guest,
    choice: select.Choice,
    what: dict[str, Any],
    found: ScanResult,
    nonce: bytes,
) -> dict[str, Any]:
    """What a reader needs to judge or repeat the run."""
    return {
        "guest": guest.name,
        "hypervisor": choice.hypervisor.name,
        "why_this_hypervisor": choice.reason,
        "passed_over": list(choice.passed_over),
        "accel": guest.accel,
        "vmm_pid": guest.pid,
        "command_line": list(guest.command_line),
        "confounds": list(guest.confounds),
        "notes": list(guest.notes),
        "versions": dict(guest.versions),
        "nonce": nonce.hex(),
        "capture": what,
        "dump_coverage": found.coverage.as_dict(),
    }


class _Clock:
    """Times of the phases of a run."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now

    def skip(self) -> None:
        """Leave out a time of waiting."""
        self._last = time.monotonic()

    def total(self) -> float:
        return round(sum(self.laps.values()), 3)


def as_dict(experiments: Sequence[Experiment], seconds: float) -> dict[str, Any]:
    """The outcome as JSON values, as docs/leak.md describes them; ``seconds`` is the time of the whole run."""
    return {
        "attack": "leak",
        "as_predicted": all(experiment.as_predicted for experiment in experiments),
        "seconds": round(seconds, 3),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": _versions(experiments),
        "experiments": [_experiment_dict(experiment) for experiment in experiments],
    }


def _versions(experiments: Sequence[Experiment]) -> dict[str, str]:
    """What the result depends on: record it with every verdict."""
    versions = {"sevkit": __version__, "python": platform.python_version(), "host kernel": platform.release()}
    for e in experiments:
        versions |= {f"{name} ({e.mode})": text for name, text in e.details["versions"].items()}
    return versions


def _experiment_dict(e: Experiment) -> dict[str, Any]:
    return {
        "mode": str(e.mode),
        "provenance": str(e.provenance),
        "verdict": str(e.decision.verdict),
        "evidence": None if e.decision.evidence is None else str(e.decision.evidence),
        "predicted": str(PREDICTED[e.mode]),
        "as_predicted": e.as_predicted,
        "reasons": list(e.decision.reasons),
        "hits": [{"address": h.address, "gpa": h.gpa, "region": h.region, "secret": h.secret} for h in e.hits],
        "coverage": e.coverage,
        "controls": {
            "positive": e.controls.positive,
            "negative": e.controls.negative,
            "secret_alive": e.controls.secret_alive,
        },
        "pages": e.pages,
        "seconds": e.seconds,
        "phases": e.phases,
        "details": e.details,
    }
