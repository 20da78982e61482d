"""Reports and certificates of real machines, from the test data of public verifiers (tests/data/reports/sources.json)."""

import base64
import datetime as dt
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attestation.report import certtable, kds, layout, roots
from sevkit.attestation.report.certificates import Role, Store, load, store_of
from sevkit.attestation.report.evidence import Evidence, read
from sevkit.attestation.report.finding import Trust
from sevkit.attestation.report.parse import parse
from sevkit.attestation.report.policy import Policy
from sevkit.attestation.report.policy import read as read_policy
from sevkit.attestation.report.products import LAYOUTS, Product, TcbVersion, from_cpuid
from sevkit.attestation.report.verify import Verification, verify
from sevkit.errors import BadInputError

DATA = Path(__file__).parent.parent / "data" / "reports"
NOW = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)

# report -> (certificate file, version, product, part)
GENUINE = {
    "milan-v2.bin": ("milan-v2-vcek.der", 2, Product.MILAN, None),
    "milan-v2.hex": ("milan-v2-hex-vcek.der", 2, Product.MILAN, None),
    "milan-v2-svn4.bin": ("milan-v2-svn4-vcek.der", 2, Product.MILAN, None),
    "milan-azure-hcl.bin": ("milan-azure-vcek.pem", 2, Product.MILAN, None),
    "milan-v3.bin": ("milan-v3-vcek.pem", 3, Product.MILAN, "Milan"),
    "genoa-v3.bin": ("genoa-v3-vcek.pem", 3, Product.GENOA, "Genoa"),
    "genoa-azure-evidence.json": (None, 3, Product.GENOA, "Genoa"),
    "milan-v2-nested.json": (None, 2, Product.MILAN, None),
    "genoa-v3-tsm.json": (None, 3, Product.GENOA, "Genoa"),
    "milan-v5.bin": ("milan-v5-vcek.pem", 5, Product.MILAN, "Milan"),
    "siena-v5.bin": ("siena-v5-vcek.der", 5, Product.GENOA, "Bergamo or Siena"),
    "turin-v5.bin": ("turin-v5-vcek.pem", 5, Product.TURIN, "Turin"),
    "turin-v5-b.bin": ("turin-v5-b-vcek.der", 5, Product.TURIN, "Turin"),
}


def data(name: str) -> bytes:
    return (DATA / name).read_bytes()


def judged(report: str, *certificates: str, at: dt.datetime = NOW, policy: Policy | None = None) -> Verification:
    return verify(read(data(report)), store_of({name: data(name) for name in certificates}), now=at, policy=policy)


def statuses(found: Verification) -> dict[str, str]:
    return {item.check: item.status.value for item in found.findings if item.status != "pass"}


def test_the_data_are_what_their_sources_gave() -> None:
    sources = json.loads(data("sources.json"))
    assert {path.name for path in DATA.iterdir()} == {*sources, "sources.json"}
    for name, about in sources.items():
        assert hashlib.sha256(data(name)).hexdigest() == about["sha256"], name


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_report_is_accepted(name: str) -> None:
    certificate, version, product, part = GENUINE[name]
    found = judged(name, *([certificate] if certificate else []))
    assert found.verdict is Trust.ACCEPTED, found.reasons
    assert (found.report.version, found.report.product, found.report.part) == (version, product, part)
    assert found.chain is not None
    assert [item.role for item in found.chain.certificates] == [Role.VCEK, Role.ASK, Role.ARK]
    assert statuses(found).keys() <= {"chain.revocation", "report.debug"}


