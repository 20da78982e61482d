"""Find the bytes of a core file that a search of its segments does not read.

Every byte of the file is searched, or is part of a header or note, or is counted here. Gaps of zeros are padding.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from sevkit.memory.sources.base import PAGE, normalise, without

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sevkit.memory.sources.base import Range

_WINDOW = 1 << 20
_TABLES = frozenset({2, 3, 7})  # SHT_SYMTAB, SHT_STRTAB, SHT_NOTE (System V ABI, chapter 4): tables, not memory


def unsearched(
    descriptor: int, size: int, loads: Iterable[Range], searched: Iterable[Range], others: Iterable[Range]
) -> tuple[int, int]:
    """Count the bytes of a file that are in a segment but not ``searched``, and those that are in nothing known.

    All ranges are offsets in the file of ``size`` bytes: ``loads`` of segments, ``others`` of headers and notes.
    """
    claimed = normalise(_within(loads, size))
    hidden = sum(end - start for start, end in without(claimed, normalise(_within(searched, size))))
    gaps = without([(0, size)], normalise([*claimed, *_within(others, size)]))
    return hidden, sum(_not_zero(descriptor, start, end) for start, end in gaps)


def section_ranges(descriptor: int, table: int, entry: int, count: int, order: str, is64: bool) -> list[Range]:
    """The section header table, and the tables it refers to: gdb's cores have section names at their end."""
    layout = struct.Struct(order + ("IIQQQQ" if is64 else "IIIIII"))
    if not table or table >= 1 << 62 or entry < layout.size:
        return []
    raw = os.pread(descriptor, entry * max(1, count), table)
    found = [(table, table + len(raw))]
    for at in range(0, len(raw) - entry + 1, entry):
        _, kind, _, _, offset, length = layout.unpack_from(raw, at)
        if kind in _TABLES:
            found.append((offset, offset + length))
    return found


def _within(ranges: Iterable[Range], size: int) -> Iterator[Range]:
    for start, end in ranges:
        if start < min(end, size):
            yield start, min(end, size)


def _not_zero(descriptor: int, start: int, end: int) -> int:
    """The number of bytes in a part of the file, not counting pages of zeros."""
    total = 0
    for low in range(start, end, _WINDOW):
        data = os.pread(descriptor, min(_WINDOW, end - low), low)
        if data.count(0) == len(data):
            continue
        pages = (data[at : at + PAGE] for at in range(0, len(data), PAGE))
        total += sum(len(page) for page in pages if page.count(0) < len(page))
    return total
