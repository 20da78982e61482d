"""The published experiment on a real guest: dump the VMM's memory as the host can, and search it for the secret.

The guest derives secrets from a public nonce and keeps them in its page cache, in anonymous memory, in a
process's environment and in the kernel's log. How a verdict is earned is in docs/leak.md.
"""

import contextlib
import secrets as randomness
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.leak import verdict as judge
from sevkit.attacks.notebook import Notebook, Observation, Outcome
from sevkit.errors import GuestError
from sevkit.guest import secrets
from sevkit.memory import capture
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.guest_ram.picture import GuestPages, draw, guest_pages
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import ScanResult, scan
from sevkit.memory.search.workers import Hit
from sevkit.memory.sources.base import (
    PAGE,
    MemorySource,
    SourceGoneError,
    State,
    Stretch,
    intersect,
    normalise,
    region_at,
)
from sevkit.memory.sources.core import CoreMemory
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Evidence, Mode, Verdict

OUTCOMES = {
    Verdict.LEAKED: Outcome.WORKS,
    Verdict.PROTECTED: Outcome.STOPPED,
    Verdict.INCONCLUSIVE: Outcome.INCONCLUSIVE,
}
VMM, NEVER = "vmm", "never-planted"


@dataclass(frozen=True)
class PlacedHit:
    """Where a secret stands: the VMM's address, the guest-physical address if it is guest RAM, and what lies there."""

    secret: str
    address: int
    gpa: int | None
    region: str


@dataclass
class Seen:
    """What a capture showed, before it is weighed. ``what`` says how it was captured.

    ``second_look`` is how often the process itself shows a secret, where the capture is a file; ``word`` what the guest
    says of its memory.
    """

    what: dict[str, Any]
    found: ScanResult
    pages: GuestPages
    coverage: dict[str, int]
    placed: list[PlacedHit]
    word: secrets.GuestWord
    second_look: int = 0


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Plant secrets, capture the VMM's memory, search it, look at every page of guest RAM, and weigh what was seen."""
    note.setup(
        f"A guest ({lab.guest.spec.mode}, {lab.guest.provenance}) makes secrets from a public nonce and keeps them."
    )
    note.predict("A plain guest's secrets stand in the capture; an encrypted one shows ciphertext, or nothing at all.")
    nonce = randomness.token_bytes(16)
    clock = _Clock(lab.boot_seconds)
    try:
        lab.say("planting secrets")
        lab.guest.plant(nonce)
        clock.lap("plant")
        seen = _look(lab, nonce, clock)
        alive = lab.guest.holds(nonce)
        clock.lap("read back")
    except SourceGoneError as error:
        raise GuestError(f"the VMM of {lab.guest.name} ended during the experiment", detail=error.message) from error
    note.host(f"The host captures the VMM's memory and searches it: {seen.what['command']}.")
    note.guest("The guest still holds its secrets." if all(alive.values()) else "The guest has lost a secret.")
    return _conclude(lab, note, seen, alive, nonce, clock)


def _look(lab: GuestLab, nonce: bytes, clock: "_Clock") -> Seen:
    """Capture, search, and class every page of guest RAM."""
    ram = GuestMap(lab.guest.ram_blocks())
    word = lab.guest.word()
    lab.guest.write_back()  # what never reached DRAM would be missed there whatever protects it
    lab.say(f"capturing the VMM's memory ({lab.capture})")
    with _captured(lab) as (source, what):
        clock.lap("capture")
        lab.say("searching")
        patterns = _patterns(nonce, lab.guest.name)
        found = scan(source, patterns)
        clock.lap("search")
        lab.say("looking at every page of guest RAM")
        pages = guest_pages(source, ram)
        coverage = _coverage(source, ram, found, pages.counts())
        placed = [_place(hit, patterns[hit.pattern].name, source, ram) for hit in found.hits]
        clock.lap("classify")
    seen = Seen(what, found, pages, coverage, placed, word)
    if lab.capture != "live" and not any(hit.secret in secrets.PLACES for hit in placed):
        lab.say("looking again, past gcore")
        seen.second_look = _second_look(lab.guest.pid, ram, patterns)
        clock.lap("second look")
    return seen


