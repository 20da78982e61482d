"""Forged chains and evidence that the vectors do not hold: each is signed by the right keys."""

import datetime as dt
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding

from sevkit.attestation.report import certtable
from sevkit.attestation.report.certificates import AMD, Certificate, store_of
from sevkit.attestation.report.evidence import Evidence
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.policy import Policy
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


@pytest.mark.parametrize(
    ("check", "changes", "forged"),
    [
        ("", {}, False),
        ("chain.validity", {"end": ca.NOW - dt.timedelta(days=1)}, False),
        ("chain.validity", {"start": ca.NOW + dt.timedelta(days=1)}, False),
        ("chain.root", {}, True),
    ],
)
def test_a_trusted_root_must_be_valid_and_have_signed_itself(check: str, changes: dict[str, Any], forged: bool) -> None:
    own = bench().authority
    signer = ca.Issuer(own.ark.certificate, own.stranger.key if forged else own.ark.key)
    template = ca.Template(f"ARK-{bench().product}", authority=True, **changes)
    root = Certificate(ca.issue(template, own.ark.key.public_key(), signer))
    store = store_of({"chain": ca.pem(own.ask.certificate)})
    one = Verifier(setting(store, extra_roots=[root], now=ca.NOW, amd=False))
    found = one.verify(Evidence(bench().chip.report(5), "raw", {"vcek": bench().vcek}))
    assert {item.check for item in found.findings if item.status == "fail"} == ({check} if check else set())
    assert found.verdict is (Trust.REJECTED if check else Trust.ACCEPTED)


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


def listed(by: ca.Issuer, *serials: int, start: dt.datetime = ca.START, end: dt.datetime = ca.END) -> bytes:
    """A revocation list in the name of any issuer."""
    builder = x509.CertificateRevocationListBuilder(by.certificate.subject, start, end)
    for serial in serials:
        builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, start).build())
    return builder.sign(by.key, hashes.SHA384(), rsa_padding=_PSS).public_bytes(serialization.Encoding.DER)


def lists() -> Iterator[tuple[Trust, tuple[bytes, ...]]]:
    """Where a policy demands revocation lists: which ones satisfy it."""
    own, day = bench().authority, dt.timedelta(days=1)
    root, vcek = listed(own.ark), bench().chip.vcek_certificate().serial_number
    yield Trust.ACCEPTED, (root,)
    yield Trust.ACCEPTED, (root, listed(own.ask, vcek + 1))
    yield Trust.REJECTED, (root, listed(own.ask, vcek))
    yield Trust.INCONCLUSIVE, ()
    yield Trust.INCONCLUSIVE, (listed(own.asvk),)  # of an issuer that is not in the chain
    yield Trust.INCONCLUSIVE, (listed(own.ask),)  # the root's is not there
    yield Trust.INCONCLUSIVE, (listed(own.ark, end=ca.NOW - day),)
    yield Trust.INCONCLUSIVE, (listed(own.ark, start=ca.NOW + day),)
    yield Trust.INCONCLUSIVE, (root, listed(own.ask, start=ca.NOW + day))


def test_only_current_lists_of_the_chains_issuers_satisfy_a_demand_for_lists() -> None:
    roots = [Certificate(bench().authority.ark.certificate)]
    where = setting(store_of({}), policy=Policy(require_crl=True), extra_roots=roots, now=ca.NOW, amd=False)
    for number, (verdict, crls) in enumerate(lists()):
        files = {f"crl{at}": crl for at, crl in enumerate(crls)}
        evidence = Evidence(bench().chip.report(5), "raw", {"vcek": bench().vcek, "chain": bench().chain, **files})
        assert Verifier(where).verify(evidence).verdict is verdict, number


def test_a_list_that_is_cut_off_after_a_whole_certificate_is_not_passed_over() -> None:
    own = bench().authority
    crl = x509.load_der_x509_crl(listed(own.ark)).public_bytes(serialization.Encoding.PEM)
    whole = bench().chain + crl
    assert not store_of({"file": whole}).unreadable
    for cut in (whole[:-30], bench().chain + crl[:40], crl[:200] + bench().chain):
        store = store_of({"file": cut})
        assert store.unreadable
        one = Verifier(setting(store, extra_roots=[Certificate(own.ark.certificate)], now=ca.NOW, amd=False))
        beside = {"vcek": bench().vcek, "chain": bench().chain}
        assert one.verify(Evidence(bench().chip.report(5), "raw", beside)).verdict is Trust.INCONCLUSIVE


def test_a_migration_agent_is_named() -> None:
    report = bench().chip.report(5, policy=0x30000 | 1 << 18)
    found = verifier().verify(Evidence(report, "raw", {"vcek": bench().vcek, "chain": bench().chain}))
    assert any("migration agent" in reason for reason in found.reasons)


def test_a_report_that_the_host_requested_is_named() -> None:
    report = bench().chip.report(5, vmpl=0xFFFFFFFF)
    found = verifier().verify(Evidence(report, "raw", {"vcek": bench().vcek, "chain": bench().chain}))
    assert any("the host requested this report" in reason for reason in found.reasons)


@pytest.mark.parametrize("empty", [b"", b"# minimum_tcb = {snp = 8}\n", b"{}"])
def test_a_policy_that_demands_nothing_is_refused(empty: bytes) -> None:
    with pytest.raises(BadInputError, match="demands nothing"):
        read_policy(empty)
