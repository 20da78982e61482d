"""From a chip's certificate to a trusted root: issuers, signatures, validity, revocation. Pure.

The hierarchy is fixed: VCEK - ASK - ARK, or VLEK - ASVK - ARK, each signed with RSASSA-PSS and SHA-384 (57230). Roots
other than AMD's, such as the model's, may sign with ECDSA and SHA-384.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from sevkit.attestation.report.certificates import AMD, DAMAGED, ISSUERS, Certificate, Role, Store
from sevkit.attestation.report.finding import Finding, Status

_ALGORITHMS = {SignatureAlgorithmOID.RSASSA_PSS, SignatureAlgorithmOID.ECDSA_WITH_SHA384}
_LEAST_RSA_BITS = 2048
# Critical extensions that are understood: these, AMD's own, and those that say where to look.
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.SubjectKeyIdentifier,
    x509.AuthorityKeyIdentifier,
    x509.CRLDistributionPoints,
)
DEPTH = 3


@dataclass(frozen=True)
class Anchors:
    """The trusted roots, and further certificates that are always available."""

    roots: tuple[Certificate, ...]
    known: Store = field(default_factory=Store)


@dataclass(frozen=True)
class Chain:
    """A chain from the chip's certificate up, as far as it could be built, and the findings."""

    certificates: tuple[Certificate, ...]
    findings: tuple[Finding, ...]

    @property
    def complete(self) -> bool:
        """Whether it reaches a root."""
        return len(self.certificates) == DEPTH


def build(leaf: Certificate, store: Store, anchors: Anchors) -> Chain:
    """The chain of a leaf: of several issuers with the right name, the one whose key made the signature."""
    chain = [leaf]
    findings: list[Finding] = []
    while len(chain) < DEPTH and not findings:
        found, finding = _issuer(chain[-1], store, anchors)
        if found is not None and found not in chain:
            chain.append(found)
        elif finding is None:
            finding = Finding("chain.signature", Status.FAIL, f"{chain[-1].name}: its issuers go round in a circle")
        findings += [finding] if finding else []
    if not findings:
        findings.append(Finding("chain.signature", Status.PASS, " <- ".join(item.name for item in chain)))
    return Chain(tuple(chain), tuple(findings))


def _issuer(child: Certificate, store: Store, anchors: Anchors) -> tuple[Certificate | None, Finding | None]:
    pool = [*anchors.roots, *anchors.known.certificates, *store.certificates]
    named = [item for item in pool if item.x509.subject == child.x509.issuer]
    found = next((item for item in named if signed_by(child.x509, item.x509)), None)
    if found is not None and found.role in {ISSUERS.get(child.role), Role.OTHER}:
        return found, None
    if found is not None:
        text = f"{child.name} was issued by {found.name}, which is no {ISSUERS.get(child.role, Role.OTHER)}"
        return None, Finding("chain.signature", Status.FAIL, text)
    if named:
        text = f"{child.name} is not signed by {child.issuer_name}"
        return None, Finding("chain.signature", Status.FAIL, text)
    text = f"the certificate of {child.issuer_name}, which issued {child.name}, is not at hand"
    return None, Finding("chain.signature", Status.UNKNOWN, text)


def signed_by(child: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the signature is by the issuer's key, with an algorithm of the hierarchy."""
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, *DAMAGED):
        return False
    return True


def algorithm_findings(chain: Chain) -> Iterator[Finding]:
    """Weak or unexpected algorithms: signatures other than SHA-384, short RSA keys."""
    for item in chain.certificates:
        problem = _weak(item.x509)
        if problem:
            yield Finding("chain.algorithm", Status.FAIL, f"{item.name}: {problem}")


def _weak(certificate: x509.Certificate) -> str | None:
    try:
        digest, key = certificate.signature_hash_algorithm, certificate.public_key()
    except DAMAGED as error:
        return str(error)
    if certificate.signature_algorithm_oid not in _ALGORITHMS or not isinstance(digest, hashes.SHA384):
        return (
            f"signed with {certificate.signature_algorithm_oid.dotted_string}, not with SHA-384 and RSASSA-PSS or ECDSA"
        )
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return f"an RSA key of {key.key_size} bits is too short"
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        return "a key of an unknown kind"
    return None


def authority_findings(chain: Chain) -> Iterator[Finding]:
    """Issuers must be certificate authorities that may sign certificates; a chip's certificate must not be one."""
    for number, item in enumerate(chain.certificates):
        try:
            extensions = item.x509.extensions
        except DAMAGED as error:
            yield Finding("chain.authority", Status.FAIL, f"{item.name}: {error}")
            continue
        problem = _critical(extensions) or (_no_issuer(extensions, number - 1) if number else _no_leaf(extensions))
        if problem:
            yield Finding("chain.authority", Status.FAIL, f"{item.name} {problem}")


