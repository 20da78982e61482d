"""The interface of all sources of memory: running processes, core files, dumps of guests."""

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
    """The process ended, or executed another program, while its memory was being read."""


class Region(NamedTuple):
    """A mapping: addresses ``[start, end)``, with its name, permissions and file offset in the process.

    ``readable`` is False if nothing of it can be read; ``why`` then gives the reason.
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
        """The name, or ``[anonymous]`` if it has none."""
        return self.name or "[anonymous]"


class State(StrEnum):
    """What is known about a stretch of mapped memory before it is read."""

    DATA = "data"
    UNPOPULATED = "unpopulated"  # no page was allocated: never touched, or only read (the shared zero page)
    UNREADABLE = "unreadable"


class Stretch(NamedTuple):
    """A part of the mapped memory in one state; ``reason`` says why it is not data."""

    start: int
    end: int
    state: State = State.DATA
    reason: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class ReadOrigin(NamedTuple):
    """Where stream.c can read memory without calling the source for each piece: at ``offset`` in ``origin``.

    ``origin`` is a file descriptor or, if negative, -PID of a process. ``in_place``: the file is under a lease.
    """

    offset: int
    origin: int
    in_place: bool = False


class Session:
    """The results of ``place`` are valid during a session; by default they are always valid."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        pass


class MemorySource(ABC):
    """Memory that can be listed and read. Sources are context managers; several threads read from one at once.

    ``stripe``: the largest number of consecutive bytes that one thread takes at once.
    """

    stripe: int = 8 << 20
    partial: str = ""  # the reason, if the source is known to hold only a part of the memory

    @property
    @abstractmethod
    def title(self) -> str:
        """``process 123`` or the file name: for messages."""

    @abstractmethod
    def regions(self) -> Sequence[Region]:
        """The mappings, in order of address, disjoint."""

    @abstractmethod
    def stretches(self) -> Sequence[Stretch]:
        """All regions cut into stretches: each mapped byte is in exactly one; in order of address."""

    def unlisted(self) -> dict[str, int]:
        """Bytes that belong to this memory but to none of its regions, by reason: they cannot be searched."""
        return {}

    def newer(self) -> Sequence[Stretch] | None:
        """The stretches as they are now, if they may have changed since this was opened; None if they cannot have."""
        return None

    def moved(self, within: Sequence[Range] | None = None) -> list[str]:
        """Reasons why data may have moved since this was opened, in all of it or in ``within``."""
        del within
        return []

    def limits(self) -> list[str]:
        """What "not found" does not prove for this source, even after a complete search."""
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
        """A context manager; the results of ``place`` are valid while it is open."""
        return Session()

    def place(self, start: int, end: int) -> ReadOrigin | None:
        """Where stream.c can read all of ``[start, end)``; None if only ``readinto`` can."""
        del start, end
        return None

    @abstractmethod
    def check(self) -> None:
        """Raise SourceGoneError if this is no longer the memory that was opened."""

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
    """Sort address ranges, drop empty ones, and merge those that touch or overlap."""
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


def without(ranges: Iterable[Range], taken: Sequence[Range]) -> list[Range]:
    """The parts of ``ranges`` outside of ``taken``; both in order, disjoint. (0, 9) without (2, 4): (0, 2), (4, 9)."""
    left: list[Range] = []
    index = 0
    for start, end in ranges:
        at = start
        while index < len(taken) and taken[index][1] <= at:
            index += 1
        look = index
        while look < len(taken) and taken[look][0] < end:
            if taken[look][0] > at:
                left.append((at, taken[look][0]))
            at = max(at, taken[look][1])
            look += 1
        if at < end:
            left.append((at, end))
    return left


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
    """Merge readable stretches with consecutive addresses into runs: a match may cross from one stretch to the next."""
    return normalise((stretch.start, stretch.end) for stretch in stretches if stretch.state == State.DATA)


class Coverage(NamedTuple):
    """How much of the mapped memory was searched, in bytes. ``mapped_bytes`` is the sum of all other fields.

    ``unreadable`` has the unreadable bytes by reason; ``unread_bytes`` were not reached before the search stopped.
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
        """Whether every mapped byte was read, or was never populated."""
        return not self.unreadable_bytes and not self.unread_bytes

    def as_dict(self) -> CoverageRow:
        """The JSON form."""
        return {
            "mapped_bytes": self.mapped_bytes,
            "read_bytes": self.read_bytes,
            "unreadable_bytes": self.unreadable_bytes,
            "unreadable": self.unreadable,
            "skipped_unpopulated_bytes": self.skipped_unpopulated_bytes,
            "unread_bytes": self.unread_bytes,
            "complete": self.complete,
        }
