"""The vectors: each has the verdict that it deserves, and each check is one that they would miss."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from sevkit.attestation import relying_party as rp
from sevkit.attestation.report import fetch, kds
from sevkit.attestation.report.certificates import Certificate, Store, store_of
from sevkit.attestation.report.checks import CHAIN_CHECKS, REPORT_CHECKS, ChainCheck, Check
from sevkit.attestation.report.demands import DEMANDS
from sevkit.attestation.report.evidence import Evidence, read
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.parse import parse
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.policy import read as read_policy
from sevkit.attestation.report.products import Product
from sevkit.attestation.report.verify import Verification, Verifier, setting, verify
from sevkit.attestation.vectors import cases
from sevkit.attestation.vectors import kds as fake_kds
from sevkit.attestation.vectors import store as vector_store
from sevkit.attestation.vectors.authority import NOW, Keys, make_keys
from sevkit.attestation.vectors.bench import Bench, Vector
from sevkit.errors import BadInputError, MissingToolError


@cache
def keys() -> Keys:
    return make_keys(2048)


@cache
def vectors(product: Product) -> tuple[Vector, ...]:
    return tuple(cases.vectors(keys(), (product,)))


@cache
def root(product: Product) -> Certificate:
    return Certificate(keys().authority(product).ark.certificate)


ALL_CHECKS: Sequence[Check] = (*REPORT_CHECKS, *DEMANDS)


def judged(
    vector: Vector, checks: Sequence[Check] = ALL_CHECKS, chain_checks: Sequence[ChainCheck] = CHAIN_CHECKS
) -> Verification:
    policy = read_policy(vector.policy.encode()) if vector.policy else Policy()
    where = setting(
        store_of(vector.certificates), policy=policy, extra_roots=[root(vector.product)], now=vector.at, amd=False
    )
    return Verifier(where, checks, chain_checks).verify(read(vector.report))


@pytest.mark.parametrize("product", cases.PRODUCTS)
def test_each_vector_has_its_verdict(product: Product) -> None:
    for vector in vectors(product):
        if vector.name.split("-")[1] == "flip" and int(vector.name[-3:], 16) % 7:
            continue  # a seventh of the flipped bytes here; `sevkit report vectors` writes all
        found = judged(vector)
        assert found.verdict is vector.verdict, (vector.name, found.reasons)
        if vector.check and vector.verdict is Trust.REJECTED:
            failed = {item.check for item in found.findings if item.status == "fail"}
            assert vector.check in failed, (vector.name, failed)


def test_there_are_thousands_and_their_names_differ() -> None:
    names = [vector.name for product in cases.PRODUCTS for vector in vectors(product)]
    assert len(names) > 3000
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("left_out", [check.id for check in ALL_CHECKS])
def test_a_verifier_without_one_check_is_found_out(left_out: str) -> None:
    """Mutation of the verifier: without the check, a vector that names it is accepted."""
    checks = [check for check in ALL_CHECKS if check.id != left_out]
    wrong = [vector for vector in vectors(Product.MILAN) if vector.check == left_out][:60]
    assert any(judged(vector, checks).verdict is Trust.ACCEPTED for vector in wrong), left_out


@pytest.mark.parametrize("left_out", [check.id for check in CHAIN_CHECKS])
def test_a_verifier_without_one_check_of_the_chain_is_found_out(left_out: str) -> None:
    checks = [check for check in CHAIN_CHECKS if check.id != left_out]
    wrong = [vector for vector in vectors(Product.MILAN) if vector.check == left_out]
    assert any(judged(vector, ALL_CHECKS, checks).verdict is Trust.ACCEPTED for vector in wrong), left_out


def test_without_its_root_nothing_is_accepted() -> None:
    good = vectors(Product.MILAN)[0]
    assert verify(read(good.report), store_of(good.certificates), now=NOW).verdict is Trust.REJECTED


def test_vectors_as_files(tmp_path: Path) -> None:
    few = vectors(Product.TURIN)[:20]
    counts = vector_store.write(tmp_path, few, keys())
    assert counts.total() == 20
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for row in manifest["vectors"]:
        store = store_of({name: (tmp_path / name).read_bytes() for name in row["certificates"]})
        trusted = store_of({"root": (tmp_path / row["root"]).read_bytes()}).certificates
        found = verify(read((tmp_path / row["report"]).read_bytes()), store, extra_roots=trusted, now=NOW, amd=False)
        assert found.verdict == row["verdict"], row


def test_certificates_are_fetched_from_a_service_on_loopback() -> None:
    bench = Bench(Product.TURIN, keys())
    service = fake_kds.Service([bench])
    evidence = Evidence(bench.chip.report(5), "raw")
    with fake_kds.serving(service) as address:
        store = Store()
        fetched = fetch.missing(evidence, store, address)
        assert [url.rpartition("/")[2].partition("?")[0] for url in fetched[1:]] == ["cert_chain", "crl"]
        found = verify(evidence, store, extra_roots=[root(Product.TURIN)], now=NOW, amd=False)
        assert found.verdict is Trust.ACCEPTED, found.reasons
        other = Evidence(bench.chip.report(5, chip_id=b"\1" * 8), "raw")
        with pytest.raises(MissingToolError, match="404"):
            fetch.missing(other, Store(), address)
    assert service.asked[0] == kds.url(parse(evidence.report), "")
    with pytest.raises(MissingToolError):
        fetch.get(f"{address}/vcek/v1/Turin/crl", timeout=2)
    with pytest.raises(BadInputError, match="http"):
        fetch.get("file:///etc/passwd")


# --- a relying party


def party(bench: Bench, policy: Policy | None = None) -> rp.RelyingParty:
    where = setting(store_of(bench.good()), policy=policy, extra_roots=[root(bench.product)], now=NOW, amd=False)
    return rp.RelyingParty(where, b"the disk key")


def test_a_secret_is_released_on_an_accepted_report_over_its_channel() -> None:
    bench = Bench(Product.MILAN, keys())
    owner = party(bench)
    guest = rp.Guest(lambda report_data: bench.chip.report(5, report_data=report_data))
    nonce = owner.challenge()
    offer = guest.offer(nonce)
    sealed = owner.release(nonce, offer)
    assert guest.open(sealed) == b"the disk key"
    with pytest.raises(rp.NotTrustedError, match="used before"):
        owner.release(nonce, offer)
    with pytest.raises(BadInputError):
        rp.Guest(lambda _: b"").open(sealed)


def test_a_relayed_report_releases_nothing() -> None:
    """A host in between takes a genuine guest's report and gives a key of its own (CVE-2026-33697)."""
    bench = Bench(Product.MILAN, keys())
    owner = party(bench)
    guest = rp.Guest(lambda report_data: bench.chip.report(5, report_data=report_data))
    attacker = rp.Guest(lambda report_data: bench.chip.report(5, report_data=bytes(64)))
    nonce = owner.challenge()
    genuine = guest.offer(nonce)
    relayed = rp.Offer(attacker.offer(nonce).public_key, genuine.evidence)
    with pytest.raises(rp.NotTrustedError) as refused:
        owner.release(nonce, relayed)
    assert "report_data" in (refused.value.detail or "")
    other = owner.challenge()
    with pytest.raises(rp.NotTrustedError):  # the genuine offer again, for another nonce
        owner.release(other, genuine)
    with pytest.raises(rp.NotTrustedError, match="not given out"):
        owner.release(b"x" * 32, genuine)


