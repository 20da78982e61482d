"""The class of every page of guest RAM in a capture: one picture of all mappings that the VMM has of it."""

from collections.abc import Sequence
from dataclasses import dataclass

from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.guest_ram.picture import GuestPages, guest_pages
from sevkit.memory.sources.base import MemorySource, Range, State, intersect, normalise
from sevkit.memory.sources.process import LiveMemory


@dataclass(frozen=True)
class Mappings:
    """Guest RAM as the VMM maps it (``shared``), and an SEV-SNP guest's private pages if it maps these too."""

    shared: GuestPages
    private: GuestPages | None

    @property
    def together(self) -> GuestPages:
        """Each page as the mapping shows it that has content there."""
        return self.shared if self.private is None else self.shared.with_private(self.private)

    def counts(self) -> dict[str, dict[str, int]]:
        """The pages of each mapping by class; empty if there is only one mapping."""
        if self.private is None:
            return {}
        return {"guest RAM": self.shared.counts(), "private memory": self.private.counts()}


def unpopulated(pid: int, maps: Sequence[GuestMap]) -> list[Range]:
    """The addresses of guest RAM that have no page now: gcore writes zeros for them, which a page may hold as well."""
    with LiveMemory(pid) as live:
        ranges = [each for one in maps for each in one.host_ranges()]
        parts = intersect(live.stretches(), normalise(ranges))
        return [(part.start, part.end) for part in parts if part.state == State.UNPOPULATED]


def by_mapping(source: MemorySource, ram: GuestMap, private: GuestMap, never: Sequence[Range]) -> Mappings:
    """Classify every page of each mapping; ``never`` has the addresses that had no page before the capture."""
    shared = guest_pages(source, ram).with_holes(never)
    return Mappings(shared, guest_pages(source, private).with_holes(never) if private.blocks else None)
