"""File formats of reports: extract the report and the data beside it from any of them. Pure.

Forms: the 1184 bytes alone; the answer of the firmware with its header of 32 bytes (MSG_REPORT_RSP, SEV-SNP firmware
ABI), padded or not; a report with a certificate table behind it (extended report); the blob that Azure keeps in the
vTPM ("HCLA"); the protobuf messages of go-sev-guest; JSON that holds any of these; hex and base64 of all of these.
"""

import base64
import binascii
import hashlib
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from sevkit import strictjson
from sevkit.attestation.report import certtable, layout, protobuf
from sevkit.errors import BadInputError

MOST_BYTES = 4 << 20
_RESPONSE = struct.Struct("<II24s")
_HCL_HEADER = struct.Struct("<4sIII16s")
_HCL_RUNTIME = struct.Struct("<IIIII")
_HCL_HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
_HCL_SNP = 2
_FORMS = (
    "known: 1184 bytes, firmware response, report with certificate table, Azure HCL blob, protobuf, JSON, hex, base64"
)


@dataclass(frozen=True)
class Evidence:
    """A report as received: its bytes, the name of the form, the certificates beside it, and Azure's runtime data."""

    report: bytes
    form: str
    certificates: dict[str, bytes] = field(default_factory=dict)
    runtime_data: bytes | None = None
    runtime_hash: str | None = None

    def runtime_bound(self) -> bool | None:
        """Whether REPORT_DATA starts with the hash of the runtime data; None without runtime data."""
        if self.runtime_data is None or self.runtime_hash is None:
            return None
        digest = hashlib.new(self.runtime_hash, self.runtime_data).digest()
        wanted = digest.ljust(64, b"\0")
        return self.report[0x50:0x90] == wanted


def read(data: bytes) -> Evidence:
    """The evidence in a file; raises BadInputError when there is none."""
    if len(data) > MOST_BYTES:
        raise BadInputError(f"{len(data)} bytes are too many for a report", hint=_FORMS)
    found = _binary(data) or _text(data)
    if found is None:
        raise BadInputError(f"no attestation report in these {len(data)} bytes{_guess(data)}", hint=_FORMS)
    return found


def _binary(data: bytes) -> Evidence | None:
    if len(data) == layout.SIZE and not _is_text(data):
        return Evidence(data, "raw")
    if data[:4] == b"HCLA":
        return _hcl(data)
    if protobuf.looks_like_one(data):
        report, certificates = protobuf.read(data)
        return Evidence(report, "protobuf of go-sev-guest", certificates)
    if len(data) > _RESPONSE.size:
        status, size, reserved = _RESPONSE.unpack_from(data)
        if size == layout.SIZE and not any(reserved):
            return _response(data[_RESPONSE.size :], status)
    if len(data) > layout.SIZE and int.from_bytes(data[:4], "little") in layout.VERSIONS:
        return _with_tail(data[: layout.SIZE], data[layout.SIZE :], "raw")
    return None


def _is_text(data: bytes) -> bool:
    return bool(re.fullmatch(rb"[\x09\x0a\x0d\x20-\x7e]+", data))


def _response(body: bytes, status: int) -> Evidence:
    if status:
        raise BadInputError(f"the firmware refused the report: status {status:#x}")
    if len(body) < layout.SIZE:
        raise BadInputError(f"the firmware's answer is cut off: {len(body)} of {layout.SIZE} bytes of the report")
    return _with_tail(body[: layout.SIZE], body[layout.SIZE :], "firmware response")


def _with_tail(report: bytes, tail: bytes, form: str) -> Evidence:
    """The bytes after a report must be zeros or a certificate table; otherwise the file is no report."""
    if not any(tail):
        return Evidence(report, form)
    if not certtable.looks_like_one(tail):
        raise BadInputError(f"{len(tail)} bytes stand behind the report that are no certificate table", hint=_FORMS)
    return Evidence(report, f"{form} with certificate table", certtable.read(tail))


def _hcl(data: bytes) -> Evidence:
    """Azure's blob: a header of 32 bytes, the report, then the length, type, hash and text of the runtime data."""
    start, end = _HCL_HEADER.size, _HCL_HEADER.size + layout.SIZE
    if len(data) < end + _HCL_RUNTIME.size:
        raise BadInputError(f"the HCL blob is cut off: {len(data)} bytes")
    _, version, _, _, _ = _HCL_HEADER.unpack_from(data)
    if version not in {1, 2}:
        raise BadInputError(f"HCL blob of unknown version {version}")
    _, _, kind, hash_kind, size = _HCL_RUNTIME.unpack_from(data, end)
    if kind != _HCL_SNP:
        raise BadInputError(f"the HCL blob holds a report of type {kind}, not of SEV-SNP ({_HCL_SNP})")
    text = data[end + _HCL_RUNTIME.size :][:size]
    if len(text) != size or hash_kind not in _HCL_HASHES:
        raise BadInputError("the runtime data of the HCL blob are cut off or of an unknown hash")
    return Evidence(data[start:end], "Azure HCL blob", {}, text, _HCL_HASHES[hash_kind])