def test_an_open_verdict_releases_nothing() -> None:
    """A report whose verdict is inconclusive: a certificate is missing, or a demanded revocation list."""
    bench = Bench(Product.MILAN, keys())
    for left_out, policy in (
        ("vcek.der", Policy()),
        ("cert_chain.pem", Policy()),
        ("crl.der", Policy(require_crl=True)),
    ):
        files = {name: data for name, data in bench.good().items() if name != left_out}
        where = setting(store_of(files), policy=policy, extra_roots=[root(bench.product)], now=NOW, amd=False)
        owner = rp.RelyingParty(where, b"the disk key")
        guest = rp.Guest(lambda report_data: bench.chip.report(5, report_data=report_data))
        nonce = owner.challenge()
        with pytest.raises(rp.NotTrustedError, match="inconclusive"):
            owner.release(nonce, guest.offer(nonce))


def test_a_guest_that_does_not_meet_the_policy_gets_nothing() -> None:
    bench = Bench(Product.MILAN, keys())
    owner = party(bench, read_policy(b'policy_forbidden = ["debug"]'))
    guest = rp.Guest(lambda data: bench.chip.report(5, report_data=data, policy=0xB0000))
    nonce = owner.challenge()
    with pytest.raises(rp.NotTrustedError, match="rejected"):
        owner.release(nonce, guest.offer(nonce))