def _second_look(pid: int, ram: GuestMap, patterns: list[Pattern]) -> int:
    """How often the secrets stand in guest RAM as it is read without gcore: a core may lack what it does not name.

    gdb writes zeros for what it could not read, and for all of the mapping after that.
    """
    with LiveMemory(pid) as live:
        found = scan(live, patterns, within=ram.host_ranges())
    return sum(patterns[hit.pattern].name in secrets.PLACES for hit in found.hits)


def _marker(when: str) -> str:
    return f"shared, {when}"


def _patterns(nonce: bytes, name: str) -> list[Pattern]:
    """What is searched for: the secret of each place, and the controls."""
    wanted = [Pattern(secrets.secret(nonce, place), name=place) for place in secrets.PLACES]
    wanted += [Pattern(secrets.shared_marker(nonce, when), name=_marker(when)) for when in secrets.MARKERS]
    wanted.append(Pattern(name.encode(), name=VMM))
    wanted.append(Pattern(b"SEVKIT-never-" + randomness.token_hex(32).encode(), name=NEVER))
    return wanted


@contextlib.contextmanager
def _captured(lab: GuestLab) -> Iterator[tuple[MemorySource, dict[str, Any]]]:
    """The VMM's memory, by gcore into a file without a name unless it is to be kept, or live without any file."""
    pid = lab.guest.pid
    if lab.capture == "live":
        with LiveMemory(pid) as live:
            yield live, {"method": "live", "dump_bytes": 0, "command": f"sevkit scan --pid {pid}"}
        return
    with contextlib.ExitStack() as stack:
        if lab.keep is None:
            path = stack.enter_context(capture.captured(pid))
        else:
            path = capture.capture(pid, lab.keep).rename(lab.keep / f"{lab.guest.name}.core")
        what = {"method": "gcore", "dump_bytes": path.stat().st_size, "command": f"gcore {pid}"}
        with CoreMemory(path) as core:
            yield core, {**what, "kept": str(path) if lab.keep else None}


def _place(hit: Hit, secret: str, source: MemorySource, ram: GuestMap) -> PlacedHit:
    """Where a hit lies: guest RAM with its guest-physical address, else the VMM's own mapping."""
    place = ram.place(hit.address)
    if place is not None:
        return PlacedHit(secret, hit.address, place.gpa, f"guest RAM ({place.block})")
    region = region_at(source.regions(), hit.address)
    return PlacedHit(secret, hit.address, None, f"VMM: {region.label if region else 'unknown mapping'}")


def _coverage(source: MemorySource, ram: GuestMap, found: ScanResult, counts: dict[str, int]) -> dict[str, int]:
    """How much of guest RAM was searched, in bytes. What was never touched is known to be empty: not missing.

    ``unreadable_bytes`` could not be read, by the search or by the look at each page after it.
    """
    ranges = normalise(ram.host_ranges())
    sizes = dict.fromkeys(State, 0)
    for part in intersect(source.stretches(), ranges):
        sizes[part.state] += part.size
    lost = sum(part.size for part in intersect([Stretch(*span) for span in found.lost], ranges))
    return {
        "guest_ram_bytes": ram.size,
        "read_bytes": sizes[State.DATA] - lost,
        "unreadable_bytes": max(sizes[State.UNREADABLE] + lost, counts["unread"] * PAGE),
        "unpopulated_bytes": sizes[State.UNPOPULATED],
    }


def _secret_pages(seen: Seen) -> dict[str, int]:
    """How the capture shows the pages that hold a secret by the guest's word: class -> pages."""
    indexes = seen.pages.marks(seen.word.secret_pages)
    classes = [PageClass(int(seen.pages.classes[index])).word for index in indexes]
    return dict(Counter(classes))


