"""The observations of a capture, and the verdict on them. Pure: no guest, no host."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from sevkit.attacks.leak import verdict as judge
from sevkit.guest import secrets
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.guest_ram.picture import GuestPages
from sevkit.memory.search.scan import ScanResult
from sevkit.memory.sources.base import PAGE, MemorySource, State, Stretch, intersect, normalise
from sevkit.vocabulary import Mode


@dataclass(frozen=True)
class PlacedHit:
    """Where a secret was found: address in the VMM, guest-physical address if it is guest RAM, and what is mapped."""

    secret: str
    address: int
    gpa: int | None
    region: str


@dataclass(frozen=True)
class SecondLook:
    """A second search of guest RAM in the stopped process: the number of hits, and the bytes it could not read.

    ``missing_bytes`` is 0 if there was no second search. ``moved``: why data may have moved meanwhile.
    """

    secrets: int = 0
    missing_bytes: int = 0
    moved: tuple[str, ...] = ()


@dataclass
class Seen:
    """The observations of a capture, before the verdict. ``what`` says how the memory was captured.

    ``word`` is what the guest reported about its memory. ``mappings`` counts the pages of each mapping of guest RAM by
    class, where the VMM has more than one. ``parts``: parts of a secret at the border of a page of guest RAM.
    """

    what: dict[str, Any]
    found: ScanResult
    pages: GuestPages
    coverage: dict[str, int]
    placed: list[PlacedHit]
    word: secrets.GuestWord
    mappings: dict[str, dict[str, int]] = field(default_factory=dict)
    second_look: SecondLook = SecondLook()
    parts: int = 0


def coverage(source: MemorySource, ram: GuestMap, found: ScanResult, counts: dict[str, int]) -> dict[str, int]:
    """How much of guest RAM was searched, in bytes. Memory that was never touched is empty, and so not missing.

    ``unreadable_bytes`` could not be read by the search, or by the classification of each page after it.
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


def secret_pages(seen: Seen) -> dict[str, int]:
    """The classes, in the capture, of the pages that hold a secret according to the guest: class -> number of pages.

    ``nowhere`` counts pages outside of guest RAM as the VMM reports it: then either the guest or the VMM is wrong.
    """
    indexes = [seen.pages.index(gpa) for gpa in seen.word.secret_pages]
    words = ["nowhere" if at is None else PageClass(int(seen.pages.classes[at])).word for at in indexes]
    return dict(Counter(words))


def weigh(mode: Mode, seen: Seen, hits: int, controls: judge.Controls) -> judge.Decision:
    """The verdict, by the rules in leak/verdict.py; ``hits`` is how often a secret was found."""
    covered = seen.coverage
    absent = covered["guest_ram_bytes"] - covered["read_bytes"] - covered["unpopulated_bytes"]
    finished = seen.found.finished and seen.pages.stopped is None
    return judge.decide(
        mode,
        judge.Seen(
            secret_hits=hits,
            finished=finished,
            missing_bytes=max(absent, covered["unreadable_bytes"], seen.second_look.missing_bytes),
            pages=seen.pages.counts(),
            secret_pages=secret_pages(seen),
            used_pages=seen.word.used_pages,
            second_look=seen.second_look.secrets,
            parts=seen.parts,
            moved=seen.second_look.moved,
        ),
        controls,
    )
