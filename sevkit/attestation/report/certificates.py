"""Certificates of the SEV-SNP key hierarchy: read them, find their roles, decode AMD's extensions. Pure.

Source: VCEK certificate and KDS interface specification (57230), tables of the certificates' fields and extensions.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import NameOID

from sevkit import strictjson
from sevkit.attestation.report import certtable, products
from sevkit.attestation.report.products import Product, TcbVersion
from sevkit.errors import BadInputError

AMD = "1.3.6.1.4.1.3704.1"
_PRODUCT_NAME, _HWID, _CSP_ID = f"{AMD}.2", f"{AMD}.4", f"{AMD}.5"
_TCB = {"bootloader": f"{AMD}.3.1", "tee": f"{AMD}.3.2", "snp": f"{AMD}.3.3", "microcode": f"{AMD}.3.8"}
_FMC = f"{AMD}.3.9"
_INTEGER, _OCTETS, _IA5, _UTF8 = 0x02, 0x04, 0x16, 0x0C
MOST_BYTES = 1 << 20
# What the library raises for certificates that it cannot read, in part only when a field is accessed.
DAMAGED = (
    ValueError,
    TypeError,
    OverflowError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)


class Role(StrEnum):
    """A certificate's place in the hierarchy."""

    ARK = "ARK"
    ASK = "ASK"
    ASVK = "ASVK"
    VCEK = "VCEK"
    VLEK = "VLEK"
    OTHER = "other"


ISSUERS = {Role.VCEK: Role.ASK, Role.VLEK: Role.ASVK, Role.ASK: Role.ARK, Role.ASVK: Role.ARK}


@dataclass(frozen=True)
class Endorsement:
    """The chip and firmware data in the extensions of a VCEK or VLEK certificate."""

    product_name: str
    tcb: TcbVersion
    chip_id: bytes | None
    csp_id: str | None

    @property
    def product(self) -> Product:
        """The product line; raises BadInputError for an unknown name."""
        return products.named(self.product_name)


class Certificate:
    """A certificate with its place in the hierarchy."""

    def __init__(self, x: x509.Certificate) -> None:
        self.x509 = x

    @cached_property
    def der(self) -> bytes:
        """Its bytes: two certificates are equal if these are equal."""
        return self.x509.public_bytes(serialization.Encoding.DER)

    @cached_property
    def spki(self) -> bytes:
        """Its public key, encoded."""
        return self.x509.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @cached_property
    def name(self) -> str:
        """The subject's common name."""
        return _common_name(self.x509.subject)

    @cached_property
    def issuer_name(self) -> str:
        """The issuer's common name."""
        return _common_name(self.x509.issuer)

    @cached_property
    def role(self) -> Role:
        """The role: by the names of the KDS specification; for certificates of other roots, by their contents."""
        for role, pattern in _NAMES.items():
            if re.fullmatch(pattern, self.name):
                return role
        try:
            values = self._extensions()
        except BadInputError:
            return Role.OTHER
        if _HWID in values or _CSP_ID in values:
            return Role.VCEK if _HWID in values else Role.VLEK
        return Role.OTHER

    @cached_property
    def endorsement(self) -> Endorsement:
        """AMD's extensions; raises BadInputError if one is missing, duplicated or malformed."""
        values = self._extensions()
        missing = [oid for oid in (_PRODUCT_NAME, *_TCB.values()) if oid not in values]
        if missing:
            raise BadInputError(f"{self.name}: AMD's extension {missing[0]} is missing")
        parts = {name: _small(values[oid], oid) for name, oid in _TCB.items()}
        fmc = _small(values[_FMC], _FMC) if _FMC in values else None
        chip_id, csp_id = values.get(_HWID), values.get(_CSP_ID)
        return Endorsement(
            _string(values[_PRODUCT_NAME], _PRODUCT_NAME),
            TcbVersion(**parts, fmc=fmc),
            _octets(chip_id) if chip_id is not None else None,
            _string(csp_id, _CSP_ID) if csp_id is not None else None,
        )

    def _extensions(self) -> dict[str, bytes]:
        try:
            found = list(self.x509.extensions)
        except DAMAGED as error:
            raise BadInputError(f"{self.name}: {error}") from error
        return {
            item.oid.dotted_string: item.value.value
            for item in found
            if isinstance(item.value, x509.UnrecognizedExtension)
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.der == other.der

    def __hash__(self) -> int:
        return hash(self.der)


_NAMES = {
    Role.ARK: r"ARK-\w+",
    Role.ASVK: r"SEV-VLEK-\w+",
    Role.VCEK: "SEV-VCEK",
    Role.VLEK: "SEV-VLEK",
    Role.ASK: r"SEV-\w+",
}


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else name.rfc4514_string()


def _tagged(raw: bytes, tag: int, what: str) -> bytes:
    """The contents of a short DER value of one tag that fills ``raw``."""
    if len(raw) < 2 or raw[0] != tag or raw[1] != len(raw) - 2 or raw[1] > 0x7F:
        raise BadInputError(f"extension {what} is not the DER value that it should be")
    return raw[2:]


def _small(raw: bytes, what: str) -> int:
    """A DER INTEGER from 0 to 255 in its shortest form."""
    body = _tagged(raw, _INTEGER, what)
    # DER integers are signed and in their shortest form: 0x7F is 7F, 0x80 is 00 80, and 00 7F is malformed.
    long_form = len(body) > 1 and body[0] == 0 and body[1] < 0x80
    value = int.from_bytes(body, "big", signed=True) if body else -1
    if not 0 <= value <= 0xFF or long_form:
        raise BadInputError(f"extension {what} is no number from 0 to 255")
    return value


def _string(raw: bytes, what: str) -> str:
    tag = raw[0] if raw[:1] in {bytes([_IA5]), bytes([_UTF8])} else _IA5
    body = _tagged(raw, tag, what)
    if not body.isascii():
        raise BadInputError(f"extension {what} is not ASCII")
    return body.decode("ascii")


def _octets(raw: bytes) -> bytes:
    """The chip id: raw bytes in older certificates, an OCTET STRING in newer ones."""
    if len(raw) in {8, 64}:
        return raw
    return _tagged(raw, _OCTETS, _HWID)


@dataclass
class Store:
    """The available certificates and revocation lists, each once.

    ``unreadable`` says why a file provided none: what it says is unknown, so no report is accepted beside it.
    ``passed_over`` says it of files that merely lay in a folder, such as keys.
    """

    certificates: list[Certificate] = field(default_factory=list)
    crls: list[x509.CertificateRevocationList] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)
    _seen: set[Certificate] = field(default_factory=set)

    def add(self, name: str, data: bytes, *, named: bool = True) -> None:
        """Add the contents of a file: PEM (one or a chain, lists too), DER, or a certificate table.

        A file that the user did not name may be something else, unless it looks like a revocation list.
        """
        try:
            certificates, crls = load(data)
        except BadInputError as error:
            undecided = named or may_be_list(name, data)
            (self.unreadable if undecided else self.passed_over)[name] = error.message
            return
        if len(self._seen) < len(self.certificates):
            self._seen.update(self.certificates)
        for item in certificates:
            if item not in self._seen:
                self._seen.add(item)
                self.certificates.append(item)
        self.crls.extend(crls)

    def role(self, *roles: Role) -> list[Certificate]:
        """The certificates of these roles."""
        return [item for item in self.certificates if item.role in roles]


