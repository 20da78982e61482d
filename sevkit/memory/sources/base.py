"""What every source of memory answers, be it a running process or a core file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from sevkit.errors import CaptureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from typing import Self

    from sevkit.memory.payload import CoverageRow

PAGE = 4096
Range = tuple[int, int]  # addresses: start, end (exclusive)


def page_up(size: int) -> int:
    """``size`` rounded up to whole pages."""
    return (size + PAGE - 1) & ~(PAGE - 1)


class SourceGoneError(CaptureError):
    """The process ended, or became another one, while its memory was being read."""


class Region(NamedTuple):
    """A mapping: ``[start, end)`` in bytes of address, with the name, permissions and file offset it has in the VMM.

    ``readable`` is False where nothing can be read; ``why`` then says why.
    """

    start: int
    end: int
    name: str = ""
    perms: str = ""
    offset: int = 0
    readable: bool = True
    why: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    @property
    def label(self) -> str:
        """The name, or what the mapping is for one without."""
        return self.name or "[anonymous]"


class State(StrEnum):
    """What can be said of a stretch of mapped memory before it is read."""

    DATA = "data"
    UNPOPULATED = "unpopulated"  # no page of its own behind it: never touched, or only read and so zeros
    UNREADABLE = "unreadable"


class Stretch(NamedTuple):
    """A part of the mapped memory in one state; ``reason`` says why where it is not data."""

    start: int
    end: int
    state: State = State.DATA
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Place(NamedTuple):
    """Where memory can be read without asking its source for each piece (stream.c): from ``offset`` on in ``origin``.

    ``origin`` is an open file, or below zero the PID of a process. ``in_place``: the file is under a lease.
    """

    offset: int
    origin: int
    in_place: bool = False


class Session:
    """What a source answers to ``place`` holds as long as this lasts; here, always."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


class MemorySource(ABC):
    """Memory that can be listed and read. Sources are context managers; they are read from several threads at once.

    ``stripe``: the most bytes that one thread searches at a stretch.
    """

    stripe: int = 8 << 20
    partial: str = ""  # why the source is known to hold a part only of the memory that it is of

    @property
    @abstractmethod
    def title(self) -> str:
        """``process 123`` or the file name: for messages."""

    @abstractmethod
    def regions(self) -> Sequence[Region]:
        """The mappings, in order of address, disjoint."""

    @abstractmethod
    def stretches(self) -> Sequence[Stretch]:
        """A tiling of all regions: each mapped byte lies in exactly one stretch; in order of address."""

    def unlisted(self) -> dict[str, int]:
        """Bytes that belong to this memory but to none of its regions, by reason: they cannot be searched."""
        return {}

    def limits(self) -> list[str]:
        """What "not found" does not prove here, however complete a search is."""
        return []

    @abstractmethod
    def readinto(self, address: int, target: memoryview) -> int:
        """Read from ``address`` into ``target``; returns the bytes read before the first that cannot be read.

        Raises SourceGoneError when the process is no longer there.
        """

    @abstractmethod
    def read(self, address: int, size: int) -> bytes:
        """The bytes at ``address``: fewer than ``size`` where some cannot be read."""

    def session(self) -> AbstractContextManager[object]:
        """What ``place`` answers holds as long as this lasts."""
        return Session()

    def place(self, start: int, end: int) -> Place | None:
        """Where all of ``[start, end)`` can be read in one go; None: only by ``readinto``."""
        del start, end
        return None

    @abstractmethod
    def check(self) -> None:
        """Raise SourceGoneError unless this is still the memory that it was at the start."""

    @abstractmethod
    def close(self) -> None:
        """Release what the source holds. Calling it twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def region_at(regions: Sequence[Region], address: int) -> Region | None:
    """The region that holds ``address``; ``regions`` in order of address."""
    index = bisect_right(regions, address, key=lambda region: region.start) - 1
    if index >= 0 and address < regions[index].end:
        return regions[index]
    return None


def normalise(ranges: Iterable[Range]) -> list[Range]:
    """Address ranges sorted, merged where they touch or overlap, without empty ones."""
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if start > end:
            raise UsageError(f"the range {start:#x}-{end:#x} ends before it starts")
        if start == end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def intersect(stretches: Iterable[Stretch], ranges: Sequence[Range]) -> list[Stretch]:
    """The parts of ``stretches`` that lie in ``ranges``; both in order, ``ranges`` as normalise gives them."""
    parts: list[Stretch] = []
    index = 0
    for stretch in stretches:
        while index < len(ranges) and ranges[index][1] <= stretch.start:
            index += 1
        at = index
        while at < len(ranges) and ranges[at][0] < stretch.end:
            start, end = max(stretch.start, ranges[at][0]), min(stretch.end, ranges[at][1])
            parts.append(Stretch(start, end, stretch.state, stretch.reason))
            at += 1
    return parts


def runs(stretches: Iterable[Stretch]) -> list[Range]:
    """The readable stretches as maximal runs of consecutive addresses: a match may cross from one to the next."""
    return normalise((stretch.start, stretch.end) for stretch in stretches if stretch.state == State.DATA)


class Coverage(NamedTuple):
    """What of the mapped memory was looked at, in bytes. ``mapped_bytes`` is the sum of all the others.

    ``unreadable`` has the unreadable bytes by reason; ``unread_bytes`` were not reached because the search stopped.
    """

    mapped_bytes: int
    read_bytes: int
    skipped_unpopulated_bytes: int
    unreadable: dict[str, int]
    unread_bytes: int = 0

    @property
    def unreadable_bytes(self) -> int:
        """All bytes that could not be read."""
        return sum(self.unreadable.values())

    @property
    def complete(self) -> bool:
        """Whether every mapped byte was read, or is known never to have been populated."""
        return not self.unreadable_bytes and not self.unread_bytes

    def as_dict(self) -> CoverageRow:
        """As it stands in JSON."""
        return {
            "mapped_bytes": self.mapped_bytes,
            "read_bytes": self.read_bytes,
            "unreadable_bytes": self.unreadable_bytes,
            "unreadable": self.unreadable,
            "skipped_unpopulated_bytes": self.skipped_unpopulated_bytes,
            "unread_bytes": self.unread_bytes,
            "complete": self.complete,
        }