def _weigh(mode: Mode, seen: Seen, hits: int, controls: judge.Controls) -> judge.Decision:
    coverage = seen.coverage
    absent = coverage["guest_ram_bytes"] - coverage["read_bytes"] - coverage["unpopulated_bytes"]
    finished = seen.found.finished and seen.pages.stopped is None
    return judge.decide(
        mode,
        judge.Seen(
            secret_hits=hits,
            finished=finished,
            missing_bytes=max(absent, coverage["unreadable_bytes"]),
            pages=seen.pages.counts(),
            secret_pages=_secret_pages(seen),
            used_pages=seen.word.used_pages,
            second_look=seen.second_look,
        ),
        controls,
    )


class _Clock:
    """Times of the phases of a run, in seconds."""

    def __init__(self, boot: float) -> None:
        self.laps: dict[str, float] = {"boot": round(boot, 3)}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 3)
        self._last = now


def _conclude(
    lab: GuestLab, note: Notebook, seen: Seen, alive: dict[str, bool], nonce: bytes, clock: _Clock
) -> Observation:
    """Weigh what was seen (leak/verdict.py has the rules)."""
    mode = lab.guest.spec.mode
    predicted = Verdict.LEAKED if mode is Mode.NOSEV else Verdict.PROTECTED
    hits = [hit for hit in seen.placed if hit.secret in secrets.PLACES]
    in_ram = {when: _in_ram(seen, _marker(when)) for when in secrets.MARKERS}
    in_vmm = any(hit.secret == VMM and hit.gpa is None for hit in seen.placed)
    controls = judge.Controls(
        positive=all(in_ram.values()) and in_vmm,
        negative=not any(hit.secret == NEVER for hit in seen.placed),
        secret_alive=all(alive.values()),
    )
    counts, coverage = seen.pages.counts(), seen.coverage
    decision = _weigh(mode, seen, len(hits), controls)
    note.verdict("; ".join(decision.reasons))
    marks = [(hit.gpa, hit.secret) for hit in hits if hit.gpa is not None]
    captured = {
        "verdict": str(decision.verdict),
        "evidence": None if decision.evidence is None else str(decision.evidence),
        "predicted": str(predicted),
        "as_predicted": decision.verdict is predicted,
        "reasons": list(decision.reasons),
        "hits": [{"address": h.address, "gpa": h.gpa, "region": h.region, "secret": h.secret} for h in hits],
        "coverage": coverage,
        "controls": {
            "positive": controls.positive,
            "negative": controls.negative,
            "secret_alive": controls.secret_alive,
        },
        "pages": counts,
        "phases": clock.laps,
        "details": {
            "nonce": nonce.hex(),
            "capture": seen.what,
            "dump_coverage": seen.found.coverage.as_dict(),
            "controls": {
                "shared_marker_in_guest_ram": all(in_ram.values()),
                "shared_markers": in_ram,
                "vmm_marker_in_vmm": in_vmm,
                "secret_alive": alive,
                "search_stopped": seen.found.stopped,
                "secret_pages": _secret_pages(seen),
                "second_look": seen.second_look,
            },
            "guest_used_pages": seen.word.used_pages,
        },
    }
    picture = draw(seen.pages, str(mode), f"{lab.guest.provenance}, {decision.verdict}", marks)
    return Observation(OUTCOMES[decision.verdict], _check(decision), captured=captured, picture=picture)


def _in_ram(seen: Seen, name: str) -> bool:
    return any(hit.secret == name and hit.gpa is not None for hit in seen.placed)


def _check(decision: judge.Decision) -> str:
    """The property that decided, in the words of the model's experiment."""
    if decision.verdict is Verdict.LEAKED:
        return "no-encryption"
    if decision.verdict is Verdict.INCONCLUSIVE:
        return "controls"
    hidden = decision.evidence in {Evidence.HOLE, Evidence.ZERO}
    return "guest-memfd" if hidden else "memory-encryption"
