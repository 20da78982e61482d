"""Operations of the secure processor that use the chip's keys: sign reports, derive keys, deliver certificates.

Pure: bytes in, bytes out. The keys are the model's own (report.py); everything else that a report says comes from the
platform that asks. Source: SEV-SNP firmware ABI (AMD 56860) 1.57, chapter 7 (guest messages) and ID block; GHCB
specification (AMD 56421), certificate table of the extended guest request.
"""

import hashlib
import hmac
import struct
import uuid
from dataclasses import dataclass
from enum import IntFlag

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sevkit.model.entropy import Entropy
from sevkit.model.machine import FIRMWARE_ABI
from sevkit.model.psp import Status
from sevkit.model.report import FIELDS, SIGNED, KeyChain, Tcb, fits, sign

SIGNATURE_FIELD = 512  # bytes of a report's signature: R and S, 72 each, then zero
CHECK_ID_SIZE = 96 + 4096 + 1
KEY_REQUEST = struct.Struct("<IIQIIQ")
# What the calling platform knows about the guest: measurement, host data, digests of ID key and author key, family and
# image identity, guest SVN, four reserved bytes, policy.
IDENTITY = struct.Struct("<48s32s48s48s16s16sI4xQ")

# GUIDs of the certificate table, stored as RFC 4122 has them (big-endian).
GUIDS = {
    "vcek": uuid.UUID("63da758d-e664-4564-adc5-f4b93be8accd"),
    "ask": uuid.UUID("4ab7b379-bbac-4fe4-a02f-05aef327c782"),
    "ark": uuid.UUID("c0b406a4-a803-4952-9743-3fb6014cd0ae"),
}
_TABLE_ENTRY = struct.Struct("<16sII")
_PUBLIC_KEY = struct.Struct("<I72s72s")  # curve, then the point; little-endian
_P384 = 2
_ID_SIGNATURE, _ID_KEY, _ID_KEY_SIGNATURE, _AUTHOR_KEY = 0x040, 0x240, 0x680, 0x880
_KEY_SIZE = 0x404

# Milan, stepping B1: the part of the published study. CPUID family, model, stepping.
_CPU = (0x19, 0x01, 0x01)
_ALIAS_CHECK_COMPLETE = 1 << 5


class KeyField(IntFlag):
    """GUEST_FIELD_SELECT: what a derived key depends on besides the chip, the VMPL and the owner's keys."""

    POLICY = 1
    IMAGE_ID = 2
    FAMILY_ID = 4
    MEASUREMENT = 8
    GUEST_SVN = 16
    TCB_VERSION = 32


@dataclass(frozen=True)
class PlatformInfo:
    """What a report says about the platform."""

    chip_id: bytes
    tcb: int

    def pack(self) -> bytes:
        """Chip ID; reported, committed, current and launch TCB; PLATFORM_INFO; CPU; both versions of the firmware."""
        version = bytes([0, FIRMWARE_ABI[1], FIRMWARE_ABI[0]])  # build, minor, major
        numbers = struct.pack("<5Q", self.tcb, self.tcb, self.tcb, self.tcb, _ALIAS_CHECK_COMPLETE)
        return self.chip_id + numbers + bytes(_CPU) + version * 2