def _critical(extensions: x509.Extensions) -> str | None:
    """A certificate with a critical extension that is not understood must not be used (RFC 5280, section 4.2)."""
    for item in extensions:
        own = isinstance(item.value, x509.UnrecognizedExtension) and item.oid.dotted_string.startswith(f"{AMD}.")
        if item.critical and not own and not isinstance(item.value, _UNDERSTOOD):
            return f"has the critical extension {item.oid.dotted_string}, which is not understood"
    return None


def _no_leaf(extensions: x509.Extensions) -> str | None:
    for item in extensions:
        if isinstance(item.value, x509.BasicConstraints) and item.value.ca:
            return "is a certificate authority"
        if isinstance(item.value, x509.KeyUsage) and not item.value.digital_signature:
            return "may not sign reports"
    return None


def _no_issuer(extensions: x509.Extensions, between: int) -> str | None:
    """Why it may not issue certificates, with so many authorities between it and the chip's certificate."""
    authority = False
    for item in extensions:
        if isinstance(item.value, x509.BasicConstraints):
            authority = item.value.ca and (item.value.path_length is None or item.value.path_length >= between)
        elif isinstance(item.value, x509.KeyUsage) and not item.value.key_cert_sign:
            return "may not issue certificates"
    return None if authority else "may not issue certificates"


def validity_findings(chain: Chain, now: dt.datetime) -> Iterator[Finding]:
    """Every certificate must be valid at ``now``."""
    judged = f"judged as of {now.astimezone(dt.UTC):%Y-%m-%d %H:%M} UTC"
    for item in chain.certificates:
        start, end = item.x509.not_valid_before_utc, item.x509.not_valid_after_utc
        if now < start:
            text = f"{item.name} is not valid before {start:%Y-%m-%d %H:%M}, {judged}"
            yield Finding("chain.validity", Status.FAIL, text)
        elif now > end:
            yield Finding("chain.validity", Status.FAIL, f"{item.name} expired on {end:%Y-%m-%d %H:%M}, {judged}")


def trust_findings(chain: Chain, anchors: Anchors) -> Iterator[Finding]:
    """The chain must end in a root that is trusted, by its key; the root must have signed itself."""
    if not chain.complete:
        return
    root = chain.certificates[-1]
    if root.spki not in {item.spki for item in anchors.roots}:
        yield Finding("chain.root", Status.FAIL, f"{root.name} is not a root that is trusted here")
    elif not signed_by(root.x509, root.x509):
        yield Finding("chain.root", Status.FAIL, f"{root.name} is not signed by itself")


def revocation_findings(
    chain: Chain, crls: Sequence[x509.CertificateRevocationList], now: dt.datetime
) -> Iterator[Finding]:
    """Revocation lists of the chain's issuers: are they genuine and current, and do they name a certificate.

    A list applies only to certificates of its own issuer: every VCEK has the serial number 0.
    """
    for child, issuer in zip(chain.certificates, chain.certificates[1:], strict=False):
        for crl in crls:
            if crl.issuer == issuer.x509.subject:
                yield from _revoked(child, issuer, crl, now)
    root = chain.certificates[-1].x509 if chain.complete else None
    if root is not None and not any(crl.issuer == root.subject for crl in crls):
        yield Finding("chain.revocation", Status.WARNING, "no revocation list of the root is at hand: not checked")


def _revoked(
    child: Certificate, issuer: Certificate, crl: x509.CertificateRevocationList, now: dt.datetime
) -> Iterator[Finding]:
    key = issuer.x509.public_key()
    try:
        genuine = isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
    except DAMAGED:
        genuine = False
    if not genuine:
        text = f"a revocation list in the name of {issuer.name} is not signed by it"
        yield Finding("chain.revocation", Status.UNKNOWN, text)
    elif crl.get_revoked_certificate_by_serial_number(child.x509.serial_number) is not None:
        yield Finding("chain.revocation", Status.FAIL, f"{child.name} is revoked by {issuer.name}")
    elif crl.next_update_utc is not None and crl.next_update_utc < now:
        text = f"the revocation list of {issuer.name} is out of date since {crl.next_update_utc:%Y-%m-%d}"
        yield Finding("chain.revocation", Status.WARNING, text)
    elif crl.last_update_utc > now:
        text = f"the revocation list of {issuer.name} is from the future ({crl.last_update_utc:%Y-%m-%d})"
        yield Finding("chain.revocation", Status.WARNING, text)
    else:
        yield Finding("chain.revocation", Status.PASS, f"{child.name} is not revoked")
