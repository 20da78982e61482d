"""Forged chains and evidence that the vectors do not hold: each is signed by the right keys."""

from collections.abc import Iterator
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sevkit.attestation.report import certtable
from sevkit.attestation.report.certificates import AMD, Certificate, store_of
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.policy import read as read_policy
from sevkit.attestation.report.products import Product
from sevkit.attestation.report.verify import Verification, Verifier, setting
from sevkit.attestation.vectors import authority as ca
from sevkit.attestation.vectors.bench import Bench
from sevkit.errors import BadInputError

_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
_UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4.5"), b"\5\0")
_CRITICAL_OF_AMD = x509.UnrecognizedExtension(x509.ObjectIdentifier(f"{AMD}.1"), ca.integer(0))


@cache
def bench() -> Bench:
    return Bench(Product.MILAN, ca.make_keys(2048))


def again(certificate: x509.Certificate, by: ca.Issuer, *more: x509.ExtensionType, critical: bool = True) -> bytes:
    """A certificate, issued again with further extensions or others in place of its own."""
    kinds = {item.oid for item in more}
    names = certificate.issuer, certificate.subject
    builder = x509.CertificateBuilder(*names, certificate.public_key(), 7, ca.START, ca.END)
    for item in certificate.extensions:
        if item.oid not in kinds:
            builder = builder.add_extension(item.value, item.critical)
    for value in more:
        builder = builder.add_extension(value, critical)
    return ca.pem(builder.sign(by.key, hashes.SHA384(), rsa_padding=_PSS))


def usage(*, sign: bool = False, issue: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(sign, False, False, False, False, issue, False, False, False)


def verifier() -> Verifier:
    roots = [Certificate(bench().authority.ark.certificate)]
    return Verifier(setting(store_of({}), extra_roots=roots, now=ca.NOW, amd=False))


def judged(**files: bytes) -> Verification:
    certificates = {"vcek": bench().vcek, "chain": bench().chain, **files}
    return verifier().verify(Evidence(bench().chip.report(5), "raw", certificates))


def chips() -> Iterator[tuple[Trust, bytes]]:
    vcek, ask = bench().chip.vcek_certificate(), bench().authority.ask
    yield Trust.ACCEPTED, again(vcek, ask, usage(sign=True))
    yield Trust.ACCEPTED, again(vcek, ask, _UNKNOWN, critical=False)
    yield Trust.ACCEPTED, again(vcek, ask, _CRITICAL_OF_AMD)
    yield Trust.REJECTED, again(vcek, ask, _UNKNOWN)
    yield Trust.REJECTED, again(vcek, ask, usage(issue=True))


def issuers() -> Iterator[tuple[Trust, bytes]]:
    own = bench().authority
    ask, ark = own.ask.certificate, own.ark
    beside = ca.pem(ark.certificate)
    yield Trust.ACCEPTED, again(ask, ark, x509.BasicConstraints(True, 0)) + beside
    yield Trust.ACCEPTED, again(ask, ark, usage(issue=True)) + beside
    yield Trust.REJECTED, again(ask, ark, usage(sign=True)) + beside
    yield Trust.REJECTED, again(ask, ark, _UNKNOWN) + beside
    yield Trust.REJECTED, again(ask, ark, x509.NameConstraints([x509.DNSName("example.org")], None)) + beside


def test_extensions_that_forbid_the_use_are_heeded() -> None:
    for verdict, vcek in chips():
        assert judged(vcek=vcek).verdict is verdict
    for verdict, chain in issuers():
        assert judged(chain=chain).verdict is verdict


def test_a_root_that_allows_no_authority_below_it() -> None:
    own = bench().authority
    short = again(own.ark.certificate, own.ark, x509.BasicConstraints(True, 0))
    root = Certificate(x509.load_pem_x509_certificate(short))
    store = store_of({"chain": ca.pem(own.ask.certificate)})
    narrow = Verifier(setting(store, extra_roots=[root], now=ca.NOW, amd=False))
    found = narrow.verify(Evidence(bench().chip.report(5), "raw", {"vcek": bench().vcek}))
    assert found.verdict is Trust.REJECTED
    assert any("may not issue" in reason for reason in found.reasons)


def test_revocation_lists_beside_a_report_count_for_that_report_alone() -> None:
    """A verifier of many reports: neither a forged list nor a true one may reach the next report."""
    own, one = bench().authority, verifier()
    files = {"vcek": bench().vcek, "chain": bench().chain}
    raw = bench().chip.report(5)
    lists = {
        own.crl(by=own.stranger): Trust.INCONCLUSIVE,
        own.crl(own.ask.certificate.serial_number): Trust.REJECTED,
        own.crl(99): Trust.ACCEPTED,
    }
    for crl, verdict in lists.items():
        table = certtable.read(certtable.write({"VCEK": bench().vcek, "CRL": crl}))
        assert one.verify(Evidence(raw, "raw", {**files, **table})).verdict is verdict
        assert one.verify(Evidence(raw, "raw", files)).verdict is Trust.ACCEPTED
        assert not one.setting.store.crls


def test_a_report_that_the_host_requested_is_named() -> None:
    report = bench().chip.report(5, vmpl=0xFFFFFFFF)
    found = verifier().verify(Evidence(report, "raw", {"vcek": bench().vcek, "chain": bench().chain}))
    assert any("the host requested this report" in reason for reason in found.reasons)


@pytest.mark.parametrize("empty", [b"", b"# minimum_tcb = {snp = 8}\n", b"{}"])
def test_a_policy_that_demands_nothing_is_refused(empty: bytes) -> None:
    with pytest.raises(BadInputError, match="demands nothing"):
        read_policy(empty)