def test_the_report_may_stand_anywhere_in_json() -> None:
    raw, other = data("milan-v3.bin"), data("genoa-v3.bin")
    pem = data("milan-v3-vcek.pem").decode()
    forms: list[object] = [
        {"SnpReport": base64.urlsafe_b64encode(raw).decode().rstrip("="), "VcekCertChain": pem},
        {"a": {"b": [{"snp-report": raw.hex(), "vcek_cert": base64.b64encode(load(pem.encode())[0][0].der).decode()}]}},
        {"claims": [1, {"attestation_report": list(raw), "vcek": list(load(pem.encode())[0][0].der)}]},
        {"report": raw.hex(), "again": {"report": raw.hex(), "certs": pem}},
    ]
    for form in forms:
        found = read(json.dumps(form).encode())
        assert found.report == raw
        assert verify(found, Store(), now=NOW).verdict is Trust.ACCEPTED
    assert read(", ".join(f"0x{byte:02x}" for byte in raw).encode()).report == raw
    with pytest.raises(BadInputError, match="2 different reports"):
        read(json.dumps([{"x": 1}, {"report": raw.hex(), "y": {"report": other.hex()}}]).encode())
    for hopeless in ({"report": [True, 300]}, {"report": "zz"}, {str(n): {"x": 1} for n in range(1000)}):
        with pytest.raises(BadInputError, match="no attestation report"):
            read(json.dumps(hopeless).encode())


def test_a_second_report_in_json_is_never_passed_over() -> None:
    """Whoever reads another key, or looks deeper, would see another report than the one that was judged."""
    raw, other = data("milan-v3.bin").hex(), data("genoa-v3.bin").hex()
    deep: object = {"report": other}
    for _ in range(10):
        deep = [{"in": deep}]
    for form, reason in (
        ({"report": raw, "more": deep}, "2 different reports"),
        ({"snp_report": raw, "SNP-Report": other}, "another spelling"),
        ({"report": raw, "vcek": "00", "VCEK": "01"}, "another spelling"),
        ({"report": raw, **{str(n): {} for n in range(20_000)}}, "give the report alone|more than"),
        (json.loads('{"a":' * 100 + json.dumps({"report": raw}) + "}" * 100), "more than"),
    ):
        with pytest.raises(BadInputError, match=reason):
            read(json.dumps(form).encode())
    assert read(json.dumps({"report": raw, "Report": raw, "a_b": 1, "ab": 2}).encode()).report.hex() == raw


def test_certificates_in_json_as_a_cloud_gives_them() -> None:
    chain = roots.builtin().role(Role.ASK)[0].x509.public_bytes(serialization.Encoding.PEM).decode()
    pem = data("milan-v3-vcek.pem").decode()
    answer = json.dumps({"vcekCert": pem, "tcbm": "DB18000000000004", "certificateChain": chain, "cacheControl": 86400})
    assert [item.role for item in load(answer.encode())[0]] == [Role.VCEK, Role.ASK]
    found = verify(Evidence(data("milan-v3.bin"), "raw"), store_of({"thim.json": answer.encode()}), now=NOW)
    assert found.verdict is Trust.ACCEPTED
    for wrong in (b"{", b'{"a": 1}', b'{"a": "-----BEGIN CERTIFICATE-----"}', b"{" * 5000, b'{"a": "x", "a": "y"}'):
        with pytest.raises(BadInputError):
            load(wrong)


@pytest.mark.parametrize("name", GENUINE)
def test_without_its_certificate_the_verdict_stays_open(name: str) -> None:
    found = verify(Evidence(read(data(name)).report, "raw"), Store(), now=NOW)
    assert found.verdict is Trust.INCONCLUSIVE
    assert statuses(found)["certificate.present"] == "unknown"


@pytest.mark.parametrize("name", GENUINE)
def test_with_the_certificates_of_all_others_the_right_one_is_taken(name: str) -> None:
    files = (path for path in sorted(DATA.iterdir()) if path.suffix in {".der", ".pem"})
    everything = store_of({path.name: path.read_bytes() for path in files})
    assert verify(read(data(name)), everything, now=NOW).verdict is Trust.ACCEPTED


@given(
    name=st.sampled_from([key for key, row in GENUINE.items() if row[0]]),
    where=st.integers(0, 0x2A0 + 95),
    bit=st.integers(0, 7),
)
def test_no_changed_report_is_accepted(name: str, where: int, bit: int) -> None:
    certificate = GENUINE[name][0]
    assert certificate
    raw = bytearray(read(data(name)).report)
    raw[where if where < 0x2A0 + 48 else where + 24] ^= 1 << bit
    found = verify(Evidence(bytes(raw), "raw"), store_of({certificate: data(certificate)}), now=NOW)
    assert found.verdict is Trust.REJECTED, found.reasons


