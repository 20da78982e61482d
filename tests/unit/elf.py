"""ELF cores written by the tests themselves."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """A PT_LOAD: ``data`` stored at its place in the file; ``size`` in memory if that differs."""

    address: int
    data: bytes
    size: int | None = None
    flags: int = 6
    physical: int = 0


def note(name: bytes, kind: int, description: bytes) -> bytes:
    """One entry of a PT_NOTE segment."""
    name += b"\0"
    head = struct.pack("<III", len(name), len(description), kind)
    return head + name + bytes(-len(name) % 4) + description + bytes(-len(description) % 4)


def nt_file(entries: Sequence[tuple[int, int, int, str]], page: int = 4096) -> bytes:
    """The note with the mapped files: (start, end, offset in bytes, path)."""
    body = struct.pack("<QQ", len(entries), page)
    body += b"".join(struct.pack("<QQQ", start, end, offset // page) for start, end, offset, _ in entries)
    return note(b"CORE", 0x46494C45, body + b"".join(path.encode() + b"\0" for *_, path in entries))


def core(loads: Sequence[Load], notes: bytes = b"", *, extended: bool = False) -> bytes:
    """A little-endian ELF64 core; ``extended`` uses the numbering for more than 65,534 segments."""
    headers = ([(4, 4, notes, 0, 0, len(notes))] if notes else []) + [
        (1, load.flags, load.data, load.address, load.physical, len(load.data) if load.size is None else load.size)
        for load in loads
    ]
    table_at = 64
    section_at = table_at + 56 * len(headers)
    offset = section_at + (64 if extended else 0)
    table, body = bytearray(), bytearray()
    for kind, flags, data, address, physical, size in headers:
        table += struct.pack("<IIQQQQQQ", kind, flags, offset, address, physical, len(data), size, 1)
        body += data
        offset += len(data)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = 0xFFFF if extended else len(headers)
    head = struct.pack(
        "<HHIQQQIHHHHHH", 4, 62, 1, 0, table_at, section_at if extended else 0, 0, 64, 56, count, 64, 0, 0
    )
    section = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, len(headers), 0, 0) if extended else b""
    return ident + head + bytes(table) + section + bytes(body)
