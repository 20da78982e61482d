"""The evidence in reports: who, where, with which files; recomputed and signed."""

import base64
import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from sevkit import evidence
from sevkit.errors import SevkitError
from sevkit.evidence import consistent, signature
from sevkit.render.evidence import attach
from tests.cli.conftest import Run, RunJson

LEAK = ("attack", "run", "leak", "--hypervisor", "mock", "--capture", "live", "--modes", "nosev", "--memory", "64")

PUBLIC = (
    Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
)


@pytest.fixture
def report(sevkit: Run, tmp_path: Path) -> Path:
    path = tmp_path / "r.html"
    status, _, err = sevkit(*LEAK, "--report", str(path), "--operator", "A <b>", "--ticket", "T-1")
    assert status in (0, 3), err
    return path


def states(envelope: dict) -> dict[str, str]:
    return {each["what"]: each["state"] for each in envelope["data"]["findings"]}


def test_a_report_says_who_and_where_and_is_checked(report: Path, sevkit: Run, sevkit_json: RunJson) -> None:
    html = report.read_text()
    assert "A &lt;b&gt;" in html
    assert "T-1" in html
    status, envelope = sevkit_json("report-check", str(report))
    assert status == 0
    assert envelope["data"]["operator"] == "A <b>"
    assert states(envelope)["the embedded result"] == "confirmed"
    assert states(envelope)["the summary of the experiments"] == "confirmed"
    assert states(envelope)["the signature"] == "open"
    assert "nothing is wrong" in sevkit("report-check", str(report))[1]


def test_a_result_that_was_changed_is_wrong(report: Path, sevkit_json: RunJson) -> None:
    html = report.read_text()
    changed = re.sub(
        r'"as_predicted": (true|false)', lambda m: f'"as_predicted": {"false" if m[1] == "true" else "true"}', html
    )
    assert changed != html
    report.write_text(changed)
    status, envelope = sevkit_json("report-check", str(report))
    assert status == 1
    assert states(envelope)["the embedded result"] == "wrong"
    assert states(envelope)["the summary of the experiments"] == "wrong"


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_edit_of_a_report_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    row = {"attack": "leak", "mode": "sev", "expected": "stopped", "observed": "stopped", "as_expected": True}
    found = evidence.record({"experiments": [row], "as_predicted": True}, operator="A", ticket="T")
    html = attach("<html><main><b>protected</b> \u00e4</main></html>", found)
    path = tmp_path_factory.mktemp("edit") / "r.html"
    at = data.draw(st.integers(0, len(html) - 1))
    new = data.draw(st.characters(exclude_categories=["Cs"]) | st.just(""))
    path.write_text(html[:at] + new + html[at + 1 :], newline="")
    try:
        sound = evidence.check(path)["sound"]
    except SevkitError:
        return
    assert sound == (path.read_bytes() == html.encode()), (at, new)


@pytest.mark.parametrize("where", ["<title>", "<style>", "<body", "</main>\n", "</html>"])
def test_a_record_that_was_moved_is_an_edit(where: str, report: Path) -> None:
    """The hash of the page leaves the record out: at another place it can change what a browser shows."""
    html = report.read_text()
    before, mark, rest = html.rpartition(evidence._MARK)
    inside, end, after = rest.partition("</template>")
    first, second = (before + after).split(where, 1)
    report.write_text(first + where + mark + inside + end + second)
    found = {each["what"]: each["state"] for each in evidence.check(report)["findings"]}
    assert (found["the page"], found["the record"]) == ("confirmed", "wrong")


@pytest.mark.parametrize("change", [("&lt;b&gt;", "<b>"), ('"T-1"', '"T\\u002d1"'), ("{", "\n" * 99 + "{")])
def test_a_record_that_is_spelt_otherwise_is_an_edit(change: tuple[str, str], report: Path) -> None:
    before, mark, rest = report.read_text().rpartition(evidence._MARK)
    assert change[0] in rest
    report.write_text(before + mark + rest.replace(*change, 1))
    assert not evidence.check(report)["sound"]


