"""Reports as go-sev-guest keeps them: its protobuf messages Report and Attestation. Pure.

Source: google/go-sev-guest, proto/sevsnp.proto. The message holds the report's fields; the 1184 bytes are put together
again, with zeros in reserved places. If the firmware had written anything else there, the signature does not fit.
"""

from collections.abc import Iterator

from sevkit.attestation.report import layout
from sevkit.attestation.report.layout import FIELDS
from sevkit.errors import BadInputError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_REPORT, _CHAIN = 1, 2  # fields of Attestation
_EXTRAS = 7  # of the chain: a map, not read
_CERTIFICATES = {1: "VCEK", 2: "ASK", 3: "ARK", 6: "VLEK"}
_NAMES = {
    **dict(enumerate(("version", "guest_svn", "policy", "family_id", "image_id", "vmpl", "signature_algo"), 1)),
    8: "current_tcb",
    9: "platform_info",
    10: "key_info",
    11: "report_data",
    12: "measurement",
    13: "host_data",
    14: "id_key_digest",
    15: "author_key_digest",
    16: "report_id",
    17: "report_id_ma",
    18: "reported_tcb",
    19: "chip_id",
    20: "committed_tcb",
    27: "launch_tcb",
    30: "launch_mit_vector",
    31: "current_mit_vector",
}
_VERSIONS = {
    21: ("current_version", 0),
    22: ("current_version", 1),
    23: ("current_version", 2),
    24: ("committed_version", 0),
    25: ("committed_version", 1),
    26: ("committed_version", 2),
}
_SIGNATURE, _CPUID = 28, 29
_SIGNATURE_SIZE = layout.SIZE - layout.SIGNED


def looks_like_one(data: bytes) -> bool:
    """Whether a message starts with a report's version, or with a report that does."""
    if data[:1] == b"\x0a":
        at = next((at for at in range(1, 5) if at < len(data) and data[at] < 0x80), len(data)) + 1
        data = data[at : at + 2]
    return len(data) >= 2 and data[0] == 0x08 and data[1] in layout.VERSIONS


def read(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The report's bytes, and the certificates beside it; raises BadInputError for a malformed message."""
    if data[:1] != b"\x0a":
        return _report(data), {}
    whole = _fields(data)
    chain = _fields(_bytes(whole.get(_CHAIN, b"")), repeated=_EXTRAS)
    found = {name: _bytes(chain.get(number, b"")) for number, name in _CERTIFICATES.items()}
    return _report(_bytes(whole[_REPORT])), {name: der for name, der in found.items() if der}


def _report(data: bytes) -> bytes:
    found = bytearray(layout.SIZE)
    for number, value in _fields(data).items():
        if number in _NAMES:
            field = FIELDS[_NAMES[number]]
            _put(found, field.offset, field.size, value)
        elif number in _VERSIONS:
            name, at = _VERSIONS[number]
            _put(found, FIELDS[name].offset + at, 1, value)
        elif number == _SIGNATURE:
            _put(found, layout.SIGNED, _SIGNATURE_SIZE, value)
        elif number == _CPUID:
            found[0x188:0x18B] = _processor(value)
    return bytes(found)


def _put(report: bytearray, offset: int, size: int, value: int | bytes) -> None:
    if isinstance(value, int):
        if value >> 8 * size:
            raise BadInputError(f"a number of the protobuf report does not fit into {size} bytes")
        value = value.to_bytes(size, "little")
    if len(value) != size:
        raise BadInputError(f"a field of the protobuf report has {len(value)} bytes, not {size}")
    report[offset : offset + size] = value


def _processor(eax: int | bytes) -> bytes:
    """Family, model and stepping from CPUID 1 EAX."""
    if not isinstance(eax, int) or eax >> 32:
        raise BadInputError("the processor's signature in the protobuf report is malformed")
    family = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF)
    return bytes((family & 0xFF, (eax >> 16 & 0xF) << 4 | (eax >> 4 & 0xF), eax & 0xF))


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise BadInputError("the protobuf message has a number where a message must be")
    return value


def _fields(data: bytes, *, repeated: int = 0) -> dict[int, int | bytes]:
    """Number -> value of each field; one that stands twice is refused, since readers differ in which one counts."""
    found: dict[int, int | bytes] = {}
    for number, value in _pairs(data):
        if number in found and number != repeated:
            raise BadInputError(f"field {number} stands twice in the protobuf message")
        found[number] = value
    return found


def _pairs(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind)
        if kind == _BYTES:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise BadInputError("the protobuf message is damaged or cut off")
        yield tag >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise BadInputError("the protobuf message is damaged or cut off")