def test_a_vlek_is_accepted_while_it_is_valid() -> None:
    valid = judged("milan-v3-vlek.bin", "milan-v3-vlek.der", at=dt.datetime(2025, 6, 1, tzinfo=dt.UTC))
    assert valid.verdict is Trust.ACCEPTED, valid.reasons
    assert valid.chain is not None
    assert valid.chain.certificates[1].role is Role.ASVK
    for moment, words in ((NOW, "expired"), (dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "not valid before")):
        found = judged("milan-v3-vlek.bin", "milan-v3-vlek.der", at=moment)
        assert found.verdict is Trust.REJECTED
        assert words in " ".join(found.reasons)


@pytest.mark.parametrize(
    ("report", "certificate", "check"),
    [
        ("milan-azure-b-hcl.bin", "milan-azure-b-certs.pem", "certificate.chip"),  # public, and not of one chip
        ("milan-v3.bin", "genoa-v3-vcek.pem", "certificate.product"),
        ("turin-v5.bin", "turin-v5-b-vcek.der", "certificate.chip"),
        ("milan-v2-svn4.bin", "invalid-legacy-vcek.der", "chain.signature"),
        ("milan-v2-svn4.bin", "invalid-new-vcek.der", "chain.signature"),
        ("milan-v3-vlek.bin", "milan-v3-vcek.pem", "certificate.kind"),
    ],
)
def test_another_chips_certificate_rejects(report: str, certificate: str, check: str) -> None:
    found = judged(report, certificate)
    assert found.verdict is Trust.REJECTED
    assert statuses(found)["signature.valid"] == "fail"
    assert statuses(found)[check] == "fail", found.reasons


def test_every_form_gives_the_same_report() -> None:
    raw = data("genoa-v3.bin")
    table = certtable.write({"VCEK": data("genoa-v3-vcek.pem"), "ARK": b"x"})
    response = b"\0\0\0\0" + (1184).to_bytes(4, "little") + bytes(24) + raw
    b64 = base64.b64encode(raw)
    forms = {
        "raw": raw,
        "padded": raw + bytes(2816),
        "response": response,
        "padded response": response.ljust(4000, b"\0"),
        "with certificates": raw + table,
        "response with certificates": response + table,
        "hex": raw.hex().encode(),
        "hex in lines": raw.hex(" ", 16).replace(" ", "\n").encode() + b"\n",
        "0x": b"0x" + raw.hex().encode(),
        "base64": b64,
        "base64 in lines": b"\n".join(b64[at : at + 76] for at in range(0, len(b64), 76)) + b"\n",
        "base64url": base64.urlsafe_b64encode(raw).rstrip(b"="),
        "JSON": json.dumps({"outblob": b64.decode(), "auxblob": base64.b64encode(table).decode()}).encode(),
    }
    for name, form in forms.items():
        found = read(form)
        assert found.report == raw, name
        assert ("VCEK" in found.certificates) == (name in {"with certificates", "response with certificates", "JSON"})


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: b"", "no attestation report"),
        (lambda raw: raw[:-1], "cut off"),
        (lambda raw: raw + b"x", "behind the report"),
        (lambda raw: raw[:100], "cut off"),
        (lambda raw: bytes(1184), "all zeros"),
        (lambda raw: b"\x16\0\0\0" + (1184).to_bytes(4, "little") + bytes(24) + raw, "status 0x16"),
        (lambda raw: bytes(4) + (1184).to_bytes(4, "little") + bytes(24) + raw[:-1], "cut off"),
        (lambda raw: raw * 5000, "too many"),
        (lambda raw: b"{", "JSON"),
        (lambda raw: b"HCLA" + raw, "HCL"),
        (lambda raw: b"-----BEGIN CERTIFICATE-----\n", "certificate"),
        (lambda raw: certtable.write({"VCEK": b"x" * 2000}), "certificate table alone"),
        (lambda raw: raw.hex().encode()[:-1], "no attestation report"),
    ],
)
def test_what_is_no_report_is_refused(damage: object, words: str) -> None:
    assert callable(damage)
    with pytest.raises(BadInputError, match=words):
        parse(read(damage(data("genoa-v3.bin"))).report)