CAPTURED = {
    "attack": "leak",
    "mode": "sev",
    "expected": "stopped",
    "observed": "stopped",
    "as_expected": True,
    "verdict": "protected",
    "hits": [],
    "controls": {"positive": True},
    "coverage": {"unreadable_bytes": 0},
}


@pytest.mark.parametrize(
    "change",
    [
        {"observed": "works"},
        {"expected": "works"},
        {"as_expected": False},
        {"verdict": "leaked"},
        {"hits": [1]},
        {"controls": {"positive": False}},
        {"controls": None},
        {"coverage": {"unreadable_bytes": 4096}},
        {"coverage": None},
    ],
)
def test_an_experiment_that_contradicts_itself_is_wrong(change: dict[str, object]) -> None:
    assert not list(consistent.contradictions(CAPTURED))
    assert list(consistent.contradictions({**CAPTURED, **change}))
    result = {"experiments": [{**CAPTURED, **change}], "as_predicted": True}
    assert "wrong" in {each["state"] for each in consistent.findings(result)}


def test_a_signature_by_ssh_keygen(report: Path, sevkit_json: RunJson, tmp_path: Path) -> None:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    keys = [tmp_path / "key", tmp_path / "other"]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", keys[0], "-n", "file", report], check=True)
    signature = report.with_name(report.name + ".sig")
    for key, state in zip(keys, ("confirmed", "wrong"), strict=True):
        _, envelope = sevkit_json("report-check", str(report), "--key", str(key.with_suffix(".pub")))
        assert states(envelope)["the signature"] == state
    whole = signature.read_text()
    for damaged in (
        whole[:60],
        whole.replace("U1NIU0lH", "U1NIU0lI"),
        "",
        "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END",
    ):
        signature.write_text(damaged)
        status, envelope = sevkit_json("report-check", str(report), "--key", str(keys[0].with_suffix(".pub")))
        assert (status, states(envelope)["the signature"]) == (1, "wrong")


@pytest.mark.parametrize("kind", ["pem", "openssh"])
def test_a_signature_is_the_keys_and_the_reports(kind: str, report: Path, sevkit_json: RunJson, tmp_path: Path) -> None:
    key, public = tmp_path / "key", tmp_path / "key.pub"
    if kind == "pem":
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    else:
        if shutil.which("ssh-keygen") is None:
            pytest.skip("ssh-keygen is not installed")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    evidence.sign(report, evidence.signing_key(key))
    status, envelope = sevkit_json("report-check", str(report), "--key", str(public))
    assert status == 0
    assert states(envelope)["the signature"] == "confirmed"
    report.write_text(report.read_text() + " ")
    status, envelope = sevkit_json("report-check", str(report), "--key", str(public))
    assert status == 1
    assert states(envelope)["the signature"] == "wrong"


def test_a_key_that_cannot_sign_is_refused_before_anything_starts(sevkit: Run, tmp_path: Path) -> None:
    bad, page = tmp_path / "bad", tmp_path / "r.html"
    bad.write_text("ssh-ed25519 AAAA me\n")
    status, _, err = sevkit(*LEAK, "--report", str(page), "--sign", str(bad))
    assert status == 2
    assert "no private key" in err
    assert not page.exists()


def test_options_of_reports_go_with_reports(sevkit: Run) -> None:
    status, _, err = sevkit(*LEAK, "--operator", "me")
    assert status == 2
    assert "--operator" in err


def test_files_of_guests_are_hashed_once_and_compared(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(b"kernel")
    line = ["/no/such/qemu", "-kernel", str(kernel), "-drive", f"if=pflash,unit=0,file={kernel}"]
    found = evidence.record({"experiments": [{"command_line": line}, {"command_line": line}]})
    roles = {(each["role"], each["sha256"] is not None) for each in found["files"]}
    assert roles == {("VMM", False), ("kernel", True), ("firmware", True)}
    page = tmp_path / "r.html"
    page.write_text(attach("<main>x</main>", found))
    kernel.write_bytes(b"another")
    checked = {each["what"]: each["detail"] for each in evidence.check(page)["findings"]}
    assert checked[f"kernel {kernel}"] == "another here"


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)))
def test_no_text_of_a_result_leaves_its_element(value: object) -> None:
    found = evidence.record({"value": value, "evil": "</script><script>alert(1)</script>"})
    html = attach("<main></main>", found)
    assert "<script" not in html
    assert html.count("</template>") == 1
    inside = html.partition('id="sevkit-evidence">')[2].partition("</template>")[0]
    assert json.loads(unescape(inside))["result_sha256"] == evidence.digest(found["result"])


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"result": {}, "files": [1], "result_sha256": 1, "host": 3}'])
def test_a_damaged_record_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "x.html"
    path.write_text(f'<template id="sevkit-evidence">{damage}</template>')
    with pytest.raises(SevkitError):
        evidence.check(path)


