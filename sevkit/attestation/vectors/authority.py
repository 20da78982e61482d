"""Sevkit's own key hierarchy, with the names and extensions of AMD's: it signs the test vectors.

The organization of every certificate is "sevkit test vectors": so nobody mistakes one for AMD's.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from sevkit.attestation.report.certificates import AMD
from sevkit.attestation.report.products import Product, TcbVersion

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
END = dt.datetime(2049, 1, 1, tzinfo=dt.UTC)
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
_TCB = {"bootloader": f"{AMD}.3.1", "tee": f"{AMD}.3.2", "snp": f"{AMD}.3.3", "microcode": f"{AMD}.3.8"}


class Issuer(NamedTuple):
    """A certificate authority: its certificate and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey


@dataclass(frozen=True)
class Template:
    """The contents of a certificate. ``drop`` leaves out extensions by OID, ``more`` adds or replaces raw values."""

    name: str
    serial: int = 1
    start: dt.datetime = START
    end: dt.datetime = END
    authority: bool | None = None
    extensions: Mapping[str, bytes] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    digest: hashes.SHA256 | hashes.SHA384 = field(default_factory=hashes.SHA384)


class Authority:
    """Root, signing key and provider's signing key of one product; ``bits`` is the size of the RSA keys."""

    def __init__(self, product: Product, keys: "Keys") -> None:
        self.product = product
        self.ark = self._issuer(f"ARK-{product}", keys.ark, None)
        self.ask = self._issuer(f"SEV-{product}", keys.ask, self.ark)
        self.asvk = self._issuer(f"SEV-VLEK-{product}", keys.asvk, self.ark)
        self.stranger = self._issuer(f"ARK-{product}", keys.stranger, None)
        self.strange_ask = self._issuer(f"SEV-{product}", keys.ask, self.stranger)

    def _issuer(self, name: str, key: rsa.RSAPrivateKey, by: Issuer | None) -> Issuer:
        template = Template(name, authority=True)
        certificate = issue(template, key.public_key(), by or Issuer(_NOBODY, key), None if by else name)
        return Issuer(certificate, key)

    def crl(self, *revoked: int, start: dt.datetime = START, end: dt.datetime = END, by: Issuer | None = None) -> bytes:
        """The root's revocation list as DER; ``by`` signs in its place."""
        signer = by or self.ark
        builder = x509.CertificateRevocationListBuilder(self.ark.certificate.subject, start, end)
        for serial in revoked:
            entry = x509.RevokedCertificateBuilder(serial, start).build()
            builder = builder.add_revoked_certificate(entry)
        crl = builder.sign(signer.key, hashes.SHA384(), rsa_padding=_PSS)
        return crl.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True, eq=False)
class Keys:
    """The RSA keys of a hierarchy, those of an untrusted root, and the hierarchies made from them."""

    ark: rsa.RSAPrivateKey
    ask: rsa.RSAPrivateKey
    asvk: rsa.RSAPrivateKey
    stranger: rsa.RSAPrivateKey
    _made: dict[Product, Authority] = field(default_factory=dict)

    def authority(self, product: Product) -> Authority:
        """The one hierarchy of a product: signatures are random, and some verifiers pin a root by its hash."""
        if product not in self._made:
            self._made[product] = Authority(product, self)
        return self._made[product]


def make_keys(bits: int = 4096) -> Keys:
    """Fresh keys; AMD's have 4096 bits."""
    ark, ask, asvk, stranger = (rsa.generate_private_key(65537, bits) for _ in range(4))
    return Keys(ark, ask, asvk, stranger)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "sevkit test vectors"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def issue(template: Template, key: "PublicKey", by: Issuer, issuer_name: str | None = None) -> x509.Certificate:
    """Issue a certificate for a public key; ``issuer_name`` replaces the issuer's own name."""
    issuer = _name(issuer_name) if issuer_name else by.certificate.subject
    builder = x509.CertificateBuilder(issuer, _name(template.name), key, template.serial, template.start, template.end)
    if template.authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(template.authority, None), critical=True)
    for oid, value in template.extensions.items():
        if oid not in template.drop:
            builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value), False)
    return builder.sign(by.key, template.digest, rsa_padding=_pss(template.digest))


def _pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
_THROWAWAY = ec.generate_private_key(ec.SECP256R1())
_NOBODY = x509.CertificateBuilder(_name("nobody"), _name("nobody"), _THROWAWAY.public_key(), 1, START, END).sign(
    _THROWAWAY, hashes.SHA256()
)


def integer(value: int) -> bytes:
    """A number from 0 to 255 as DER INTEGER."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return bytes([0x02, len(data)]) + data


def text(value: str) -> bytes:
    """A string as DER IA5String."""
    return bytes([0x16, len(value)]) + value.encode("ascii")


def tcb_extensions(tcb: TcbVersion, product_name: str) -> dict[str, bytes]:
    """AMD's extensions of a TCB version and a product."""
    found = {f"{AMD}.1": integer(0), f"{AMD}.2": text(product_name)}
    found |= {oid: integer(getattr(tcb, name)) for name, oid in _TCB.items()}
    if tcb.fmc is not None:
        found[f"{AMD}.3.9"] = integer(tcb.fmc)
    return found


def pem(*certificates: x509.Certificate) -> bytes:
    """Certificates as one PEM file."""
    return b"".join(item.public_bytes(serialization.Encoding.PEM) for item in certificates)


def der(certificate: x509.Certificate) -> bytes:
    """A certificate's bytes."""
    return certificate.public_bytes(serialization.Encoding.DER)
