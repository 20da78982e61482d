"""Attestation reports of the model, and the key chain that signs them.

Layout: SEV-SNP firmware ABI (56860), ATTESTATION_REPORT, version 3 of 1184 bytes; ECDSA P-384 with SHA-384 over the
first 2A0h bytes, R and S as 72-byte little-endian numbers. The chain (root, signing key, chip key) is the model's own:
nothing here can be mistaken for AMD's, the organisation in its names says so.
"""

import datetime as dt
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.x509.oid import NameOID

from sevkit.model.entropy import Entropy
from sevkit.model.machine import Machine
from sevkit.model.snp_commands import GuestContext

SIZE = 0x4A0
SIGNED = 0x2A0
VERSION = 3
SIGNATURE_ALGORITHM = 1  # ECDSA P-384 with SHA-384
_SCALAR = 72
# AMD's arc in chip certificates (VCEK certificate and KDS interface specification, AMD 57230): .1 is the structure's
# version, .2 the product, .3.x are the security version numbers, .4 is the chip ID.
AMD_OID = "1.3.6.1.4.1.3704.1"
PRODUCT, STEPPING = "Milan", "B1"  # the part of the published study
ORGANISATION = "sevkit software model, not AMD"
_IA5_STRING = 0x16
_ORDER = int("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)

# field -> (offset, size), all little-endian numbers or byte strings
FIELDS: dict[str, tuple[int, int]] = {
    "version": (0x000, 4),
    "guest_svn": (0x004, 4),
    "policy": (0x008, 8),
    "family_id": (0x010, 16),
    "image_id": (0x020, 16),
    "vmpl": (0x030, 4),
    "signature_algo": (0x034, 4),
    "current_tcb": (0x038, 8),
    "platform_info": (0x040, 8),
    "key_info": (0x048, 4),
    "report_data": (0x050, 64),
    "measurement": (0x090, 48),
    "host_data": (0x0C0, 32),
    "id_key_digest": (0x0E0, 48),
    "author_key_digest": (0x110, 48),
    "report_id": (0x140, 32),
    "report_id_ma": (0x160, 32),
    "reported_tcb": (0x180, 8),
    "chip_id": (0x1A0, 64),
    "committed_tcb": (0x1E0, 8),
    "launch_tcb": (0x1F0, 8),
}
_NUMBERS = {
    *("version", "guest_svn", "policy", "vmpl", "signature_algo", "current_tcb", "platform_info", "key_info"),
    *("reported_tcb", "committed_tcb", "launch_tcb"),
}


@dataclass(frozen=True)
class Tcb:
    """Security version numbers of what runs below the guest."""

    boot_loader: int = 4
    tee: int = 0
    snp: int = 24
    microcode: int = 219

    def pack(self) -> int:
        """As the 64-bit number in reports (layout of Milan and Genoa)."""
        return self.boot_loader | self.tee << 8 | self.snp << 48 | self.microcode << 56


def _key(entropy: Entropy) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(entropy.bytes(48), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(number, ec.SECP384R1())


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """R and S, 72 little-endian bytes each; deterministic (RFC 6979), so that the same seed gives the same report."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA384(), deterministic_signing=True)))
    return r.to_bytes(_SCALAR, "little") + s.to_bytes(_SCALAR, "little")


def fits(key: ec.EllipticCurvePublicKey, message: bytes, signature: bytes) -> bool:
    """Whether R and S, 72 little-endian bytes each, are the key's signature."""
    r = int.from_bytes(signature[:_SCALAR], "little")
    s = int.from_bytes(signature[_SCALAR : 2 * _SCALAR], "little")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA384()))
    except (InvalidSignature, ValueError):
        return False
    return True


class KeyChain:
    """Root key, signing key and the chip key of a TCB version, as keys and as certificates."""

    # The common names that verifiers go by; the organisation says whose they are.
    NAMES = (f"ARK-{PRODUCT}", f"SEV-{PRODUCT}", "SEV-VCEK")
    PRODUCT_NAME = f"{PRODUCT}-{STEPPING}".encode()

    def __init__(self, entropy: Entropy, tcb: Tcb | None = None) -> None:
        self.tcb = tcb or Tcb()
        self.root, self.signer = (_key(entropy.fork(name)) for name in self.NAMES[:2])
        # As the VCEK: another version of the firmware has another key, and an older one cannot compute a newer one's.
        self.chip = _key(entropy.fork(f"{self.NAMES[2]}:{self.tcb.pack():#x}"))
        self.chip_id = entropy.fork("chip-id").bytes(64)

    def certificates(self) -> list[x509.Certificate]:
        """Chip certificate, signing certificate, root certificate."""
        root, signer, chip = self.NAMES
        return [
            _certificate(chip, self.chip, signer, self.signer, authority=False, more=self._chip_extensions()),
            _certificate(signer, self.signer, root, self.root, authority=True),
            _certificate(root, self.root, root, self.root, authority=True),
        ]

    def _chip_extensions(self) -> list[x509.UnrecognizedExtension]:
        """What AMD's chip certificates say of the chip and its firmware, under AMD's object identifiers."""
        values = {
            f"{AMD_OID}.1": _der_integer(0),
            f"{AMD_OID}.2": bytes([_IA5_STRING, len(self.PRODUCT_NAME)]) + self.PRODUCT_NAME,
            f"{AMD_OID}.3.1": _der_integer(self.tcb.boot_loader),
            f"{AMD_OID}.3.2": _der_integer(self.tcb.tee),
            f"{AMD_OID}.3.3": _der_integer(self.tcb.snp),
            f"{AMD_OID}.3.8": _der_integer(self.tcb.microcode),
            f"{AMD_OID}.4": self.chip_id,
        }
        return [x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value) for oid, value in values.items()]


