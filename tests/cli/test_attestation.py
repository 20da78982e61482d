"""`sevkit measure`, `report` and `tcb`, as users call them."""

import base64
import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sevsnpmeasure import guest as reference
from sevsnpmeasure.sev_mode import SevMode

from sevkit.attestation.measure import cpus
from sevkit.attestation.report.evidence import read
from sevkit.attestation.vectors.authority import NOW
from tests.cli.conftest import Run, RunJson
from tests.unit.probe_samples import ready
from tests.unit.test_attestation_measure import sample
from tests.unit.test_model_digest import SECTIONS, firmware_image

DATA = Path(__file__).parent.parent / "data" / "reports"


@pytest.fixture
def firmware(tmp_path: Path) -> str:
    path = tmp_path / "OVMF.fd"
    path.write_bytes(firmware_image(b"x", SECTIONS))
    return str(path)


def launch(firmware: str, *more: str) -> tuple[str, ...]:
    return ("--mode", "sev-snp", "--vcpus", "2", "--vcpu-type", "EPYC-v4", "--ovmf", firmware, *more)


def expected(
    firmware: str, vcpus: int = 2, features: int = 1, cpu: str = "EPYC-v4", mode: SevMode = SevMode.SEV_SNP
) -> str:
    digest: bytes = reference.calc_launch_digest(mode, vcpus, cpus.signature_of(cpu), firmware, "", "", "", features)
    return digest.hex()


def test_measure(sevkit: Run, sevkit_json: RunJson, firmware: str) -> None:
    status, envelope = sevkit_json("measure", *launch(firmware))
    assert status == 0
    assert envelope["data"]["launch_digest"] == expected(firmware)
    assert sevkit("measure", *launch(firmware))[1] == expected(firmware) + "\n"
    _, out, _ = sevkit("measure", *launch(firmware), "--output-format", "base64")
    assert base64.b64decode(out).hex() == expected(firmware)
    for mode, theirs in (("seves", SevMode.SEV_ES), ("sev-es", SevMode.SEV_ES), ("sev", SevMode.SEV)):
        words = (
            "--mode",
            mode,
            "--ovmf",
            firmware,
            *(("--vcpus", "2", "--vcpu-type", "EPYC-v4") if mode != "sev" else ()),
        )
        assert sevkit("measure", *words)[1].strip() == expected(firmware, mode=theirs)


def test_measure_by_signature_and_by_family(sevkit: Run, firmware: str) -> None:
    base = ("measure", "--mode", "snp", "--vcpus", "2", "--ovmf", firmware)
    by_family = sevkit(*base, "--vcpu-family", "25", "--vcpu-model", "17", "--vcpu-stepping", "0")
    assert by_family == sevkit(*base, "--vcpu-sig", hex(cpus.signature_of("EPYC-Genoa")))
    assert by_family == sevkit(*base, "--vcpu-type", "epyc-genoa")