def test_azures_runtime_data_are_bound_to_the_report() -> None:
    evidence = read(data("milan-azure-hcl.bin"))
    assert evidence.runtime_bound() is True
    assert evidence.runtime_data is not None
    assert b"HCLAkPub" in evidence.runtime_data
    store = store_of({"vcek": data("milan-azure-vcek.pem")})
    changed = replace(evidence, runtime_data=evidence.runtime_data.replace(b"HCLAkPub", b"HCLAkPuc"))
    found = verify(changed, store, now=NOW)
    assert found.verdict is Trust.REJECTED
    assert statuses(found)["report.runtime_data"] == "fail"


def test_every_field_is_shown() -> None:
    shown = parse(data("turin-v5.bin")).as_dict()
    assert shown["reported_tcb"] == {
        "value": "0101010400000051", "fmc": 1, "bootloader": 1, "tee": 1, "snp": 4, "microcode": 0x51,
    }  # fmt: skip
    assert shown["launch_mit_vector"] == 0x3F
    assert shown["platform_info"]["iommu_write_safe"] is True
    assert shown["platform_info"]["alias_check_complete"] is True
    assert shown["policy"]["debug"] is False
    assert shown["current_version"].startswith("1.")
    old = parse(data("milan-v2.bin"), Product.MILAN).as_dict()
    assert "launch_mit_vector" not in old
    assert "cpuid_family" not in old
    assert old["policy"]["debug"] is True
    assert set(old) < set(shown)


def test_the_address_of_a_certificate() -> None:
    report = parse(data("genoa-v3.bin"))
    chip = report.bytes_of("chip_id").hex()
    assert kds.url(report) == (f"https://kdsintf.amd.com/vcek/v1/Genoa/{chip}?blSPL=10&teeSPL=00&snpSPL=23&ucodeSPL=84")
    turin = kds.url(parse(data("turin-v5.bin")))
    assert turin is not None
    assert "/vcek/v1/Turin/59790fb1c39f35c1?" in turin
    assert "fmcSPL=01" in turin
    assert kds.url(parse(data("milan-v3-vlek.bin"))) is None
    assert kds.url(parse(data("milan-v2.bin"))) is None  # version 2 does not say of which product it is


def test_built_in_roots_are_those_of_amd() -> None:
    assert {item.name for item in roots.amd_roots()} == {"ARK-Milan", "ARK-Genoa", "ARK-Turin"}
    assert len(roots.builtin().certificates) == 9


def test_a_debug_guest_is_told_of_and_can_be_forbidden() -> None:
    found = judged("milan-v2.bin", "milan-v2-vcek.der")
    assert any("debugging" in reason for reason in found.reasons)
    strict = judged("milan-v2.bin", "milan-v2-vcek.der", policy=Policy(policy_forbidden=frozenset({"debug"})))
    assert strict.verdict is Trust.REJECTED


