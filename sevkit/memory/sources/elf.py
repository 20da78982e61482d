"""Read ELF core files without trusting what they say about themselves.

Format: System V ABI, chapters 4 and 5 (ELF header, program headers); NT_FILE as the kernel's fs/binfmt_elf.c writes it;
extended numbering (PN_XNUM) as in elf(5). Counts and sizes are checked against the file and against limits before
memory is allocated for them.
"""

from __future__ import annotations

import itertools
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

from sevkit.errors import BadInputError
from sevkit.memory.sources.leftover import section_ranges, unsearched

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_SEGMENTS = 1 << 18  # four times the mappings that Linux gives a process by default (vm.max_map_count)
MAX_NOTES = 64 << 20  # bytes
_ET_CORE, _PT_LOAD, _PT_NOTE, _PN_XNUM, _NT_FILE = 4, 1, 4, 0xFFFF, 0x46494C45
_MAGICS = {
    b"KDUMP   ": (
        "a kdump-compressed dump",
        "write ELF: virsh dump --memory-only --format elf, dump-guest-memory without -z -l -s -w, makedumpfile -E",
    ),
    b"makedump": ("a flattened makedumpfile dump", "rebuild it with `makedumpfile -R`"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "decompress it first: `zstd -d`"),
    b"\x1f\x8b": ("compressed with gzip", "decompress it first: `gunzip`"),
    b"\x04\x22\x4d\x18": ("compressed with lz4", "decompress it first: `lz4 -d`"),
    b"\xfd7zXZ": ("compressed with xz", "decompress it first: `xz -d`"),
}