def test_the_trace_and_the_firmware_alone(sevkit: Run, sevkit_json: RunJson, firmware: str) -> None:
    _, envelope = sevkit_json("measure", *launch(firmware), "--trace")
    assert envelope["data"]["trace"][-1]["digest"] == envelope["data"]["launch_digest"]
    _, out, _ = sevkit("measure", "--mode", "snp:ovmf-hash", "--ovmf", firmware)
    assert out.strip() == reference.calc_snp_ovmf_hash(firmware).hex()
    assert sevkit("measure", *launch(firmware, "--ovmf-hash", out.strip()))[1].strip() == expected(firmware)
    for words in (["--vcpus", "4"], ["--vcpu-type", "EPYC-v4"], ["--ovmf-hash", "00" * 48], ["--trace"]):
        status, _, err = sevkit("measure", "--mode", "snp:ovmf-hash", "--ovmf", firmware, *words)
        assert (status, f"{words[0]} has no effect" in err) == (2, True)
    words = ["measure", "explain", "--mode", "snp:ovmf-hash", "--ovmf", firmware, "--expected", "00" * 48]
    assert "not a launch" in sevkit(*words)[2]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--mode", "sev-snp"],
        ["--mode", "sev-snp", "--ovmf", "OVMF"],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2"],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "Xeon"],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "0", "--vcpu-type", "EPYC"],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--append", "x"],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--vcpu-sig", "1"],
        *(
            ["--mode", "sev", "--ovmf", "OVMF", *words]
            for words in (
                ["--guest-features", "0x20"],
                ["--vcpus", "2"],
                ["--vcpu-type", "EPYC"],
                ["--vcpu-sig", "1"],
                ["--vcpu-family", "25"],
                ["--vmm", "qemu"],
            )
        ),
        ["explain", "--mode", "sev", "--ovmf", "OVMF", "--expected", "00" * 32, "--vcpus", "2"],
        ["--mode", "sev-es", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--guest-features", "0x21"],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--vars-size", "1"],
        ["--mode", "snp:svsm", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC"],
        [
            *("--mode", "snp:svsm", "--svsm", "OVMF", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC"),
            *("--guest-features", "0x21"),
        ],
        ["--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--native-zero"],
        ["--igvm", "OVMF", "--vcpus", "2"],
        ["--igvm", "OVMF"],
        ["--mode", "sev-snp", "explain"],
        ["explain", "--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC"],
        ["explain", "--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--expected", "00"],
        ["explain", "--mode", "sev-snp", "--ovmf", "OVMF", "--vcpus", "2", "--vcpu-type", "EPYC", "--expected", "x y"],
    ],
)
def test_what_does_not_go_together_is_refused(sevkit_json: RunJson, firmware: str, words: list[str]) -> None:
    status, envelope = sevkit_json("measure", *(firmware if word == "OVMF" else word for word in words))
    assert status == 2
    assert envelope["errors"][0]["kind"] in {"UsageError", "BadInputError"}


def test_explain(sevkit: Run, sevkit_json: RunJson, firmware: str, tmp_path: Path) -> None:
    wanted = expected(firmware, vcpus=6)
    status, envelope = sevkit_json("measure", "explain", *launch(firmware), "--expected", wanted)
    assert status == 0
    assert [row["input"] for row in envelope["data"]["found"]] == ["vcpus"]
    assert envelope["data"]["found"][0]["actual"] == "6"
    assert "vcpus: 2 -> 6" in sevkit("measure", "explain", *launch(firmware), "--expected", wanted)[1]
    same, envelope = sevkit_json("measure", "explain", *launch(firmware), "--expected", expected(firmware))
    assert (same, envelope["data"]["found"], envelope["data"]["equal"]) == (0, [], True)
    words = ("--expected", "00" * 48, "--changes", "1", "--max-vcpus", "8")
    status, out, _ = sevkit("measure", "explain", *launch(firmware), *words)
    assert status == 1
    assert "Ruled out" in out
    folder = tmp_path / "others"
    folder.mkdir()
    (folder / "new.fd").write_bytes(firmware_image(b"another", SECTIONS))
    wanted = expected(str(folder / "new.fd"))
    words = ("--expected", wanted, "--also-ovmf", str(folder), "--changes", "1")
    _, envelope = sevkit_json("measure", "explain", *launch(firmware), *words)
    assert envelope["data"]["found"][0]["actual"].endswith("new.fd")
    with open(folder / "disk.img", "wb") as file:
        file.truncate((64 << 20) + 1)
    status, envelope = sevkit_json("measure", "explain", *launch(firmware), *words)
    assert (status, envelope["errors"][0]["kind"]) == (2, "BadInputError")


def test_idblock(sevkit: Run, sevkit_json: RunJson, firmware: str, tmp_path: Path) -> None:
    key = tmp_path / "id.pem"
    private = ec.generate_private_key(ec.SECP384R1())
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    out = tmp_path / "out"
    words = ("--id-key", str(key), "--author-key", str(key), "--guest-svn", "3", "--output", str(out))
    status, envelope = sevkit_json("measure", "idblock", *launch(firmware), *words)
    assert status == 0
    assert envelope["data"]["launch_digest"] == expected(firmware)
    block = base64.b64decode(envelope["data"]["id_block"])
    assert block == (out / "id-block.bin").read_bytes()
    assert block[:48].hex() == expected(firmware)
    assert len((out / "id-auth.bin").read_bytes()) == 4096
    status, text, _ = sevkit("measure", "idblock", "--measurement", expected(firmware), "--id-key", str(key))
    assert text.startswith("id-block=")
    assert sevkit("measure", "idblock", "--measurement", "00", "--id-key", str(key))[0] == 2
    assert sevkit("measure", "idblock", *launch(firmware), "--id-key", firmware)[0] == 2