def test_a_policy_of_minimum_tcb_by_product() -> None:
    policy = read_policy(b"[minimum_tcb]\nmicrocode = 1\n[minimum_tcb.Genoa]\nsnp = 0x1B\n")
    found = judged("genoa-v3.bin", "genoa-v3-vcek.pem", policy=policy)
    assert found.verdict is Trust.REJECTED
    assert "snp is 23, at least 27" in " ".join(found.reasons)
    assert judged("siena-v5.bin", "siena-v5-vcek.der", policy=policy).verdict is Trust.ACCEPTED
    assert judged("milan-v3.bin", "milan-v3-vcek.pem", policy=policy).verdict is Trust.ACCEPTED
    only_genoa = read_policy(b'{"minimum_tcb": {"Genoa": {"snp": 1}}}')
    assert judged("milan-v3.bin", "milan-v3-vcek.pem", policy=only_genoa).verdict is Trust.REJECTED
    assert read_policy(b"\xef\xbb\xbfvmpls = [0]").vmpls == {0}  # as editors on Windows write it
    no_fmc = read_policy(b"minimum_tcb = {fmc = 1}")
    assert judged("milan-v3.bin", "milan-v3-vcek.pem", policy=no_fmc).verdict is Trust.REJECTED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"minimun_tcb = {snp = 1}", "did you mean|unknown key"),
        (b'{"products": ["Milan"], "products": ["Genoa"]}', "'products' stands twice"),
        (b'{"minimum_tcb": {"snp": 9, "snp": 1}}', "'snp' stands twice"),
        (b"minimum_tcb = {spl = 1}", "unknown component"),
        (b"minimum_tcb = {snp = 256}", "0 to 255"),
        (b"minimum_tcb = {snp = true}", "0 to 255"),
        (b"minimum_tcb = {Naples = {snp = 1}}", "unknown product"),
        (b'measurements = ["00"]', "has 1 bytes, not 48"),
        (b"measurements = []", "empty list"),
        (b'measurements = ["zz"]', "no hex"),
        (b'policy_forbidden = ["debgu"]', "not known"),
        (b"minimum_abi = 1.55", "no version"),
        (b"require_crl = 1", "neither true nor false"),
        (b"\xff", "neither TOML nor JSON"),
        (b"{", "neither TOML nor JSON"),
        (b"vmpls = [4]", "0 to 3"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        read_policy(text)


def test_a_certificate_table_must_hold_together() -> None:
    table = certtable.write({"VCEK": b"one", "ARK": b"two"})
    assert certtable.read(table) == {"VCEK": b"one", "ARK": b"two"}
    head = certtable.VCEK.bytes
    broken = {
        "no end": table[:48],
        "outside": head + (72).to_bytes(4, "little") + (100).to_bytes(4, "little") + bytes(24) + b"x",
        "twice": b"".join(head + (at).to_bytes(4, "little") + (1).to_bytes(4, "little") for at in (72, 73))
        + bytes(24)
        + b"xy",
        "one in another": b"".join(
            guid.bytes + (72).to_bytes(4, "little") + (size).to_bytes(4, "little")
            for guid, size in ((certtable.VCEK, 4), (certtable.ARK, 2))
        )
        + bytes(24)
        + b"wxyz",
        "into itself": head + (0).to_bytes(4, "little") + (3).to_bytes(4, "little") + bytes(24),
        "empty": head + (48).to_bytes(4, "little") + bytes(4) + bytes(24) + b"x",
    }
    for name, data_ in broken.items():
        with pytest.raises(BadInputError):
            certtable.read(data_)
            pytest.fail(name)


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    for reader in (read, load, certtable.read, lambda text: read_policy(text)):
        try:
            reader(raw)
        except BadInputError:
            continue


@given(st.sampled_from(list(LAYOUTS)), st.binary(min_size=8, max_size=8))
def test_a_tcb_version_survives_its_layout(product: Product, raw: bytes) -> None:
    again = TcbVersion.unpack(TcbVersion.unpack(raw, product).pack(product), product)
    assert again == TcbVersion.unpack(raw, product)


def test_reserved_ranges_and_fields_fill_a_report() -> None:
    for version in layout.VERSIONS:
        taken = [(f.offset, f.offset + f.size) for f in layout.FIELDS.values() if f.since <= version]
        spans = sorted([*taken, *layout.reserved_ranges(version), (layout.SIGNED, layout.SIGNED + 2 * layout.SCALAR)])
        assert spans[0][0] == 0
        assert all(end == start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
        assert spans[-1][1] == layout.SIZE


def test_products_by_family_and_model() -> None:
    assert from_cpuid(0x19, 0xA0) == (Product.GENOA, "Bergamo or Siena")
    assert from_cpuid(0x1A, 0x11) == (Product.TURIN, "Turin Dense")
    assert from_cpuid(0x1A, 0x50) == (Product.VENICE, "Venice")
    assert from_cpuid(0x19, 0x61) is None
