"""Nested page tables: guest-physical to system-physical. The host owns them and may write anything there."""

from dataclasses import dataclass

from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault, FaultKind


@dataclass(slots=True)
class Mapping:
    """Where a guest page is, and what the tables say about it. ``large``: mapped as a part of a 2 MiB page."""

    spa: int
    writable: bool = True
    present: bool = True
    large: bool = False
    accessed: bool = False
    dirty: bool = False


class NestedTables:
    """The nested page tables of a guest, sparse, by page."""

    def __init__(self) -> None:
        self.pages: dict[int, Mapping] = {}
        self._regions: list[tuple[int, int, int, bool]] = []

    def map(self, gpa: int, spa: int, *, pages: int = 1, large: bool = False, writable: bool = True) -> None:
        """Map ``pages`` pages from ``gpa`` on to consecutive system pages."""
        for number in range(pages):
            place = spa // PAGE * PAGE + number * PAGE
            self.pages[gpa // PAGE + number] = Mapping(place, writable=writable, large=large)

    def map_region(self, gpa: int, size: int, spa: int, *, large: bool = False) -> None:
        """Map a whole region; the entry of a page is created at its first walk. ``map`` overrides it."""
        self._regions.append((gpa, size, spa, large))

    def unmap(self, gpa: int) -> None:
        """Unmap a page."""
        self.pages.pop(gpa // PAGE, None)

    def spa(self, gpa: int) -> int:
        """The system-physical address behind a guest-physical one, as the host knows it; KeyError if unmapped."""
        mapping = self._find(gpa)
        if mapping is None:
            raise KeyError(f"guest address {gpa:#x} is not mapped")
        return mapping.spa + gpa % PAGE

    def walk(self, gpa: int, *, write: bool = False) -> Mapping:
        """Walk the tables as the hardware does: set the accessed and dirty bits; raises #NPF."""
        mapping = self._find(gpa)
        if mapping is None or not mapping.present:
            raise Fault(FaultKind.NPF, "npt-present", f"gpa {gpa:#x}")
        if write and not mapping.writable:
            raise Fault(FaultKind.NPF, "npt-writable", f"gpa {gpa:#x}")
        mapping.accessed = True
        mapping.dirty |= write
        return mapping

    def _find(self, gpa: int) -> Mapping | None:
        mapping = self.pages.get(gpa // PAGE)
        if mapping is not None:
            return mapping
        for start, size, spa, large in self._regions:
            if start <= gpa < start + size:
                place = spa + gpa // PAGE * PAGE - start
                mapping = self.pages[gpa // PAGE] = Mapping(place, large=large)
                return mapping
        return None

    def touched(self) -> frozenset[int]:
        """The guest pages whose accessed bit is set. A host observes them to see what a guest is doing."""
        return frozenset(page * PAGE for page, mapping in self.pages.items() if mapping.accessed)

    def clear_accessed(self) -> None:
        """Clear all accessed and dirty bits."""
        for mapping in self.pages.values():
            mapping.accessed = mapping.dirty = False