def test_measure_an_igvm_file(sevkit_json: RunJson, tmp_path: Path) -> None:
    file, digest = sample()
    path = tmp_path / "guest.igvm"
    path.write_bytes(file.bytes())
    status, envelope = sevkit_json("measure", "--igvm", str(path), "--trace")
    assert status == 0
    assert envelope["data"]["launch_digest"] == digest.hex()
    assert envelope["data"]["trace"][-1]["digest"] == digest.hex()


# --- reports


@pytest.mark.parametrize(
    ("report", "certificates", "status", "verdict"),
    [
        ("turin-v5.bin", "turin-v5-vcek.pem", 0, "accepted"),
        ("genoa-v3-tsm.json", None, 0, "accepted"),
        ("turin-v5.bin", None, 3, "inconclusive"),
        ("turin-v5.bin", "turin-v5-b-vcek.der", 1, "rejected"),
        ("milan-v3-vlek.bin", "milan-v3-vlek.der", 1, "rejected"),
    ],
)
def test_verify(
    sevkit: Run, sevkit_json: RunJson, report: str, certificates: str | None, status: int, verdict: str
) -> None:
    words = ["report", "verify", str(DATA / report), "--at", "2026-11-01"]
    words += ["--certs", str(DATA / certificates)] if certificates else []
    found, envelope = sevkit_json(*words)
    assert (found, envelope["data"]["verdict"]) == (status, verdict)
    assert envelope["data"]["reasons"]
    assert all(isinstance(reason, str) for reason in envelope["data"]["reasons"])
    out = sevkit(*words)[1]
    assert out.startswith(verdict)
    assert out.count("not demanded: ") == (2 if verdict == "accepted" else 0)
    assert envelope["data"]["not_demanded"] == ["guest", "freshness"]


def test_verify_with_a_folder_of_certificates_and_a_policy(sevkit_json: RunJson, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('minimum_tcb = {snp = 5}\nplatform_required = ["alias_check_complete"]\n')
    words = ("report", "verify", str(DATA / "turin-v5-b.bin"), "--certs", str(DATA), "--at", "2026-11-01")
    assert sevkit_json(*words, "--policy", str(policy))[0] == 0
    policy.write_text("minimum_tcb = {snp = 6}\n")
    status, envelope = sevkit_json(*words, "--policy", str(policy))
    assert status == 1
    assert any("policy.minimum_tcb" in reason for reason in envelope["data"]["reasons"])
    assert sevkit_json(*words, "--report-data", "00" * 64)[0] in {0, 1}
    assert sevkit_json(*words, "--report-data", "01")[0] == 1
    policy.write_text("minimum_tbc = {snp = 6}\n")
    status, envelope = sevkit_json(*words, "--policy", str(policy))
    assert (status, envelope["errors"][0]["kind"]) == (2, "BadInputError")


@pytest.mark.parametrize("form", ["DER", "cut PEM", "cut PEM in the chain", "too large"])
@pytest.mark.parametrize("named", [True, False], ids=["named", "in a folder"])
def test_a_damaged_revocation_list_leaves_the_verdict_open(
    sevkit: Run, sevkit_json: RunJson, tmp_path: Path, form: str, named: bool
) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another authority")])
    builder = x509.CertificateRevocationListBuilder(name, NOW, NOW + dt.timedelta(days=1))
    der = builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)
    body = base64.encodebytes(der).decode()
    assert der[1] & 0x80, "as long as a real one"
    whole = f"-----BEGIN X509 CRL-----\n{body}-----END X509 CRL-----\n"
    chain = (DATA / "turin-v5-vcek.pem").read_text()
    damaged = {
        "DER": der[:60] + b"\xff" * 40 + der[100:],
        "cut PEM": whole[:300].encode(),
        "cut PEM in the chain": (chain + whole[:300]).encode(),
        "too large": whole.encode().ljust((1 << 20) + 2),
    }
    words = ["report", "verify", str(DATA / "turin-v5.bin"), "--certs", str(DATA / "turin-v5-vcek.pem")]
    words += ["--at", "2026-11-01", "--certs", str(tmp_path / "list" if named else tmp_path)]
    (tmp_path / "list").write_bytes(whole.encode())
    assert sevkit_json(*words)[0] == 0
    (tmp_path / "list").write_bytes(damaged[form])
    status, envelope = sevkit_json(*words)
    if named and form == "too large":
        assert (status, envelope["errors"][0]["kind"]) == (2, "BadInputError")
        return
    assert (status, envelope["data"]["verdict"]) == (3, "inconclusive")
    (reason,) = [text for text in envelope["data"]["reasons"] if "certificates.readable" in text]
    assert str(tmp_path / "list") in reason
    assert sevkit(*words)[1].count("list was not read") == 1


