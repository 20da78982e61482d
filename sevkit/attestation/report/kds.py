"""AMD's key distribution service: build the address of a report's certificate (fetch.py fetches it).

Source: VCEK certificate and KDS interface specification (57230), chapter 4.
"""

from sevkit.attestation.report import products
from sevkit.attestation.report.layout import SigningKey
from sevkit.attestation.report.parse import Report
from sevkit.attestation.report.products import Product

BASE = "https://kdsintf.amd.com"
_PARAMETERS = {"bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL", "fmc": "fmcSPL"}


def url(report: Report, base: str = BASE) -> str | None:
    """The address of the VCEK; None for a VLEK, a masked chip id, or an unknown product."""
    chip_id = report.bytes_of("chip_id")
    if report.product is None or report.signing_key is not SigningKey.VCEK or not any(chip_id):
        return None
    hwid = chip_id[: products.CHIP_ID_SIZES[report.product]].hex()
    parts = report.tcb("reported_tcb").components()
    query = "&".join(f"{_PARAMETERS[name]}={parts[name]:02d}" for name in _PARAMETERS if name in parts)
    return f"{base}/vcek/v1/{report.product}/{hwid}?{query}"


def chain_url(product: Product, key: SigningKey = SigningKey.VCEK, base: str = BASE) -> str:
    """The address of ASK (or ASVK) and ARK."""
    return f"{base}/{key.value}/v1/{product}/cert_chain"


def crl_url(product: Product, key: SigningKey = SigningKey.VCEK, base: str = BASE) -> str:
    """The address of the revocation list."""
    return f"{base}/{key.value}/v1/{product}/crl"