class Segment(NamedTuple):
    """A loadable segment: ``size`` bytes at ``address``; the first ``stored`` of them are at ``offset`` in the file.

    The file is long enough for the first ``present`` of the stored bytes.
    """

    address: int
    size: int
    offset: int
    stored: int
    present: int
    flags: int = 0

    @property
    def perms(self) -> str:
        """As in /proc/PID/maps."""
        return "".join(letter if self.flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


class _Header(NamedTuple):
    """A program header of one of the two types used here (PT_LOAD, PT_NOTE)."""

    type: int
    flags: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int


class MappedFile(NamedTuple):
    """An entry of NT_FILE: which file was mapped where. ``offset`` in bytes."""

    start: int
    end: int
    offset: int
    path: str


class Core(NamedTuple):
    """The contents of a core file. Segments are disjoint, in order of address.

    ``physical`` is True for dumps of a guest (QEMU's dump-guest-memory): addresses are then guest-physical.
    ``hidden_bytes``: bytes of the file in a segment whose addresses another one claims too (the first in the table
    wins), or beyond the last address. ``unclaimed_bytes``: bytes in nothing known, not counting pages of zeros.
    """

    segments: tuple[Segment, ...]
    files: tuple[MappedFile, ...] = ()
    physical: bool = False
    notes: tuple[tuple[str, int], ...] = ()
    page_tables: tuple[int, ...] = ()  # physical addresses (CR3), of QEMU's notes on its CPUs
    hidden_bytes: int = 0
    unclaimed_bytes: int = 0

    @property
    def missing_bytes(self) -> int:
        """Bytes that should be stored but are beyond the end of the file."""
        return sum(segment.stored - segment.present for segment in self.segments)


def parse(descriptor: int) -> Core:
    """Read the headers of an ELF core from an open file. Raises BadInputError with what is wrong."""
    size = os.fstat(descriptor).st_size
    ident = os.pread(descriptor, 64, 0)
    _check_magic(ident)
    is64, order = ident[4] == 2, "<" if ident[5] == 1 else ">"
    header = _file_header(ident, is64, order)
    if header["type"] != _ET_CORE:
        raise BadInputError(f"an ELF file, but not a core (type {header['type']})", hint="give a core dump")
    table = _program_headers(descriptor, header, is64, order, size)
    notes, files, page_tables = _notes(descriptor, table, order, is64, size)
    physical = any(name == "QEMU" for name, _ in notes)
    segments = _segments(table, size, physical=physical, is64=is64)
    loads = [(row.offset, row.offset + row.filesz) for row in table if row.type == _PT_LOAD]
    searched = [(segment.offset, segment.offset + segment.present) for segment in segments]
    others = [(row.offset, row.offset + row.filesz) for row in table if row.type == _PT_NOTE]
    others += _header_ranges(descriptor, header, is64, order)
    left = unsearched(descriptor, size, loads, searched, others)
    return Core(segments, files, physical, tuple(notes), page_tables, *left)


def _check_magic(ident: bytes) -> None:
    for magic, (what, hint) in _MAGICS.items():
        if ident.startswith(magic):
            raise BadInputError(f"the file is {what}, not an ELF core", hint=hint)
    if not ident.startswith(b"\x7fELF"):
        raise BadInputError("not an ELF file", hint="make one with `gcore PID`")
    if len(ident) < 52 or (ident[4] == 2 and len(ident) < 64):
        raise BadInputError("the ELF header is cut short")
    if ident[4] not in (1, 2) or ident[5] not in (1, 2):
        raise BadInputError(f"ELF class {ident[4]} or byte order {ident[5]} does not exist")


def _file_header(ident: bytes, is64: bool, order: str) -> dict[str, int]:
    names = [
        "type",
        "machine",
        "version",
        "entry",
        "phoff",
        "shoff",
        "flags",
        "ehsize",
        "phentsize",
        "phnum",
        "shentsize",
        "shnum",
    ]
    layout = "HHIQQQIHHHHH" if is64 else "HHIIIIIHHHHH"
    return dict(zip(names, struct.unpack_from(order + layout, ident, 16), strict=True))


def _program_headers(fd: int, header: dict[str, int], is64: bool, order: str, size: int) -> list[_Header]:
    layout = struct.Struct(order + ("IIQQQQQQ" if is64 else "IIIIIIII"))
    count = _segment_count(fd, header, is64, order)
    if count > MAX_SEGMENTS:
        raise BadInputError(f"the core says it has {count} segments; more than {MAX_SEGMENTS} are not read")
    if count and header["phentsize"] != layout.size:
        raise BadInputError(f"program headers of {header['phentsize']} bytes; this ELF class has {layout.size}")
    if header["phoff"] + count * layout.size > size:
        raise BadInputError(f"the core is cut short: its table of {count} segments lies beyond the end of the file")
    raw = os.pread(fd, count * layout.size, header["phoff"]) if count else b""
    if len(raw) != count * layout.size:
        raise BadInputError("the core became shorter while it was read")
    rows = (row for row in layout.iter_unpack(raw) if row[0] in (_PT_LOAD, _PT_NOTE))
    if is64:
        return [_Header(kind, flags, *rest[:5]) for kind, flags, *rest in rows]
    return [_Header(kind, flags, *rest) for kind, *rest, flags, _ in rows]


def _segment_count(fd: int, header: dict[str, int], is64: bool, order: str) -> int:
    """The number of program headers; with PN_XNUM it is in sh_info of the first section header (elf(5))."""
    if header["phnum"] != _PN_XNUM:
        return header["phnum"]
    raw = os.pread(fd, 4, header["shoff"] + (44 if is64 else 28)) if 0 < header["shoff"] < 1 << 62 else b""
    if len(raw) != 4:
        raise BadInputError("the core says it has more than 65,534 segments but not how many")
    return int(struct.unpack(order + "I", raw)[0])


def _header_ranges(fd: int, header: dict[str, int], is64: bool, order: str) -> list[tuple[int, int]]:
    """The file ranges of headers and tables."""
    programs = header["phoff"], header["phoff"] + header["phentsize"] * _segment_count(fd, header, is64, order)
    sections = section_ranges(fd, header["shoff"], header["shentsize"], header["shnum"], order, is64)
    return [(0, max(header["ehsize"], 64 if is64 else 52)), programs, *sections]


def _segments(table: Sequence[_Header], size: int, *, physical: bool, is64: bool) -> tuple[Segment, ...]:
    """The loadable segments made disjoint: where two overlap, the one earlier in the table wins."""
    top = 1 << (64 if is64 else 32)
    rows = []
    for row in table:
        address = row.paddr if physical else row.vaddr
        memory = min(max(row.memsz, row.filesz), top - address)
        stored = min(row.filesz, memory)
        if row.type == _PT_LOAD and memory:
            present = max(0, min(stored, size - row.offset))
            rows.append(Segment(address, memory, row.offset, stored, present, row.flags))
    return disjoint(rows)


def disjoint(rows: list[Segment]) -> tuple[Segment, ...]:
    """Cut segments so that none overlap; earlier ones in the list win. Returns them sorted."""
    ordered = sorted(range(len(rows)), key=lambda index: (rows[index].address, index))
    if all(rows[a].address + rows[a].size <= rows[b].address for a, b in itertools.pairwise(ordered)):
        return tuple(rows[index] for index in ordered)
    return _sweep(rows, ordered)


def _sweep(rows: list[Segment], ordered: list[int]) -> tuple[Segment, ...]:
    """Cut overlapping segments in one pass over all addresses at which a segment starts or ends.

    ``opened`` is a heap of the segments that cover the current piece; the one with the lowest index owns it. Segments
    that have ended are removed only when they come to the top. Neighbouring pieces of one owner are merged.
    """
    import heapq

    edges = sorted({rows[i].address for i in ordered} | {rows[i].address + rows[i].size for i in ordered})
    owned: list[tuple[int, int, int]] = []  # owner, start, end
    opened: list[int] = []
    following = iter(ordered)
    upcoming = next(following, None)
    for start, end in itertools.pairwise(edges):
        while upcoming is not None and rows[upcoming].address <= start:
            heapq.heappush(opened, upcoming)
            upcoming = next(following, None)
        while opened and rows[opened[0]].address + rows[opened[0]].size <= start:
            heapq.heappop(opened)
        if opened and owned and owned[-1][0] == opened[0] and owned[-1][2] == start:
            owned[-1] = (opened[0], owned[-1][1], end)
        elif opened:
            owned.append((opened[0], start, end))
    return tuple(_cut(rows[owner], start, end) for owner, start, end in owned)


def _cut(row: Segment, start: int, end: int) -> Segment:
    """The part of a segment with the addresses ``[start, end)``."""
    skip, length = start - row.address, end - start
    stored, present = (min(max(0, amount - skip), length) for amount in (row.stored, row.present))
    return Segment(start, length, row.offset + skip, stored, present, row.flags)


def _notes(
    fd: int, table: Sequence[_Header], order: str, is64: bool, size: int
) -> tuple[list[tuple[str, int]], tuple[MappedFile, ...], tuple[int, ...]]:
    """Names and types of all notes, the entries of NT_FILE, and page tables. The list ends at a damaged note."""
    found: list[tuple[str, int]] = []
    page_tables: list[int] = []
    files: tuple[MappedFile, ...] = ()
    budget = MAX_NOTES
    for row in table:
        wanted = min(row.filesz, budget, max(0, size - row.offset)) if row.type == _PT_NOTE else 0
        raw = os.pread(fd, wanted, row.offset) if wanted else b""
        budget -= len(raw)
        for name, kind, description in _walk(raw, order):
            if len(found) < 4096:
                found.append((name, kind))
            if kind == _NT_FILE and name == "CORE" and not files:
                files = _mapped_files(description, order, is64)
            if name == "QEMU" and len(page_tables) < 4096:
                page_tables += _page_table(description, order)
    return found, files, tuple(page_tables)


def _page_table(raw: bytes, order: str) -> list[int]:
    """CR3 of a CPU with paging on, from QEMU's note (target/i386/arch_dump.c, QEMUCPUState of version 1)."""
    if len(raw) < 432 or struct.unpack_from(order + "I", raw)[0] != 1:
        return []
    cr0, cr3 = struct.unpack_from(order + "Q", raw, 392)[0], struct.unpack_from(order + "Q", raw, 416)[0]
    return [cr3 & 0x000F_FFFF_FFFF_F000] if cr0 >> 31 & 1 and cr3 else []


def _walk(raw: bytes, order: str) -> list[tuple[str, int, bytes]]:
    entries = []
    at = 0
    while at + 12 <= len(raw):
        namesz, descsz, kind = struct.unpack_from(order + "III", raw, at)
        name_at = at + 12
        desc_at = name_at + (namesz + 3 & ~3)
        at = desc_at + (descsz + 3 & ~3)
        if desc_at + descsz > len(raw):
            break
        name = raw[name_at : name_at + min(namesz, 64)].rstrip(b"\0").decode("ascii", "replace")
        entries.append((name, kind, raw[desc_at : desc_at + descsz]))
    return entries


def _mapped_files(raw: bytes, order: str, is64: bool) -> tuple[MappedFile, ...]:
    word = struct.Struct(order + ("QQQ" if is64 else "III"))
    head = struct.Struct(order + ("QQ" if is64 else "II"))
    if len(raw) < head.size:
        return ()
    count, page = head.unpack_from(raw)
    if count > (len(raw) - head.size) // word.size:
        return ()
    names = raw[head.size + count * word.size :].split(b"\0", count)
    entries = zip(word.iter_unpack(raw[head.size : head.size + count * word.size]), names, strict=False)
    return tuple(
        MappedFile(start, end, offset * page, name.decode("utf-8", "replace")) for (start, end, offset), name in entries
    )