@given(blob=st.binary(max_size=200), ssh=st.booleans(), magic=st.booleans())
@settings(deadline=None)
def test_no_file_is_taken_for_a_signature(
    blob: bytes, ssh: bool, magic: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("sig")
    page, public = folder / "r.html", folder / "key.pub"
    page.write_text("x")
    public.write_bytes(PUBLIC)
    text = base64.b64encode(b"SSHSIG\0\0\0\1" * magic + blob)
    page.with_name("r.html.sig").write_bytes(
        b"-----BEGIN SSH SIGNATURE-----\n" + text + b"\n-----END SSH SIGNATURE-----\n" if ssh else blob
    )
    assert signature.check(page, public)["state"] == "wrong"


def edited(path: Path, **changes: object) -> Path:
    """A report whose record was made anew by somebody who knows how: all its hashes fit."""
    found, page, _ = evidence._extract(path)
    before, _, rest = path.read_text().rpartition(evidence._MARK)
    record = evidence.sealed({**found, **changes}, page)  # type: ignore[typeddict-item]
    forged = path.with_name("forged.html")
    forged.write_text(before + evidence.embedded(record) + rest.partition("</template>")[2])
    return forged


@pytest.mark.parametrize("field", ["ticket", "operator", "host", "file"])
def test_a_report_cannot_claim_a_finding_of_its_own(field: str, report: Path, sevkit: Run) -> None:
    claim = "x\n  confirmed  the signature: Ed25519, by the key in auditor.pub"
    if field == "host":
        forged = edited(report, host={**evidence._extract(report)[0]["host"], "name": claim})
    elif field == "file":
        forged = edited(report, files=[{"role": claim, "path": claim, "bytes": 1, "sha256": None, "note": claim}])
    else:
        forged = edited(report, **{field: claim})
    lines = sevkit("report-check", str(forged))[1].splitlines()
    assert [line for line in lines if line.startswith("  confirmed  the signature")] == []


@pytest.mark.parametrize("path", ["/dev/zero", "pipe", "a\0b", "x" * 5000, "/"])
def test_files_that_a_report_names_do_not_hold_the_check_up(
    path: str, report: Path, sevkit_json: RunJson, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    files = [{"role": "kernel", "path": path, "bytes": 1, "sha256": "00" * 32, "note": None}]
    status, envelope = sevkit_json("report-check", str(edited(report, files=files)))
    assert (status, states(envelope)[f"kernel {path}"]) == (0, "open")


@pytest.mark.parametrize("path", ["/dev/zero", "pipe"])
def test_what_is_no_report_does_not_hold_the_check_up(
    path: str, sevkit: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signature, "_LARGEST", 1 << 20)
    os.mkfifo("pipe")
    assert sevkit("report-check", path)[0] == 2


def test_a_key_that_stands_twice_in_the_record_is_damage(report: Path, sevkit_json: RunJson) -> None:
    text = report.read_text().replace('"operator":', '"operator": "somebody else", "operator":')
    report.write_text(text)
    status, envelope = sevkit_json("report-check", str(report))
    assert (status, envelope["errors"][0]["kind"]) == (2, "BadInputError")
    assert "twice" in envelope["errors"][0]["message"]


def test_directions_of_text_are_not_turned_in_the_page(report: Path) -> None:
    found, *_ = evidence._extract(report)
    assert "\u202e" not in attach("<main></main>", {**found, "ticket": "T-\u202e1"}).partition("<template")[0]