def store_of(files: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> Store:
    """A store of files by name."""
    store = Store()
    for name, data in files.items() if isinstance(files, Mapping) else files:
        store.add(name, data)
    return store


def may_hold_certificates(data: bytes) -> bool:
    """Whether a file looks like PEM, DER or a certificate table: other files are ignored."""
    return b"-----BEGIN " in data or data[:1] == b"\x30" or certtable.looks_like_one(data)


_LONG = rb"(?:\x81.|\x82..|\x83...)"  # with a short length it could be text: 0x30 is the digit 0
_LIST = re.compile(rb"\x30" + _LONG + rb"\x30(?:[\x00-\x7f]|" + _LONG + rb")[\x02\x30]", re.DOTALL)  # RFC 5280, 5.1
_BEGIN_LIST = b"-----BEGIN X509 CRL-----"


def may_be_list(name: str, data: bytes) -> bool:
    """Whether a file, even a damaged one, looks like a revocation list, or its name says so."""
    return _BEGIN_LIST in data or bool(_LIST.match(data)) or "crl" in name.rpartition("/")[2].lower()


def load(data: bytes) -> tuple[list[Certificate], list[x509.CertificateRevocationList]]:
    """Certificates and revocation lists of a file in any of its forms; raises BadInputError if it has neither."""
    if len(data) > MOST_BYTES:
        raise BadInputError(f"it is larger than {MOST_BYTES >> 20} MiB: too large for certificates")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every VCEK has serial number 0, which RFC 5280 does not allow
        if data.lstrip()[:1] == b"{":
            return _pem(_strings(data))
        if b"-----BEGIN " in data:
            return _pem(data)
        if certtable.looks_like_one(data):
            parts = [load(part) for part in certtable.read(data).values()]
            return [c for found, _ in parts for c in found], [crl for _, crls in parts for crl in crls]
        return _der(data)


def _strings(data: bytes) -> bytes:
    """The strings of a JSON object, as Azure's metadata service gives certificates (vcekCert, certificateChain)."""
    try:
        document = strictjson.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"no certificates, and not valid JSON: {error}") from error
    return "\n".join(value for value in document.values() if isinstance(value, str)).encode(errors="replace")


_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


def _pem(data: bytes) -> tuple[list[Certificate], list[x509.CertificateRevocationList]]:
    certificates, crls = [], []
    for block in _PEM_BLOCK.finditer(data):
        try:
            if block[1] in {b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"}:
                certificates.append(_whole(x509.load_pem_x509_certificate(block[0])))
            elif block[1] == b"X509 CRL":
                crls.append(_whole_list(x509.load_pem_x509_crl(block[0])))
        except DAMAGED as error:
            raise BadInputError(f"a PEM block is damaged: {error}") from error
    if data.count(_BEGIN_LIST) > len(crls):
        raise BadInputError("a revocation list in this PEM file is cut off")
    if not certificates and not crls:
        raise BadInputError("no certificate in this PEM file")
    return certificates, crls


def _whole(x: x509.Certificate) -> Certificate:
    """Check that all names and dates of a certificate are readable: the library decodes them on access."""
    _ = (x.subject, x.issuer, x.not_valid_before_utc, x.not_valid_after_utc, x.serial_number)
    return Certificate(x)


def _whole_list(crl: x509.CertificateRevocationList) -> x509.CertificateRevocationList:
    _ = (crl.issuer, crl.last_update_utc, crl.next_update_utc, [entry.serial_number for entry in crl])
    return crl


def _der(data: bytes) -> tuple[list[Certificate], list[x509.CertificateRevocationList]]:
    try:
        return [_whole(x509.load_der_x509_certificate(data))], []
    except DAMAGED as refused:
        try:
            return [], [_whole_list(x509.load_der_x509_crl(data))]
        except DAMAGED:
            raise BadInputError(f"neither a certificate nor a revocation list: {refused}") from refused