class Endorser:
    """The keys of one emulated chip at one TCB version. The same seed gives the same chip."""

    def __init__(self, seed: str, tcb: Tcb | None = None) -> None:
        entropy = Entropy(seed, "platform")
        self.keys = KeyChain(entropy.fork("keys"), tcb)
        self.info = PlatformInfo(self.keys.chip_id, self.keys.tcb.pack())
        self._root = entropy.fork("derived-keys").bytes(48)

    def certificates(self) -> dict[str, bytes]:
        """The chain as DER: ``vcek``, ``ask``, ``ark``."""
        encoded = [each.public_bytes(serialization.Encoding.DER) for each in self.keys.certificates()]
        return dict(zip(GUIDS, encoded, strict=True))

    def certificate_table(self) -> bytes:
        """The chain as the extended guest request delivers it: entries, an entry of zeros, then the certificates."""
        chain = self.certificates()
        at = _TABLE_ENTRY.size * (len(chain) + 1)
        entries = b""
        for name, data in chain.items():
            entries += _TABLE_ENTRY.pack(GUIDS[name].bytes, at, len(data))
            at += len(data)
        return entries + bytes(_TABLE_ENTRY.size) + b"".join(chain.values())

    def sign(self, body: bytes) -> bytes:
        """Return the signature field for the first 2A0h bytes of a report; raises ValueError for anything else."""
        if len(body) != SIGNED:
            raise ValueError(f"the signed part of a report has {SIGNED} bytes, not {len(body)}")
        for name, own in (("chip_id", self.keys.chip_id), ("reported_tcb", self.info.tcb.to_bytes(8, "little"))):
            at, size = FIELDS[name]
            if body[at : at + size] != own:
                raise ValueError(f"the report's {name} is not this chip's")
        return sign(self.keys.chip, body).ljust(SIGNATURE_FIELD, b"\0")

    def derive(self, question: bytes) -> tuple[Status, bytes]:
        """Answer MSG_KEY_REQ: return the status and the 32 bytes of the key (zeros if refused).

        ``question`` is the guest's request (20h bytes) and what the platform knows about the guest (``IDENTITY``). The
        key always depends on chip, VMPL, host data and the owner's keys, and also on what GUEST_FIELD_SELECT names.
        """
        if len(question) != KEY_REQUEST.size + IDENTITY.size:
            raise ValueError(f"a key request with its identity has {KEY_REQUEST.size + IDENTITY.size} bytes")
        root, _, select, vmpl, svn, tcb = KEY_REQUEST.unpack_from(question)
        measurement, host_data, id_key, author_key, family, image, own_svn, policy = IDENTITY.unpack_from(
            question, KEY_REQUEST.size
        )
        if root & 1:
            return Status.INVALID_KEY, bytes(32)  # VMRK: the model has no migration agent that could provide one
        if root or select >> len(KeyField) or vmpl > 3 or svn > own_svn or not _at_most(tcb, self.info.tcb):
            return Status.INVALID_PARAM, bytes(32)
        fields = {
            KeyField.POLICY: policy.to_bytes(8, "little"),
            KeyField.IMAGE_ID: image,
            KeyField.FAMILY_ID: family,
            KeyField.MEASUREMENT: measurement,
            KeyField.GUEST_SVN: svn.to_bytes(4, "little"),
            KeyField.TCB_VERSION: tcb.to_bytes(8, "little"),
        }
        chosen = [value if select & field else bytes(len(value)) for field, value in fields.items()]
        context = struct.pack("<QI", select, vmpl) + host_data + id_key + author_key + b"".join(chosen)
        return Status.SUCCESS, hmac.new(self._root, context, hashlib.sha384).digest()[:32]


def _at_most(tcb: int, limit: int) -> bool:
    """Whether each component of a TCB version is at most the one of ``limit``."""
    return all(a <= b for a, b in zip(tcb.to_bytes(8, "little"), limit.to_bytes(8, "little"), strict=True))


def id_block_fits(block: bytes, auth: bytes, *, author_key: bool) -> bool:
    """Whether an ID block (96 bytes) is signed as its authentication page (4096 bytes) says.

    ``author_key``: the page also has to hold the author's signature over the ID key.
    """
    key = _public_key(auth[_ID_KEY : _ID_KEY + _KEY_SIZE])
    if key is None or not fits(key, block, auth[_ID_SIGNATURE : _ID_SIGNATURE + 144]):
        return False
    if not author_key:
        return True
    author = _public_key(auth[_AUTHOR_KEY : _AUTHOR_KEY + _KEY_SIZE])
    signed = auth[_ID_KEY : _ID_KEY + _KEY_SIZE]
    return author is not None and fits(author, signed, auth[_ID_KEY_SIGNATURE : _ID_KEY_SIGNATURE + 144])


def _public_key(data: bytes) -> ec.EllipticCurvePublicKey | None:
    """Read the key from the ABI's public key structure; None if it is not a point of the curve."""
    curve, x, y = _PUBLIC_KEY.unpack_from(data)
    if curve != _P384:
        return None
    numbers = ec.EllipticCurvePublicNumbers(int.from_bytes(x, "little"), int.from_bytes(y, "little"), ec.SECP384R1())
    try:
        return numbers.public_key()
    except ValueError:
        return None
