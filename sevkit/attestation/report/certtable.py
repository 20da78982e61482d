"""Certificate tables of extended report requests. Pure.

Format: GHCB specification (56421), SNP Extended Guest Request: entries of a GUID, an offset and a length, each
little-endian, ended by an entry of zeros; offsets count from the start of the table.
"""

import struct
import uuid

from sevkit.errors import BadInputError

VCEK = uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd")
VLEK = uuid.UUID("a8074bc2-a25a-483e-aae6-39c045a0b8a1")
ASK = uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782")
ARK = uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae")
CRL = uuid.UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea")
KNOWN = {VCEK: "VCEK", VLEK: "VLEK", ASK: "ASK", ARK: "ARK", CRL: "CRL"}

_ENTRY = struct.Struct("<16sII")
MOST_ENTRIES = 64
MOST_BYTES = 1 << 20


def looks_like_one(data: bytes) -> bool:
    """Whether the first entry names a certificate that belongs in a table."""
    return len(data) >= 2 * _ENTRY.size and uuid.UUID(bytes_le=data[:16]) in KNOWN | _BIG_ENDIAN


_BIG_ENDIAN = {uuid.UUID(bytes_le=guid.bytes): name for guid, name in KNOWN.items()}


def read(data: bytes) -> dict[str, bytes]:
    """Name -> contents of each entry; raises BadInputError for an inconsistent table.

    Tables of Linux store GUIDs in their printed order (big-endian), others in EFI's order: both are read.
    """
    if len(data) > MOST_BYTES:
        raise BadInputError(f"a certificate table of {len(data)} bytes is too large")
    found: dict[str, bytes] = {}
    spans: list[tuple[int, int]] = []
    for number in range(MOST_ENTRIES + 1):
        at = number * _ENTRY.size
        if at + _ENTRY.size > len(data) or number == MOST_ENTRIES:
            raise BadInputError("the certificate table has no end")
        raw, offset, length = _ENTRY.unpack_from(data, at)
        if not any(raw):
            break
        if not length or offset < at + _ENTRY.size or offset + length > len(data):
            raise BadInputError(f"entry {number} of the certificate table lies outside of it")
        guid = uuid.UUID(bytes_le=raw)
        name = KNOWN.get(guid) or _BIG_ENDIAN.get(guid) or str(uuid.UUID(bytes=raw))
        if name in found:
            raise BadInputError(f"the certificate table holds {name} twice")
        found[name] = data[offset : offset + length]
        spans.append((offset, offset + length))
    _check_spans(spans, number)
    return found


def _check_spans(spans: list[tuple[int, int]], entries: int) -> None:
    """Entries must be after the table and must not overlap: no byte may belong to two certificates."""
    end = (entries + 1) * _ENTRY.size
    for start, stop in sorted(spans):
        if start < end:
            raise BadInputError("entries of the certificate table overlap")
        end = stop


def write(entries: dict[str, bytes]) -> bytes:
    """A table of named certificates, as Linux hands it to guests."""
    guids = {name: guid for guid, name in KNOWN.items()}
    at = (len(entries) + 1) * _ENTRY.size
    head = b""
    for name, contents in entries.items():
        head += _ENTRY.pack(guids[name].bytes, at, len(contents))
        at += len(contents)
    return head + bytes(_ENTRY.size) + b"".join(entries.values())
