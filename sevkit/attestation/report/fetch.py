"""Fetch from a key distribution service: only on request, with a deadline and a size limit."""

import urllib.error
import urllib.request

from sevkit.attestation.report import kds, parse, roots
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
    """Add a report's missing VCEK, issuers and revocation list; returns the addresses that were fetched.

    A VLEK is not public: its owner provides it. A report of version 2, which does not name its product, is treated as
    Milan's. Issuers are fetched from another service than AMD's, and for products whose issuers are not built in.
    """
    report = parse.parse(evidence.report)
    if report.product is None:
        report = parse.parse(evidence.report, Product.MILAN)
    address = (base or kds.BASE).rstrip("/")
    key = SigningKey.VLEK if report.signing_key is SigningKey.VLEK else SigningKey.VCEK
    wanted = []
    vcek = kds.url(report, address)
    if vcek is not None and "VCEK" not in evidence.certificates and not store.role(Role.VCEK):
        wanted.append(vcek)
    if report.product is not None:
        known = {item.name for item in (*store.certificates, *(() if base else roots.builtin().certificates))}
        if f"ARK-{report.product}" not in known:
            wanted.append(kds.chain_url(report.product, key, address))
        if not store.crls:
            wanted.append(kds.crl_url(report.product, key, address))
    for url in wanted:
        store.add(url, get(url))
    return wanted
