"""The published experiment on a real guest: dump the VMM's memory, as any host can, and search it for the secret.

The guest derives secrets from a public nonce and keeps them in its page cache, in anonymous memory, in a
process's environment and in the kernel's log. docs/leak.md explains how the verdict is reached.
"""

import contextlib
import itertools
import os
import secrets as randomness
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sevkit import procfs
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.leak import published
from sevkit.attacks.leak import verdict as judge
from sevkit.attacks.leak.pages import by_mapping, unpopulated
from sevkit.attacks.leak.seen import PlacedHit, SecondLook, Seen, coverage, secret_pages, weigh
from sevkit.attacks.notebook import Notebook, Observation, Outcome
from sevkit.errors import GuestError, NotPermittedError
from sevkit.guest import secrets
from sevkit.hypervisor.protocols import Guest
from sevkit.memory import capture
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.guest_ram.picture import draw
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.search.workers import Hit
from sevkit.memory.sources.base import (
    MemorySource,
    SourceGoneError,
    State,
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
_LONG_NAME, _MARKER = 12, 64  # bytes: of a name that is nowhere else, and of the command line


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Plant secrets, capture the VMM's memory, search it, classify every page of guest RAM, and reach a verdict."""
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
        if lab.as_published:
            seen.what["guest"] = published.in_guest(lab)
    except SourceGoneError as error:
        raise GuestError(f"the VMM of {lab.guest.name} ended during the experiment", detail=error.message) from error
    note.host(f"The host captures the VMM's memory and searches it: {seen.what['command']}.")
    note.guest("The guest still holds its secrets." if all(alive.values()) else "The guest has lost a secret.")
    return _conclude(lab, note, seen, alive, nonce, clock)


def _look(lab: GuestLab, nonce: bytes, clock: "_Clock") -> Seen:
    """Capture, search, and classify every page of guest RAM."""
    ram, private = GuestMap(lab.guest.ram_blocks()), GuestMap(lab.guest.private_blocks())
    word = lab.guest.word()
    lab.guest.write_back()  # a secret that is only in a cache is never found in DRAM, even without protection
    never = unpopulated(lab.guest.pid, (ram, private))
    lab.say(f"capturing the VMM's memory ({lab.capture})")
    with _captured(lab, nonce) as (source, what):
        clock.lap("capture")
        lab.say("searching")
        patterns = _patterns(nonce, vmm_marker(lab.guest))
        found = scan(source, patterns)
        clock.lap("search")
        lab.say("looking at every page of guest RAM")
        mappings = by_mapping(source, ram, private, never)
        pages = mappings.together
        covered = coverage(source, ram, found, pages.counts())
        placed = [_place(hit, patterns[hit.pattern].name, source, (ram, private)) for hit in found.hits]
        parts = sum(patterns[part.pattern].name in secrets.PLACES for part in found.parts)
        clock.lap("classify")
    seen = Seen(what, found, pages, covered, placed, word, mappings.counts(), parts=parts)
    if not any(hit.secret in secrets.PLACES for hit in placed):
        lab.say("looking again, at the VMM held still")
        seen.second_look = _second_look(lab.guest.pid, GuestMap([*ram.blocks, *private.blocks]), patterns)
        clock.lap("second look")
    return seen


def _second_look(pid: int, ram: GuestMap, patterns: list[Pattern]) -> SecondLook:
    """Search guest RAM once more, in the process itself while it is stopped.

    A core may have gaps that it does not mention: where gdb cannot read, it writes zeros up to the end of the mapping.
    And data that a running guest moves during a live search may be missed at both the old and the new place.
    """
    ranges = ram.host_ranges()
    with _held(pid) as live:
        found = scan(live, patterns, within=ranges)
        parts = intersect(live.stretches(), normalise(ranges))
        absent = ram.size - sum(part.size for part in parts if part.state != State.UNREADABLE)
        moved = tuple(live.moved(ranges))
    lost = sum(end - start for start, end in found.lost)
    hits = sum(patterns[hit.pattern].name in secrets.PLACES for hit in found.hits)
    return SecondLook(hits, absent + lost if found.finished else ram.size, moved)


def _held(pid: int) -> LiveMemory:
    """The memory of a process; the process is stopped if ptrace is permitted."""
    try:
        return LiveMemory(pid, stop=True)
    except NotPermittedError:
        return LiveMemory(pid)


def _marker(when: str) -> str:
    return f"shared, {when}"


def vmm_marker(guest: Guest) -> bytes:
    """What the VMM's own memory certainly has: the name of a guest launched for this, or else its command line.

    A user may call his guest `g`, which is everywhere. Raises SourceGoneError if the VMM has ended.
    """
    if len(guest.name) >= _LONG_NAME:
        return guest.name.encode()
    words = procfs.command_line(guest.pid)
    if len(words) < _LONG_NAME:
        raise SourceGoneError(f"the VMM of {guest.name} has no command line: it has ended")
    return words[:_MARKER]


def _patterns(nonce: bytes, vmm: bytes) -> list[Pattern]:
    """The patterns to search for: the secret of each place, and the controls."""
    wanted = [Pattern(secrets.secret(nonce, place), name=place) for place in secrets.PLACES]
    wanted += [Pattern(secrets.shared_marker(nonce, when), name=_marker(when)) for when in secrets.MARKERS]
    wanted.append(Pattern(vmm, name=VMM))
    wanted.append(Pattern(b"SEVKIT-never-" + randomness.token_hex(32).encode(), name=NEVER))
    return wanted


@contextlib.contextmanager
def _captured(lab: GuestLab, nonce: bytes) -> Iterator[tuple[MemorySource, dict[str, Any]]]:
    """The VMM's memory: by gcore, into a file without a name unless the core is to be kept; or live, without a file."""
    pid = lab.guest.pid
    if lab.capture == "live":
        with LiveMemory(pid) as live:
            yield live, {"method": "live", "dump_bytes": 0, "command": f"sevkit scan --pid {pid}"}
        return
    with contextlib.ExitStack() as stack:
        if lab.keep is None:
            path = stack.enter_context(capture.captured(pid))
        else:
            path = capture.capture(pid, lab.keep).rename(_free_name(lab.keep, lab.guest.name))
        what: dict[str, Any] = {"method": "gcore", "dump_bytes": path.stat().st_size, "command": f"gcore {pid}"}
        what["kept"] = str(path) if lab.keep else None
        if lab.as_published:
            what["grep"] = published.grep(path, published.text(nonce))
        with CoreMemory(path) as core:
            yield core, what


def _free_name(folder: Path, name: str) -> Path:
    """A name for a core that no core has yet: a guest that goes on running may be captured again."""
    names = itertools.chain([f"{name}.core"], (f"{name}-{number}.core" for number in itertools.count(2)))
    return next(folder / each for each in names if not os.path.lexists(folder / each))


def _place(hit: Hit, secret: str, source: MemorySource, maps: Sequence[GuestMap]) -> PlacedHit:
    """The place of a hit: its guest-physical address if it is in guest RAM, else the VMM's own mapping."""
    for ram in maps:
        if (place := ram.place(hit.address)) is not None:
            return PlacedHit(secret, hit.address, place.gpa, f"guest RAM ({place.block})")
    region = region_at(source.regions(), hit.address)
    return PlacedHit(secret, hit.address, None, f"VMM: {region.label if region else 'unknown mapping'}")


class _Clock:
    """The durations of the phases of a run, in seconds."""

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
    """Reach the verdict, by the rules in leak/verdict.py."""
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
    counts = seen.pages.counts()
    decision = weigh(mode, seen, len(hits), controls)
    note.verdict("; ".join(decision.reasons))
    marks = [(hit.gpa, hit.secret) for hit in hits if hit.gpa is not None]
    captured = {
        "verdict": str(decision.verdict),
        "evidence": None if decision.evidence is None else str(decision.evidence),
        "predicted": str(predicted),
        "as_predicted": decision.verdict is predicted,
        "reasons": list(decision.reasons),
        "hits": [{"address": h.address, "gpa": h.gpa, "region": h.region, "secret": h.secret} for h in hits],
        "coverage": seen.coverage,
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
            "controls": _control_details(seen, in_ram, in_vmm, alive),
            "guest_used_pages": seen.word.used_pages,
            "mappings": seen.mappings,
        },
    }
    picture = draw(seen.pages, str(mode), f"{lab.guest.provenance}, {decision.verdict}", marks)
    return Observation(OUTCOMES[decision.verdict], _check(decision), captured=captured, picture=picture)


def _control_details(seen: Seen, in_ram: dict[str, bool], in_vmm: bool, alive: dict[str, bool]) -> dict[str, Any]:
    """What the controls rest on, one by one."""
    return {
        "shared_marker_in_guest_ram": all(in_ram.values()),
        "shared_markers": in_ram,
        "vmm_marker_in_vmm": in_vmm,
        "secret_alive": alive,
        "search_stopped": seen.found.stopped,
        "secret_pages": secret_pages(seen),
        "second_look": asdict(seen.second_look),
    }


def _in_ram(seen: Seen, name: str) -> bool:
    return any(hit.secret == name and hit.gpa is not None for hit in seen.placed)


def _check(decision: judge.Decision) -> str:
    """The property that decided, under the name that the model's experiment uses."""
    if decision.verdict is Verdict.LEAKED:
        return "no-encryption"
    if decision.verdict is Verdict.INCONCLUSIVE:
        return "controls"
    hidden = decision.evidence in {Evidence.HOLE, Evidence.ZERO}
    return "guest-memfd" if hidden else "memory-encryption"