def _name(common: str) -> x509.Name:
    values = {NameOID.ORGANIZATION_NAME: ORGANISATION, NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in values.items()])


def _der_integer(value: int) -> bytes:
    """A number of one byte as DER INTEGER (which is signed: 80h and above take two bytes)."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([0x02, len(data)]) + data


def _certificate(
    subject: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    *,
    authority: bool,
    more: Sequence[x509.UnrecognizedExtension] = (),
) -> x509.Certificate:
    start = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(
        _name(issuer),
        _name(subject),
        key.public_key(),
        int.from_bytes(hashlib.sha256(subject.encode()).digest()[:8], "big"),
        start,
        start + dt.timedelta(days=36500),
    )
    builder = builder.add_extension(x509.BasicConstraints(authority, None), critical=True)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(signer, hashes.SHA384(), ecdsa_deterministic=True)


def chain_fits(certificates: list[x509.Certificate]) -> bool:
    """Whether each certificate is signed by the next, and the last by itself."""
    issuers = [*certificates[1:], certificates[-1]]
    try:
        for certificate, issuer in zip(certificates, issuers, strict=True):
            certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


@dataclass(frozen=True)
class IdBlock:
    """What a guest's owner signs at launch: expected digest and policy, and names of its own."""

    launch_digest: bytes
    policy: int
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    guest_svn: int = 0
    signature: bytes = b""
    key: ec.EllipticCurvePublicKey | None = field(default=None, compare=False)

    def message(self) -> bytes:
        """The 96 bytes that are signed (ABI, ID Block)."""
        tail = struct.pack("<IIQ", 1, self.guest_svn, self.policy)
        return self.launch_digest + self.family_id + self.image_id + tail

    def signed(self, key: ec.EllipticCurvePrivateKey) -> "IdBlock":
        """The same block with its owner's signature."""
        return IdBlock(
            self.launch_digest,
            self.policy,
            self.family_id,
            self.image_id,
            self.guest_svn,
            sign(key, self.message()),
            key.public_key(),
        )

    def signature_fits(self) -> bool:
        """Whether the signature is the key's."""
        return self.key is not None and fits(self.key, self.message(), self.signature)

    def key_digest(self) -> bytes:
        """SHA-384 of the key as the ABI's public key structure (curve 2: P-384)."""
        assert self.key is not None
        numbers = self.key.public_numbers()
        body = struct.pack("<I", 2) + numbers.x.to_bytes(_SCALAR, "little") + numbers.y.to_bytes(_SCALAR, "little")
        return hashlib.sha384(body.ljust(0x404, b"\0")).digest()


class Signer(Protocol):
    """What a report says of the firmware that signs it (psp_snp.py)."""

    platform: Machine
    tcb: Tcb
    alias_check_complete: bool

    @property
    def keys(self) -> KeyChain:
        """The chip's keys."""
        ...


def make(firmware: Signer, context: GuestContext, report_data: bytes, vmpl: int) -> bytes:
    """A signed report on a guest."""
    config = firmware.platform.config
    info = 1 | config.tsme << 1 | config.ciphertext_hiding << 4 | firmware.alias_check_complete << 5
    tcb = firmware.tcb.pack()
    values: dict[str, Any] = {
        "version": VERSION,
        "guest_svn": context.guest_svn,
        "policy": context.policy,
        "family_id": context.family_id,
        "image_id": context.image_id,
        "vmpl": vmpl,
        "signature_algo": SIGNATURE_ALGORITHM,
        "current_tcb": tcb,
        "platform_info": info,
        "report_data": report_data,
        "measurement": context.digest.value,
        "host_data": context.host_data,
        "id_key_digest": context.id_key_digest,
        "author_key_digest": context.author_key_digest,
        "report_id": context.report_id,
        "report_id_ma": b"\xff" * 32,
        "reported_tcb": tcb,
        "chip_id": firmware.keys.chip_id,
        "committed_tcb": tcb,
        "launch_tcb": tcb,
    }
    body = bytearray(SIZE)
    for name, value in values.items():
        offset, size = FIELDS[name]
        body[offset : offset + size] = (
            value.to_bytes(size, "little") if isinstance(value, int) else value.ljust(size, b"\0")
        )
    signature = sign(firmware.keys.chip, bytes(body[:SIGNED]))
    body[SIGNED : SIGNED + len(signature)] = signature
    return bytes(body)


def parse(data: bytes) -> dict[str, Any]:
    """The fields of a report, numbers as numbers."""
    if len(data) != SIZE:
        raise ValueError(f"a report has {SIZE} bytes, not {len(data)}")
    return {
        name: int.from_bytes(data[at : at + size], "little") if name in _NUMBERS else data[at : at + size]
        for name, (at, size) in FIELDS.items()
    }


def verify(data: bytes, certificates: list[x509.Certificate]) -> bool:
    """Whether the report is signed by the chip key of a chain that holds together."""
    key = certificates[0].public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not chain_fits(certificates):
        return False
    return len(data) == SIZE and fits(key, data[:SIGNED], data[SIGNED : SIGNED + 2 * _SCALAR])
