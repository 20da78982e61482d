"""Types of the JSON ``data`` of `sevkit scan`, `memory map` and `memory extract`. Sizes and addresses in bytes."""

from typing import Literal, TypedDict


class PatternRow(TypedDict):
    """What was searched for, and how often it was found."""

    name: str
    regex: bool
    hits: int


class Placed(TypedDict):
    """Where an address lies: guest-physical address and RAM block where it is guest RAM, and the mapping."""

    address: int
    gpa: int | None
    ram_block: str | None
    region: str | None
    region_offset: int | None
    perms: str | None


class HitRow(Placed):
    """A place where something was found."""

    pattern: str
    length: int
    context: str


class CoverageRow(TypedDict):
    """What was searched, in bytes; ``unreadable`` by reason."""

    mapped_bytes: int
    read_bytes: int
    unreadable_bytes: int
    unreadable: dict[str, int]
    skipped_unpopulated_bytes: int
    unread_bytes: int
    complete: bool


class Block(TypedDict):
    """A block of guest RAM, and where the VMM has it."""

    name: str
    gpa: int
    size: int
    host_address: int | None


class GuestRam(TypedDict):
    """Guest RAM against what was searched of it; ``origin`` says how its place is known."""

    origin: str
    bytes: int
    readable_bytes: int
    unpopulated_bytes: int
    unreadable_bytes: int
    not_mapped_bytes: int
    blocks: list[Block]


Answer = Literal["found", "partly found", "not found", "inconclusive"]


class Scan(TypedDict):
    """A search. ``doubts`` says why "not found" proves nothing; ``limits`` what it never proves of such a source."""

    target: str
    verdict: Answer
    patterns: list[PatternRow]
    hits: list[HitRow]
    coverage: CoverageRow
    guest_ram: GuestRam | None
    finished: bool
    stopped: str | None
    limits: list[str]
    doubts: list[str]
    seconds: float
    threads: int


class MapBlock(TypedDict):
    """A block of guest RAM."""

    name: str
    gpa: int
    size: int


class Mark(TypedDict):
    """A point of a map where a secret stands."""

    point: int
    label: str


class Map(TypedDict):
    """A picture of guest memory; ``points`` are indices of ``classes``, a byte each, compressed (zlib, base64)."""

    title: str
    subtitle: str
    blocks: list[MapBlock]
    pages: dict[str, int]
    pages_per_point: int
    classes: list[str]
    points: str
    marks: list[Mark]
    stopped: str | None


class Maps(TypedDict):
    """One map for each input."""

    maps: list[Map]
    output: str | None


class Extent(TypedDict):
    """A stretch of guest-physical memory."""

    gpa: int
    size: int


class Extract(TypedDict):
    """What was written of guest RAM; ``limits``: why it may not be the memory of one moment."""

    path: str
    format: Literal["lime", "padded", "raw"]
    guest_ram_bytes: int
    read_bytes: int
    unpopulated_bytes: int
    missing_bytes: int
    stretches: list[Extent]
    origin: str
    limits: list[str]