def test_what_is_no_list_in_a_folder_of_certificates_is_passed_over(sevkit: Run, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    forms = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *forms))
    (tmp_path / "key.der").write_bytes(key.private_bytes(serialization.Encoding.DER, *forms))
    words = ("report", "verify", str(DATA / "turin-v5.bin"), "--at", "2026-11-01")
    words = (*words, "--certs", str(DATA / "turin-v5-vcek.pem"), "--certs")
    status, out, _ = sevkit(*words, str(tmp_path))
    assert (status, out.count("not read")) == (0, 2)
    assert sevkit(*words, str(tmp_path / "key.pem"))[0] == 3


def test_the_address_of_a_certificate_is_told_where_the_certificate_is_missing(sevkit: Run, tmp_path: Path) -> None:
    words = ["report", "verify", str(DATA / "turin-v5.bin"), "--at", "2026-11-01"]
    status, out, _ = sevkit(*words)
    assert (status, out.count("the certificate is at https://")) == (3, 1)
    (tmp_path / "crl").write_bytes(b"damaged")
    status, out, _ = sevkit(*words, "--certs", str(DATA / "turin-v5-vcek.pem"), "--certs", str(tmp_path))
    assert (status, out.count("the certificate is at")) == (3, 0)


def test_names_in_certificates_stay_within_their_line(sevkit: Run, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x\naccepted\n  chain: SEV-VCEK <- ARK-Milan")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + dt.timedelta(days=1))
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.3704.1.4"), bytes(64))
    certificate = builder.add_extension(extension, critical=False).sign(key, hashes.SHA384())
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    out = sevkit("report", "verify", str(DATA / "milan-v3.bin"), "--certs", str(tmp_path))[1]
    assert out.startswith("rejected\n")
    assert not [line for line in out.splitlines() if line.startswith(("accepted", "  chain: SEV"))]


def test_report_data_on_the_command_line_does_not_lift_the_policys(sevkit_json: RunJson, tmp_path: Path) -> None:
    own = read(Path(DATA / "turin-v5.bin").read_bytes()).report[0x50:0x90].hex()
    policy = tmp_path / "policy.toml"
    words = ["report", "verify", str(DATA / "turin-v5.bin"), "--certs", str(DATA / "turin-v5-vcek.pem")]
    words += ["--at", "2026-11-01", "--policy", str(policy), "--report-data", own]
    for demanded, status in ((own, 0), ("01" * 64, 2)):
        policy.write_text(f'report_data = ["{demanded}"]\n')
        assert sevkit_json(*words)[0] == status
    measurement = read(Path(DATA / "turin-v5.bin").read_bytes()).report[0x90:0xC0].hex()
    policy.write_text(f'measurements = ["{measurement}"]\n')
    status, envelope = sevkit_json(*words)
    assert (status, envelope["data"]["not_demanded"]) == (0, [])


def test_verify_the_folder_that_configfs_tsm_makes(sevkit_json: RunJson, tmp_path: Path) -> None:
    evidence = json.loads((DATA / "genoa-v3-tsm.json").read_text())
    for name in ("outblob", "auxblob"):
        text = evidence[name]
        (tmp_path / name).write_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    status, envelope = sevkit_json("report", "verify", str(tmp_path), "--at", "2026-11-01")
    assert (status, envelope["data"]["form"]) == (0, "configfs-tsm")
    assert sevkit_json("report", "verify", str(tmp_path / "outblob"))[0] == 3


@pytest.mark.parametrize(
    "words",
    [
        ["--kds", "http://127.0.0.1:1"],
        ["--only-root"],
        ["--at", "yesterday"],
        ["--report-data", "xyz"],
        ["--report-data", "01", "--report-data", "02"],
        ["--root", str(DATA / "turin-v5.bin")],
    ],
)
def test_verify_refuses_what_makes_no_sense(sevkit_json: RunJson, words: list[str]) -> None:
    assert sevkit_json("report", "verify", str(DATA / "turin-v5.bin"), *words)[0] == 2


def test_a_service_that_cannot_be_reached_is_an_error_and_no_verdict(sevkit_json: RunJson) -> None:
    words = ("report", "verify", str(DATA / "turin-v5.bin"), "--fetch", "--kds", "http://127.0.0.1:9")
    status, envelope = sevkit_json(*words)
    assert (status, envelope["data"]) == (4, None)


def test_show(sevkit: Run, sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("report", "show", str(DATA / "milan-azure-hcl.bin"))
    assert status == 0
    assert envelope["data"]["runtime_data_bound"] is True
    assert envelope["data"]["report"]["measurement"]
    _, out, _ = sevkit("report", "show", str(DATA / "turin-v5.bin"))
    assert "alias_check_complete   yes" in out
    assert sevkit_json("report", "show", str(DATA / "turin-v5-vcek.pem"))[0] == 2


def test_vectors(sevkit: Run, sevkit_json: RunJson, tmp_path: Path) -> None:
    status, envelope = sevkit_json("report", "vectors", str(tmp_path / "v"), "--bits", "2048")
    assert status == 0
    assert envelope["data"]["count"] > 3000
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    assert len(manifest["vectors"]) == envelope["data"]["count"]
    row = next(row for row in manifest["vectors"] if row["check"] == "chain.root")
    words = ["report", "verify", str(tmp_path / "v" / row["report"]), "--at", row["at"], "--only-root"]
    words += [word for name in row["certificates"] for word in ("--certs", str(tmp_path / "v" / name))]
    assert sevkit_json(*words, "--root", str(tmp_path / "v" / row["root"]))[0] == 1
    assert sevkit("report", "vectors", str(DATA))[0] == 2
    assert sevkit("report", "vectors", str(tmp_path / "x"), "--port", "1")[0] == 2


# --- bulletins


def test_tcb(sevkit: Run, sevkit_json: RunJson, tmp_path: Path) -> None:
    status, envelope = sevkit_json("tcb", "--report", str(DATA / "genoa-v3.bin"))
    assert status == 1
    rows = {row["id"]: row for row in envelope["data"]["bulletins"]}
    assert rows["AMD-SB-3020"]["applies"] == "yes"
    assert rows["AMD-SB-3020"]["fixed_by"]
    assert rows["AMD-SB-3015"]["applies"] == "no"
    assert "RMPocalypse" in sevkit("tcb", "--report", str(DATA / "genoa-v3.bin"))[1]
    host = tmp_path / "host.json"
    host.write_text(json.dumps(ready()))
    assert sevkit_json("tcb", "--from", str(host))[1]["data"]["product"] == "Genoa"
    both = sevkit_json("tcb", "--from", str(host), "--report", str(DATA / "genoa-v3.bin"))[1]["data"]
    assert both["source"] == "report and host"
    assert sevkit_json("tcb", "--from", str(host), "--report", str(DATA / "milan-v3.bin"))[0] == 2
    assert sevkit_json("tcb")[0] == 2
    assert sevkit_json("tcb", "--report", str(DATA / "genoa-v3.bin"), "--ignore", "CVE-1999-0001")[0] == 2


@pytest.mark.parametrize("form", ["sarif", "openvex"])
def test_tcb_documents(sevkit: Run, form: str) -> None:
    status, out, _ = sevkit("tcb", "--report", str(DATA / "genoa-v3.bin"), "--format", form)
    assert status == 1
    assert json.loads(out)
