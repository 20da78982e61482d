"""One fictitious chip of a product: its keys, its certificates, and the reports that its firmware would sign."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sevkit.attestation.report import layout, products
from sevkit.attestation.report.certificates import AMD
from sevkit.attestation.report.layout import FIELDS, SCALAR, SIGNED, SIZE
from sevkit.attestation.report.products import Product, TcbVersion
from sevkit.attestation.vectors.authority import Authority, Issuer, Template, issue, tcb_extensions, text

_CPUID = {Product.MILAN: (0x19, 0x01, 1), Product.GENOA: (0x19, 0x11, 1), Product.TURIN: (0x1A, 0x02, 1)}
_VLEK = 1 << 2
CSP = "cc-test.sevkit"


def tcb_of(product: Product) -> TcbVersion:
    """A plausible TCB version of a product."""
    fmc = 1 if "fmc" in products.LAYOUTS[product] else None
    return TcbVersion(bootloader=4, tee=1, snp=27, microcode=222, fmc=fmc)


@dataclass(frozen=True)
class Chip:
    """A chip with its keys."""

    authority: Authority
    vcek: ec.EllipticCurvePrivateKey
    vlek: ec.EllipticCurvePrivateKey

    @property
    def product(self) -> Product:
        """The product line."""
        return self.authority.product

    @cached_property
    def tcb(self) -> TcbVersion:
        """The TCB version of its firmware."""
        return tcb_of(self.product)

    @cached_property
    def chip_id(self) -> bytes:
        """Its identity as reports have it: 64 bytes, of which Turin uses 8."""
        size = products.CHIP_ID_SIZES[self.product]
        return hashlib.sha512(f"sevkit test chip {self.product}".encode()).digest()[:size].ljust(64, b"\0")

    def vcek_template(self, **changes: Any) -> Template:
        """The VCEK's certificate, with changes."""
        hwid = self.chip_id[: products.CHIP_ID_SIZES[self.product]]
        values = {**tcb_extensions(self.tcb, f"{self.product}-B1"), f"{AMD}.4": hwid}
        return _changed(Template("SEV-VCEK", extensions=values), changes)

    def vlek_template(self, **changes: Any) -> Template:
        """The VLEK's certificate, with changes."""
        values = {**tcb_extensions(self.tcb, self.product), f"{AMD}.5": text(CSP)}
        return _changed(Template("SEV-VLEK", extensions=values), changes)

    def vcek_certificate(self, by: Issuer | None = None, **changes: Any) -> x509.Certificate:
        """The VCEK's certificate, issued by the ASK or another."""
        return issue(self.vcek_template(**changes), self.vcek.public_key(), by or self.authority.ask)

    def vlek_certificate(self, by: Issuer | None = None, **changes: Any) -> x509.Certificate:
        """The VLEK's certificate, issued by the ASVK or another."""
        return issue(self.vlek_template(**changes), self.vlek.public_key(), by or self.authority.asvk)

    def body(self, version: int, *, vlek: bool = False, **fields: Any) -> bytearray:
        """The signed part of a report: plausible values, with fields replaced."""
        family, model, stepping = _CPUID[self.product]
        raw_tcb = self.tcb.pack(self.product)
        values: dict[str, Any] = {
            "version": version,
            "guest_svn": 1,
            "policy": 0x30000,
            "signature_algo": layout.ECDSA_P384_SHA384,
            **dict.fromkeys(("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb"), raw_tcb),
            "platform_info": 0x25,
            "key_info": _VLEK if vlek else 0,
            "report_data": hashlib.sha512(b"nonce").digest(),
            "measurement": hashlib.sha384(b"guest").digest(),
            "host_data": hashlib.sha256(b"host").digest(),
            "report_id": hashlib.sha256(b"report").digest(),
            "report_id_ma": b"\xff" * 32,
            "chip_id": bytes(64) if vlek else self.chip_id,
            "current_version": bytes([7, 55, 1]),
            "committed_version": bytes([7, 55, 1]),
            "cpuid_family": family,
            "cpuid_model": model,
            "cpuid_stepping": stepping,
            "launch_mit_vector": 0xF,
            "current_mit_vector": 0xF,
        }
        return _packed(version, {**values, **fields})

    def sign(self, body: bytes, *, vlek: bool = False) -> bytes:
        """A report: the body with the firmware's signature."""
        key = self.vlek if vlek else self.vcek
        r, s = decode_dss_signature(key.sign(bytes(body), ec.ECDSA(hashes.SHA384())))
        return with_scalars(bytes(body), r, s)

    def report(self, version: int, *, vlek: bool = False, **fields: Any) -> bytes:
        """A signed report with fields replaced."""
        return self.sign(bytes(self.body(version, vlek=vlek, **fields)), vlek=vlek)


def make_chip(authority: Authority) -> Chip:
    """A chip with fresh keys."""
    return Chip(authority, ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1()))


def _changed(template: Template, changes: Mapping[str, Any]) -> Template:
    more = changes.get("extensions", {})
    return replace(template, **{**changes, "extensions": {**template.extensions, **more}})


def _packed(version: int, values: Mapping[str, Any]) -> bytearray:
    body = bytearray(SIGNED)
    for name, value in values.items():
        field = FIELDS[name]
        if field.since <= max(version, 2):
            raw = value.to_bytes(field.size, "little") if isinstance(value, int) else bytes(value)
            body[field.offset : field.offset + field.size] = raw.ljust(field.size, b"\0")
    return body


def with_scalars(body: bytes, r: int, s: int) -> bytes:
    """A report with a body, and two numbers in place of a signature."""
    return (body + r.to_bytes(SCALAR, "little") + s.to_bytes(SCALAR, "little")).ljust(SIZE, b"\0")
