"""The type of a test vector, and the chip, certificates and issuers from which one product's vectors are made."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.products import Product
from sevkit.attestation.vectors import authority as ca
from sevkit.attestation.vectors.authority import Keys
from sevkit.attestation.vectors.platform import make_chip


@dataclass(frozen=True)
class Vector:
    """A report with certificates and the expected verdict; ``check`` names the check that must fail."""

    name: str
    report: bytes
    certificates: dict[str, bytes]
    verdict: Trust
    about: str
    check: str | None = None
    policy: str | None = None
    product: Product = Product.MILAN
    at: dt.datetime = field(default=ca.NOW)


class Bench:
    """A chip of a product and its certificates: makes vectors from them."""

    def __init__(self, product: Product, keys: Keys) -> None:
        self.product = product
        self.authority = keys.authority(product)
        self.chip = make_chip(self.authority)
        self.vcek = ca.der(self.chip.vcek_certificate())
        self.vlek = ca.der(self.chip.vlek_certificate())
        self.chain = ca.pem(self.authority.ask.certificate, self.authority.ark.certificate)
        self.vlek_chain = ca.pem(self.authority.asvk.certificate, self.authority.ark.certificate)
        self.crl = self.authority.crl(99)

    def good(self) -> dict[str, bytes]:
        """The certificates that belong to the chip's reports."""
        return {"vcek.der": self.vcek, "cert_chain.pem": self.chain, "crl.der": self.crl}

    def good_vlek(self) -> dict[str, bytes]:
        """The certificates that belong to reports signed with the VLEK."""
        return {"vlek.der": self.vlek, "cert_chain.pem": self.vlek_chain, "crl.der": self.crl}

    def vector(self, name: str, about: str, report: bytes, **more: Any) -> Vector:
        """A vector of this product; the certificates are the good ones by default."""
        certificates = more.pop("certificates", None) or self.good()
        verdict = more.pop("verdict", Trust.REJECTED)
        return Vector(f"{self.product}-{name}", report, certificates, verdict, about, product=self.product, **more)
