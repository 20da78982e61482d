"""Reports in go-sev-guest's protobuf messages (google/go-sev-guest, proto/sevsnp.proto)."""

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attestation.report.certificates import Store, load
from sevkit.attestation.report.evidence import read
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.verify import verify
from sevkit.errors import BadInputError

DATA = Path(__file__).parents[1] / "data/reports"
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
# field -> (offset, size) in the report; numbers and bytes as sevsnp.proto has them
NUMBERS = {
    1: (0, 4),
    2: (4, 4),
    3: (8, 8),
    6: (0x30, 4),
    7: (0x34, 4),
    8: (0x38, 8),
    9: (0x40, 8),
    10: (0x48, 4),
    18: (0x180, 8),
    20: (0x1E0, 8),
    21: (0x1E8, 1),
    22: (0x1E9, 1),
    23: (0x1EA, 1),
    24: (0x1EC, 1),
    25: (0x1ED, 1),
    26: (0x1EE, 1),
    27: (0x1F0, 8),
    30: (0x1F8, 8),
    31: (0x200, 8),
}
BYTES = {
    4: (0x10, 16),
    5: (0x20, 16),
    11: (0x50, 64),
    12: (0x90, 48),
    13: (0xC0, 32),
    14: (0xE0, 48),
    15: (0x110, 48),
    16: (0x140, 32),
    17: (0x160, 32),
    19: (0x1A0, 64),
    28: (0x2A0, 512),
}


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def blob(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def message(raw: bytes) -> bytes:
    """A report as protobuf; zeros are left out, as proto3 does it."""
    parts = {
        f: number(f, n) for f, (at, size) in NUMBERS.items() if (n := int.from_bytes(raw[at : at + size], "little"))
    }
    parts |= {field: blob(field, raw[at : at + size]) for field, (at, size) in BYTES.items()}
    family, model, stepping = raw[0x188:0x18B]
    if raw[0] > 2:
        parts[29] = number(29, (family - 15) << 20 | (model >> 4) << 16 | 0xF00 | (model & 15) << 4 | stepping)
    return b"".join(parts[field] for field in sorted(parts))


@pytest.mark.parametrize("name", ["milan-v2", "milan-v3", "genoa-v3", "milan-v5", "siena-v5", "turin-v5"])
def test_a_report_in_protobuf_is_the_report(name: str) -> None:
    raw = (DATA / f"{name}.bin").read_bytes()
    (path,) = DATA.glob(f"{name}-vcek.*")
    vcek = load(path.read_bytes())[0][0].der
    alone = read(message(raw))
    assert (alone.report, alone.form) == (raw, "protobuf of go-sev-guest")
    chain = blob(1, vcek) + blob(7, b"\x0a\x01a") + blob(7, b"\x0a\x01b")
    whole = read(blob(1, message(raw)) + blob(2, chain) + blob(3, number(1, 1)))
    assert whole.report == raw
    assert verify(whole, Store(), now=NOW).verdict is Trust.ACCEPTED


def test_what_is_malformed_is_refused() -> None:
    good = message((DATA / "milan-v3.bin").read_bytes())
    assert read(good)
    for wrong in (
        good[:-1],
        good + good[:2],  # the version twice
        number(1, 3) + blob(4, bytes(15)),
        number(1, 3) + number(21, 256),
        number(1, 3) + blob(29, b"x"),
        number(1, 3) + b"\x0b",
        number(1, 3) + b"\xff" * 11,
        blob(1, number(1, 3) + blob(4, b"")) + number(2, 5),
    ):
        with pytest.raises(BadInputError):
            read(wrong)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(tail: bytes) -> None:
    for head in (b"\x08\x03", b"\x0a\x7f\x08\x03"):
        try:
            found = read(head + tail)
        except BadInputError:
            continue
        assert len(found.report) == 1184