def _text(data: bytes) -> Evidence | None:
    if not _is_text(data):
        return None
    text = data.decode("ascii").strip()
    if text.startswith(("{", "[")):
        return _json(text)
    raw = decode(text)
    found = _binary(raw) if raw is not None else None
    if found is None:
        return None
    encoding = "hex" if _HEX.fullmatch(text) else "base64"
    return Evidence(
        found.report, f"{found.form} in {encoding}", found.certificates, found.runtime_data, found.runtime_hash
    )


_HEX = re.compile(r"(?:(?:0x)?[0-9a-fA-F]{2}[\s:,]*)+")


def decode(text: str) -> bytes | None:
    """Decode hex (also with 0x, spaces, colons, commas) or base64 (either alphabet, padded or not); None otherwise."""
    if _HEX.fullmatch(text):
        return bytes.fromhex(re.sub(r"0x|[\s:,]", "", text))
    packed = re.sub(r"\s", "", text).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


# Names of the fields, in lower case and without "_" and "-": programs write snp_report, SnpReport, snpReport.
_REPORTS = ("outblob", "attestationreport", "snpreport", "report", "hclreport", "evidence", "quote")
_CERTIFICATES = (
    *("auxblob", "vcek", "vlek", "vekcert", "vcekcert", "vlekcert", "ask", "asvk", "ark"),
    *("certchain", "vcekcertchain", "certificatechain", "certs", "certificates"),
)
_MOST_DEPTH, _MOST_HOLDERS = 32, 10_000


def _json(text: str) -> Evidence | None:
    """Attributes of configfs-tsm, or a claim that contains the report, as other programs write them.

    The report may stand deeper, in objects or lists. Two different reports in one file are refused: which one is meant?
    """
    try:
        document = strictjson.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"not valid JSON: {error}") from error
    found: dict[bytes, Evidence] = {}
    for holder in _holders(document):
        for key in _REPORTS:
            raw = _bytes_in(holder.get(key))
            item = _binary(raw) if raw is not None else None
            if item is not None:
                beside = _beside(holder) or item.certificates
                known = found.get(item.report)
                if known is None or not known.certificates:
                    found[item.report] = replace(item, form=f"{item.form} in JSON", certificates=beside)
    if len(found) > 1:
        raise BadInputError(f"{len(found)} different reports are in this JSON", hint="give one of them alone")
    return next(iter(found.values()), None)


def _holders(document: dict[str, object] | list[object]) -> Iterator[dict[str, object]]:
    """The objects of a document, outer ones first, with their keys as in ``_REPORTS``.

    Raises BadInputError where a document is too large to be searched whole: another report might stand in the rest.
    """
    level: list[dict[str, object] | list[object]] = [document]
    count = 0
    for _ in range(_MOST_DEPTH):
        holders = [item for item in level if isinstance(item, dict)]
        count += len(holders)
        if count > _MOST_HOLDERS:
            break
        yield from map(_plain_keys, holders)
        below = [value for item in level for value in (item.values() if isinstance(item, dict) else item)]
        level = [item for item in below if isinstance(item, dict | list)]
        if not level:
            return
    raise BadInputError(
        f"this JSON has more than {_MOST_DEPTH} levels or {_MOST_HOLDERS} objects", hint="give the report alone"
    )


def _plain_keys(holder: dict[str, object]) -> dict[str, object]:
    """An object with its keys as in ``_REPORTS``; two spellings of a key with different values are refused."""
    found: dict[str, object] = {}
    for key, value in holder.items():
        plain = re.sub("[_-]", "", key.lower())
        if plain in _REPORTS + _CERTIFICATES and found.get(plain, value) != value:
            raise BadInputError(f"{key!r} and another spelling of it have different values in this JSON")
        found[plain] = value
    return found


def _bytes_in(value: object) -> bytes | None:
    if isinstance(value, str):
        return decode(value.strip()) if value.isascii() else None
    if isinstance(value, list) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        return bytes(value)
    return None


def _beside(holder: dict[str, object]) -> dict[str, bytes]:
    """The certificates in the same object: tables, PEM, or DER in hex or base64."""
    found: dict[str, bytes] = {}
    for key in _CERTIFICATES:
        value = holder.get(key)
        pem = isinstance(value, str) and "-----BEGIN" in value
        raw = value.encode(errors="replace") if isinstance(value, str) and pem else _bytes_in(value)
        if raw and key == "auxblob":
            found |= certtable.read(raw)
        elif raw:
            found[key] = raw
    return found


def _guess(data: bytes) -> str:
    if certtable.looks_like_one(data):
        return ": this is a certificate table alone"
    if data[:27] == b"-----BEGIN CERTIFICATE-----":
        return ": this is a certificate"
    return f": cut off after {len(data)} of {layout.SIZE}" if 0 < len(data) < layout.SIZE else ""
