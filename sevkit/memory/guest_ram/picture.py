"""A map of guest memory: the class of every page, reduced to the points of a picture."""

import base64
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sevkit.errors import BadInputError
from sevkit.memory.guest_ram.classes import PageClass, classify, count
from sevkit.memory.guest_ram.layout import GuestMap, GuestRange
from sevkit.memory.payload import Map
from sevkit.memory.sources.base import (
    PAGE,
    MemorySource,
    Range,
    SourceGoneError,
    State,
    Stretch,
    intersect,
    normalise,
)

if TYPE_CHECKING:
    import numpy as np

MAX_POINTS = 1 << 17  # up to 512 MiB of guest RAM, one point per page
_BUFFER = 4 << 20
# If pages of several classes share a point of the map, the point shows the last of them in this order.
_RANK = (PageClass.HOLE, PageClass.ZERO, PageClass.CIPHERTEXT, PageClass.UNREAD, PageClass.PLAINTEXT)


@dataclass(frozen=True)
class GuestPages:
    """The classes of all pages of a guest (``classes``: uint8, one per page), in the order of ``blocks``.

    ``stopped`` is the reason why the rest is ``unread``, if the memory disappeared.
    """

    blocks: tuple[GuestRange, ...]
    classes: "np.ndarray[Any, Any]"
    stopped: str | None = None

    def counts(self) -> dict[str, int]:
        """The number of pages per class, by word."""
        return count(self.classes)

    def with_private(self, private: "GuestPages") -> "GuestPages":
        """The same pages with the classes that ``private`` shows, where this mapping shows nothing.

        An SEV-SNP page is either shared or private, and each kind has a mapping of its own: a page that is empty in
        the first and has content in the second is private.
        """
        import numpy as np

        empty = (PageClass.HOLE, PageClass.ZERO)
        classes = self.classes.copy()
        for mine, theirs in _common(self.blocks, private.blocks):
            shown, other = classes[mine], private.classes[theirs]
            shown[:] = np.where(np.isin(shown, empty) & ~np.isin(other, empty), other, shown)
        return GuestPages(self.blocks, classes, self.stopped or private.stopped)

    def with_holes(self, unpopulated: Iterable[Range]) -> "GuestPages":
        """The same pages; of the zero pages, those that lie in these host addresses are holes.

        A core file has zeros for a page that was never populated.
        """
        classes = self.classes.copy()
        spans = normalise(unpopulated)
        for block, start, _ in _mapped(self.blocks):
            base = block.host_address or 0
            for part in intersect([Stretch(*span) for span in spans], [(base, base + block.size)]):
                first = (start + part.start - base + PAGE - 1) // PAGE
                shown = classes[first : (start + part.end - base) // PAGE]
                shown[shown == PageClass.ZERO] = PageClass.HOLE
        return GuestPages(self.blocks, classes, self.stopped)

    def index(self, gpa: int) -> int | None:
        """The index in ``classes`` of the page with a guest-physical address."""
        before = 0
        for block in self.blocks:
            if block.gpa <= gpa < block.gpa + block.size:
                return before + (gpa - block.gpa) // PAGE
            before += block.size // PAGE
        return None

    def marks(self, gpas: Iterable[int]) -> list[int]:
        """The indexes of the pages with these addresses, without duplicates, in order."""
        return sorted({index for gpa in gpas if (index := self.index(gpa)) is not None})


def guest_pages(
    source: MemorySource, guest: GuestMap, *, progress: Callable[[int, int], None] | None = None
) -> GuestPages:
    """Classify every page of guest RAM. A page that was never populated, or is not mapped, is a hole."""
    import mmap

    import numpy as np

    blocks = tuple(GuestRange(b.name, b.gpa, b.size // PAGE * PAGE, b.host_address) for b in guest.blocks)
    total = sum(block.size for block in blocks)
    classes = np.full(total // PAGE, PageClass.HOLE, dtype=np.uint8)
    stopped = None
    view = memoryview(mmap.mmap(-1, _BUFFER))  # not closed: an exception in flight may hold views of it
    for block, start, end in _mapped(blocks):
        part = classes[start // PAGE : end // PAGE]
        try:
            for done in _classify_block(source, block, part, view):
                if progress is not None:
                    progress(start + done, total)
        except SourceGoneError as error:
            stopped = stopped or error.message
    if stopped is None:
        try:
            source.check()
        except SourceGoneError as error:
            stopped = error.message
    return GuestPages(blocks, classes, stopped)


def _common(mine: Sequence[GuestRange], theirs: Sequence[GuestRange]) -> Iterator[tuple[slice, slice]]:
    """The places in two arrays of classes of the guest addresses that both have."""
    at = 0
    for block in mine:
        other_at = 0
        for other in theirs:
            start, end = max(block.gpa, other.gpa), min(block.gpa + block.size, other.gpa + other.size)
            if start < end:
                first, second = (at + start - block.gpa) // PAGE, (other_at + start - other.gpa) // PAGE
                pages = (end - start) // PAGE
                yield slice(first, first + pages), slice(second, second + pages)
            other_at += other.size
        at += block.size


def _mapped(blocks: Iterable[GuestRange]) -> Iterator[tuple[GuestRange, int, int]]:
    """Blocks that the VMM has mapped, each with its start and end in guest RAM as a whole (gaps not counted)."""
    at = 0
    for block in blocks:
        if block.host_address is not None:
            yield block, at, at + block.size
        at += block.size


def _classify_block(
    source: MemorySource, block: GuestRange, classes: "np.ndarray[Any, Any]", view: memoryview
) -> Iterator[int]:
    """Fill in the classes of one block; yields the bytes done so far."""
    assert block.host_address is not None
    base = block.host_address
    for stretch in intersect(source.stretches(), [(base, base + block.size)]):
        if stretch.state != State.UNPOPULATED:
            first, last = (stretch.start - base) // PAGE, -(-(stretch.end - base) // PAGE)
            classes[first:last] = PageClass.UNREAD
        if stretch.state == State.DATA:
            at = base + (stretch.start - base) // PAGE * PAGE
            while at < stretch.end:
                at = _classify_some(source, base, at, stretch.end, classes, view)
                yield at - base


def _classify_some(
    source: MemorySource, base: int, at: int, end: int, classes: "np.ndarray[Any, Any]", view: memoryview
) -> int:
    """Read and classify at most one buffer from ``at`` on; returns where to continue, after an unreadable page."""
    size = min(_BUFFER, -(-(end - at) // PAGE) * PAGE)
    whole = source.readinto(at, view[:size]) // PAGE
    first = (at - base) // PAGE
    classes[first : first + whole] = classify(view[: whole * PAGE])
    return at + max(whole, 1) * PAGE if whole * PAGE < size else at + size


def shrink(classes: "np.ndarray[Any, Any]", points: int) -> "np.ndarray[Any, Any]":
    """Reduce the classes to at most ``points`` points; each shows the class of its pages that is last in _RANK.

    The classes are replaced by their rank, so that the maximum over each group of ``each`` pages is the class to show.
    """
    import numpy as np

    each = max(1, -(-len(classes) // points))
    if each == 1:
        return classes
    rank = np.zeros(len(PageClass), dtype=np.uint8)
    rank[[int(kind) for kind in _RANK]] = np.arange(len(_RANK), dtype=np.uint8)
    padded = np.zeros(-(-len(classes) // each) * each, dtype=np.uint8)
    padded[: len(classes)] = rank[classes]
    best = padded.reshape(-1, each).max(axis=1)
    kinds = np.array([int(kind) for kind in _RANK], dtype=np.uint8)
    return np.asarray(kinds[best])


@dataclass(frozen=True)
class Picture:
    """A map of guest memory, ready to be drawn: ``points`` has one class per point, for ``per_point`` pages each.

    ``marks`` are the points with hits, and what was found there; ``counts`` is the number of pages per class.
    """

    title: str
    subtitle: str
    blocks: tuple[GuestRange, ...]
    counts: dict[str, int]
    points: bytes
    per_point: int
    marks: tuple[tuple[int, str], ...] = ()
    stopped: str | None = None

    def gpa(self, point: int) -> int:
        """The guest-physical address of the first page of a point."""
        at = point * self.per_point * PAGE
        for block in self.blocks:
            if at < block.size:
                return block.gpa + at
            at -= block.size
        return at

    def as_dict(self) -> Map:
        """The JSON form; points are compressed (zlib, base64)."""
        return {
            "title": self.title,
            "subtitle": self.subtitle,
            "blocks": [{"name": b.name, "gpa": b.gpa, "size": b.size} for b in self.blocks],
            "pages": self.counts,
            "pages_per_point": self.per_point,
            "classes": [kind.word for kind in PageClass],
            "points": base64.b64encode(zlib.compress(self.points, 9)).decode(),
            "marks": [{"point": point, "label": label} for point, label in self.marks],
            "stopped": self.stopped,
        }


def from_dict(value: dict[str, Any]) -> Picture:
    """The picture that ``as_dict`` wrote. Raises BadInputError when it is damaged."""
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(value["points"], validate=True), 2 * MAX_POINTS)
        blocks = tuple(GuestRange(b["name"], int(b["gpa"]), int(b["size"]), None) for b in value["blocks"])
        marks = tuple((int(mark["point"]), str(mark["label"])) for mark in value["marks"])
        if len(raw) > MAX_POINTS or (raw and max(raw) >= len(PageClass)) or any(m >= len(raw) for m, _ in marks):
            raise ValueError("points out of range")
        counts = {str(word): int(number) for word, number in value["pages"].items()}
        texts = str(value["title"]), str(value["subtitle"])
        return Picture(*texts, blocks, counts, raw, int(value["pages_per_point"]), marks, value.get("stopped"))
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise BadInputError(f"not a memory map: {error}") from error


def draw(pages: GuestPages, title: str, subtitle: str = "", hits: Iterable[tuple[int, str]] = ()) -> Picture:
    """The picture of a guest's pages; ``hits`` are guest-physical addresses with what was found there."""
    per_point = max(1, -(-len(pages.classes) // MAX_POINTS))
    marks: dict[int, list[str]] = {}
    for gpa, label in hits:
        index = pages.index(gpa)
        if index is not None:
            marks.setdefault(index // per_point, []).append(f"{label} at {gpa:#x}")
    return Picture(
        title,
        subtitle,
        tuple(GuestRange(block.name, block.gpa, block.size, None) for block in pages.blocks),
        pages.counts(),
        shrink(pages.classes, MAX_POINTS).tobytes(),
        per_point,
        tuple((point, _joined(labels)) for point, labels in sorted(marks.items())),
        pages.stopped,
    )


def _joined(labels: list[str]) -> str:
    more = len(labels) - 4
    return ", ".join(labels[:4]) + (f" and {more} more" if more > 0 else "")


def physical_map(source: MemorySource) -> GuestMap:
    """Guest RAM of a dump whose addresses are guest-physical: one block per region."""
    blocks = [GuestRange(r.name or "ram", r.start, r.size, r.start) for r in source.regions()]
    return GuestMap(blocks, "core")
