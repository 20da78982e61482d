"""``sevkit attack`` on the mock: every mode, every way to fail."""

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run, RunJson
from tests.support.tools import needs_gdb

MOCK = ["attack", "run", "leak", "--hypervisor", "mock"]
SMALL = [*MOCK, "--memory", "64"]  # where gdb writes cores: it takes its time for each byte
ALL_MODES = "nosev,sev,sev-es,sev-snp"


def test_list_names_the_attacks(sevkit: Run, sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("attack", "list")
    assert status == 0
    assert "leak" in [attack["name"] for attack in envelope["data"]["attacks"]]
    assert "leak" in sevkit("attack", "list")[1]


def test_the_leak_in_every_mode_of_the_mock(sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json(*MOCK, "--modes", ALL_MODES, "--capture", "live")
    assert status == 0
    data = envelope["data"]
    assert data["attack"] == "leak"
    assert data["as_predicted"] is True
    by_mode = {experiment["mode"]: experiment for experiment in data["experiments"]}
    assert by_mode["nosev"]["verdict"] == "leaked"
    assert by_mode["nosev"]["hits"][0]["gpa"] is not None
    assert {by_mode[mode]["verdict"] for mode in ("sev", "sev-es", "sev-snp")} == {"protected"}
    assert by_mode["sev"]["evidence"] == "ciphertext"
    assert by_mode["sev-snp"]["evidence"] in {"zero", "hole"}
    for experiment in data["experiments"]:
        assert experiment["provenance"] == "mock"
        assert experiment["controls"] == {"positive": True, "negative": True, "secret_alive": True}
        coverage = experiment["coverage"]
        assert coverage["guest_ram_bytes"] == coverage["read_bytes"] + coverage["unpopulated_bytes"]


@needs_gdb
def test_gcore_and_live_agree(sevkit_json: RunJson) -> None:
    for capture in ("gcore", "live"):
        status, envelope = sevkit_json(*SMALL, "--capture", capture)
        assert status == 0
        assert [e["verdict"] for e in envelope["data"]["experiments"]] == ["leaked", "protected"]


def test_the_output_for_people_says_what_it_rests_on(sevkit: Run) -> None:
    status, out, _ = sevkit(*MOCK, "--capture", "live")
    assert status == 0
    assert "mock: a software model, not a virtual machine" in out
    assert re.search(r"nosev: leaked .* secret stands in the capture", out)
    assert re.search(r"sev: protected", out)
    assert "positive" in out


@needs_gdb
def test_kept_cores_are_private(sevkit: Run, tmp_path: Path) -> None:
    assert sevkit(*SMALL, "--keep", str(tmp_path / "cores"))[0] == 0
    cores = list((tmp_path / "cores").iterdir())
    assert len(cores) == 2
    assert {oct(core.stat().st_mode & 0o777) for core in cores} == {"0o600"}


def test_gdb_missing(sevkit: Run, sevkit_json: RunJson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, err = sevkit(*MOCK)
    assert status == 4
    assert "gdb" in err
    assert "hint: apt-get install gdb" in err
    assert sevkit_json(*MOCK)[1]["errors"][0]["kind"] == "MissingToolError"


def test_qemu_missing(sevkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_QEMU", "no-such-qemu")
    status, _, err = sevkit("attack", "run", "leak", "--hypervisor", "qemu", "--modes", "nosev")
    assert status == 4
    assert "no-such-qemu is not installed" in err


def test_no_hypervisor_for_a_mode_says_why(sevkit: Run) -> None:
    status, _, err = sevkit("attack", "run", "leak", "--hypervisor", "qemu", "--modes", "sev")
    assert status in {4, 0}
    if status == 4:
        assert "qemu: " in err


def test_dry_run_launches_nothing(sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json(*MOCK, "--dry-run")
    assert status == 0
    assert [step["mode"] for step in envelope["data"]["plan"]] == ["nosev", "sev"]


def test_unknown_names(sevkit: Run) -> None:
    assert sevkit("attack", "run", "nothing")[0] == 2
    assert sevkit("attack", "run", "leak", "--modes", "sev,tdx")[0] == 2


def test_four_modes_fit_into_100_columns(sevkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    status, out, _ = sevkit(*MOCK, "--modes", ALL_MODES, "--capture", "live")
    assert status == 0
    table = out[: out.index("\nnosev: leaked")].splitlines()
    assert max(map(len, table)) <= 100
    assert "guest's dmesg: " in out
    assert "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP" in out


def test_as_published_prints_the_articles_commands(sevkit: Run) -> None:
    status, out, _ = sevkit(*SMALL, "--modes", "nosev,strongest", "--as-published")
    assert status == 0
    assert re.search(r"host\$  gcore \d+", out)
    plain, encrypted = out.split("# sev-snp [mock]")
    assert "a match, at byte" in plain
    assert re.search(r"^  SEVKIT-file-[0-9a-f]{64}$", plain, re.MULTILINE)
    assert "guest$ cat /root/sevkit-secret" in plain
    assert "=> leaked (plaintext)" in plain
    assert "a match" not in encrypted
    assert "=> protected" in encrypted
    _, live, _ = sevkit(*SMALL, "--modes", "nosev", "--capture", "live", "--as-published")
    assert "not run: there is no core" in live
    for refused in ("--json", "--step"):
        assert sevkit(*SMALL, "--as-published", refused)[0] == 2
    assert sevkit("attack", "run", "replay", "--level", "model", "--as-published")[0] == 2
