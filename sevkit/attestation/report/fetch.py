"""Fetching from a key distribution service: only when asked, with a deadline and a limit of size."""

import urllib.error
import urllib.request

from sevkit.attestation.report import kds, parse
from sevkit.attestation.report.certificates import Role, Store
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.layout import SigningKey
from sevkit.attestation.report.products import Product
from sevkit.errors import BadInputError, MissingToolError

TIMEOUT = 20.0
MOST_BYTES = 1 << 20
_TOO_MANY = 429


def get(url: str, timeout: float = TIMEOUT) -> bytes:
    """The answer of an http or https address; raises MissingToolError when there is none."""
    if not url.startswith(("http://", "https://")):
        raise BadInputError(f"{url} is no http address")
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:  # noqa: S310 - the scheme is checked
            data: bytes = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        hint = (
            "the service limits requests: wait, or keep certificates in a folder" if error.code == _TOO_MANY else None
        )
        raise MissingToolError(f"{url}: HTTP {error.code} {error.reason}", hint=hint) from error
    except (OSError, ValueError) as error:
        hint = "fetch it on another machine and give the file with --certs"
        raise MissingToolError(f"{url}: {error}", hint=hint) from error
    if len(data) > MOST_BYTES:
        raise BadInputError(f"{url}: the answer is too large")
    return data


def missing(evidence: Evidence, store: Store, base: str | None = None) -> list[str]:
    """Add what a report lacks: its VCEK, and the revocation list; returns the addresses that were fetched.

    A VLEK is not public: its owner hands it out. A report of version 2 without a hint of its product is tried as Milan.
    """
    report = parse.parse(evidence.report)
    if report.product is None:
        report = parse.parse(evidence.report, Product.MILAN)
    base = (base or kds.BASE).rstrip("/")
    fetched = []
    address = kds.url(report, base)
    if address is not None and "VCEK" not in evidence.certificates and not store.role(Role.VCEK):
        store.add(address, get(address))
        fetched.append(address)
    if report.product is not None and not store.crls:
        key = SigningKey.VLEK if report.signing_key is SigningKey.VLEK else SigningKey.VCEK
        address = kds.crl_url(report.product, key, base)
        store.add(address, get(address))
        fetched.append(address)
    return fetched
