"""Report a finished search as JSON values: the place of each hit, the part of guest RAM searched, and the doubts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sevkit.memory.search import native
from sevkit.memory.search.patterns import cuts_are_seen
from sevkit.memory.sources.base import State, intersect, normalise, region_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.guest_ram.layout import GuestMap
    from sevkit.memory.payload import Answer, GuestRam, HitRow, Placed, Scan
    from sevkit.memory.search.patterns import Pattern
    from sevkit.memory.search.scan import ScanResult
    from sevkit.memory.search.workers import Hit
    from sevkit.memory.sources.base import MemorySource

CONTEXT = 24  # bytes on each side of a hit


def place(source: MemorySource, guest: GuestMap | None, address: int) -> Placed:
    """Describe an address: its mapping and, if it is guest RAM, its guest-physical address and RAM block."""
    region = region_at(source.regions(), address)
    at = guest.place(address) if guest else None
    return {
        "address": address,
        "gpa": at.gpa if at else None,
        "ram_block": at.block if at else None,
        "region": region.label if region else None,
        "region_offset": address - region.start if region else None,
        "perms": region.perms if region else None,
    }


def hits(
    source: MemorySource, result: ScanResult, patterns: Sequence[Pattern], guest: GuestMap | None, *, show: bool
) -> list[HitRow]:
    """All hits as JSON values. The bytes themselves are included only with ``show``."""
    return [
        {
            **place(source, guest, hit.address),
            "pattern": patterns[hit.pattern].label(hit.pattern),
            "length": hit.length,
            "context": context(source, hit, show=show),
        }
        for hit in result.hits
    ]


def context(source: MemorySource, hit: Hit, *, show: bool) -> str:
    """The bytes around a hit, the hit in «»: as text with ``show``, else only their kinds (x text, 0 zero, . other)."""
    before = _before(source, hit.address)
    after = source.read(hit.address + hit.length, CONTEXT)
    if show:
        middle = _text(source.read(hit.address, min(hit.length, 256)))
        return f"{_text(before)}«{middle}»{_text(after)}"
    return f"{_kinds(before)}«{hit.length} bytes»{_kinds(after)}"


def _before(source: MemorySource, address: int) -> bytes:
    """The readable bytes that end at ``address``."""
    size = min(CONTEXT, address)
    data = source.read(address - size, size)
    if len(data) == size:
        return data
    inside = address % 4096  # the previous page cannot be read: take only bytes of this page
    size = min(CONTEXT, inside)
    data = source.read(address - size, size)
    return data if len(data) == size else b""


def _text(data: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)


def _kinds(data: bytes) -> str:
    return "".join("x" if 32 <= byte < 127 else "0" if byte == 0 else "." for byte in data)


def guest_ram(source: MemorySource, guest: GuestMap | None) -> GuestRam | None:
    """How many bytes of guest RAM the source has, by state. ``origin`` says how the location of guest RAM is known."""
    if guest is None:
        return None
    parts = intersect(source.stretches(), normalise(guest.host_ranges()))
    states = {State.DATA: 0, State.UNPOPULATED: 0, State.UNREADABLE: 0}
    for part in parts:
        states[part.state] += part.size
    return {
        "origin": guest.origin,
        "bytes": guest.size,
        "readable_bytes": states[State.DATA],
        "unpopulated_bytes": states[State.UNPOPULATED],
        "unreadable_bytes": states[State.UNREADABLE],
        "not_mapped_bytes": guest.size - sum(part.size for part in parts),
        "blocks": [
            {"name": b.name, "gpa": b.gpa, "size": b.size, "host_address": b.host_address} for b in guest.blocks
        ],
    }


def doubts(
    source: MemorySource,
    result: ScanResult,
    patterns: Sequence[Pattern],
    guest: GuestMap | None,
    ram: GuestRam | None,
    *,
    ram_only: bool = False,
) -> list[str]:
    """Reasons why "not found" proves nothing here; empty when it is a proof, or when every pattern was found."""
    reasons = []
    if result.stopped:
        reasons.append(f"the search did not finish: {result.stopped}")
    found = {hit.pattern for hit in result.hits}
    if len(found) == len(patterns):
        return reasons
    if not result.coverage.mapped_bytes:
        reasons.append("there was no memory to search")
    for reason, size in result.coverage.unreadable.items():
        reasons.append(f"{size} bytes were not searched ({reason})")
    if ram and ram_only and ram["origin"] == "guess":
        reasons.append("only guest RAM was searched, and where that lies is a guess")
    if ram and ram["not_mapped_bytes"]:
        reasons.append(f"{ram['not_mapped_bytes']} bytes of guest RAM are not in what was searched")
    if source.partial:
        reasons.append(source.partial)
    missing = [index for index in range(len(patterns)) if index not in found]
    return reasons + _cut(result, patterns, missing, guest) + source.moved(guest.host_ranges() if guest else None)


def _cut(result: ScanResult, patterns: Sequence[Pattern], missing: Sequence[int], guest: GuestMap | None) -> list[str]:
    """Reasons why a pattern that was not found in one piece may be in two pages that are apart.

    Pages side by side for a guest need not be so in its physical memory. For a process they are; where no guest RAM is
    known, a part that stands at the border of a page still is a reason to look.
    """
    parts = [part for part in result.parts if guest is None or _in_guest(guest, part.border)]
    reasons = []
    for index in missing:
        cut = next((part for part in parts if part.pattern == index), None)
        size, name = len(patterns[index].value), patterns[index].label(index)
        if cut and patterns[index].regex:
            page = "at the end of a page" if cut.cut > 0 else "at the begin of a page"
            where = f"{page} ({cut.border:#x}); the rest may be in another page"
            reasons.append(f"{abs(cut.cut)} bytes that may be a part of a match of {name} stand {where}")
        elif cut:
            longer = f"last {size - cut.cut}" if size - cut.cut >= cut.cut else f"first {cut.cut}"
            where = f"at the border of a page ({cut.border:#x}); the rest may be in another page"
            reasons.append(f"the {longer} of the {size} bytes of {name} stand {where}")
    literals = [patterns[index] for index in missing if not patterns[index].regex]
    if guest and not (seen := cuts_are_seen(p.value for p in patterns if not p.regex)) and literals:
        many = f"together they have more than {native.MOST_CUT >> 10} KiB: search for fewer at once"
        why = many if native.built else ": ".join(native.missing())
        reasons.append(f"secrets across two pages of the guest were not looked for: {why}")
    elif guest and (blind := [p for p in literals if not native.cut_is_seen(p.value)]) and seen:
        reasons.append(
            f"{len(blind)} secrets are too short, or too uniform, to tell whether they are in two pages of the guest"
        )
    return reasons


def _in_guest(guest: GuestMap, border: int) -> bool:
    return guest.place(border) is not None or guest.place(border - 1) is not None


def _limits(patterns: Sequence[Pattern], counts: Sequence[int], ram: GuestRam | None) -> list[str]:
    """What a complete search for these patterns does not find."""
    absent = [index for index, count in enumerate(counts) if not count]
    missing = [patterns[index] for index in absent]
    found = ["compressed memory (zswap, zram), swap devices of a guest, and other encodings are not looked into"]
    padded = [patterns[index].label(index) for index in absent if _padded(patterns[index])]
    if padded:
        more = f" and {len(padded) - 1} more" if len(padded) > 1 else ""
        found.append(f"white space at an end of {padded[0]}{more} is part of the secret: it was not looked for without")
    if any(pattern.regex and _LINE_ENDS.search(pattern.value) for pattern in missing):
        found.append("`^` and `$` match at the ends of lines, not beside the NUL byte at the end of a string in memory")
    if any(pattern.regex for pattern in missing):
        from sevkit.memory.search.regexes import MAX_MATCH, cut_is_seen, longest

        if ram and not all(cut_is_seen(pattern.value) for pattern in missing if pattern.regex):
            found.append("a match of a regular expression across two pages of the guest may be in two places")
        if any(pattern.regex and longest(pattern.value) > MAX_MATCH for pattern in missing):
            found.append(f"matches of a regular expression of more than {MAX_MATCH} bytes are not found")
    return found


_LINE_ENDS = re.compile(rb"(?<![\\[])\^|(?<!\\)\$")  # also one in a class: a remark too many does no harm


def _padded(pattern: Pattern) -> bool:
    """Whether a literal begins or ends with white space, as lines of a file that was edited by hand do."""
    return not pattern.regex and pattern.value != pattern.value.strip()


def verdict(counts: Sequence[int], doubts: Sequence[str]) -> Answer:
    """The answer in a word: an exit status of 0 with ``not found`` is a statement about what was searched."""
    if all(counts):
        return "found"
    if doubts:
        return "inconclusive"
    return "partly found" if any(counts) else "not found"


def as_dict(
    source: MemorySource,
    result: ScanResult,
    patterns: Sequence[Pattern],
    guest: GuestMap | None,
    *,
    show: bool,
    ram_only: bool = False,
) -> Scan:
    """The whole search, as the ``data`` of a result envelope."""
    ram = guest_ram(source, guest)
    counts = [0] * len(patterns)
    for hit in result.hits:
        counts[hit.pattern] += 1
    reasons = doubts(source, result, patterns, guest, ram, ram_only=ram_only)
    return {
        "target": source.title,
        "verdict": verdict(counts, reasons),
        "patterns": [
            {"name": pattern.label(index), "regex": pattern.regex, "hits": counts[index]}
            for index, pattern in enumerate(patterns)
        ],
        "hits": hits(source, result, patterns, guest, show=show),
        "coverage": result.coverage.as_dict(),
        "guest_ram": ram,
        "finished": result.finished,
        "stopped": result.stopped,
        "limits": [] if all(counts) else [*source.limits(), *_limits(patterns, counts, ram)],
        "doubts": reasons,
        "seconds": round(result.seconds, 6),
        "threads": result.threads,
    }
