"""``sevkit guest`` on the mock: the same commands as on real hypervisors."""

from pathlib import Path

import pytest

from tests.cli.conftest import Run, RunJson


@pytest.fixture
def mock_guest(sevkit: Run) -> str:
    assert sevkit("guest", "launch", "--hypervisor", "mock", "--mode", "sev", "--name", "m", "--detach")[0] == 0
    yield "m"
    sevkit("guest", "stop", "m")


def test_life_cycle(sevkit: Run, sevkit_json: RunJson, mock_guest: str) -> None:
    envelope = sevkit_json("guest", "list")[1]
    assert [(g["name"], g["mode"], g["provenance"]) for g in envelope["data"]["guests"]] == [("m", "sev", "mock")]
    assert "m " in sevkit("guest", "list")[1]
    assert sevkit("guest", "exec", "m", "--", "echo", "a  b")[:2] == (0, "a  b\n")
    assert sevkit("guest", "exec", "m", "--", "false")[0] == 1
    assert sevkit("guest", "launch", "--hypervisor", "mock", "--name", "m", "--detach")[0] == 2
    assert sevkit("guest", "stop", "m")[0] == 0
    assert sevkit_json("guest", "list")[1]["data"]["guests"] == []
    assert sevkit("guest", "stop", "m")[0] == 2


def test_copy_is_binary_safe(sevkit: Run, mock_guest: str, tmp_path: Path) -> None:
    source = tmp_path / "f"
    source.write_bytes(bytes(range(256)) * 50)
    assert sevkit("guest", "copy", str(source), "m:/tmp/f")[0] == 0
    assert sevkit("guest", "copy", "m:/tmp/f", str(tmp_path / "back"))[0] == 0
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    assert sevkit("guest", "copy", str(source), "/nowhere")[0] == 2


def test_log_and_verify(sevkit: Run, sevkit_json: RunJson, mock_guest: str) -> None:
    assert sevkit("guest", "log", "m")[0] == 0
    assert "console" in sevkit_json("guest", "log", "m")[1]["data"]
    assert sevkit_json("guest", "verify", "m")[1]["data"]["guest"]["name"] == "m"


@pytest.mark.parametrize("mode", ["nosev", "sev", "sev-es", "sev-snp"])
def test_dry_run_prints_a_command_line_on_any_machine(mode: str, sevkit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_QEMU", "no-such-qemu")
    status, out, _ = sevkit("guest", "launch", "--hypervisor", "qemu", "--mode", mode, "--dry-run")
    assert status == 0
    assert out.startswith("qemu-system-x86_64 -name sevkit-guest")
    assert ("sev-snp-guest" in out) == (mode == "sev-snp")


def test_names_and_options_that_try_to_inject(sevkit: Run) -> None:
    assert sevkit("guest", "launch", "--name", "a,b=c", "--dry-run")[0] == 2
    assert sevkit("guest", "launch", "--machine", "x -monitor stdio", "--dry-run")[0] == 2
    assert sevkit("guest", "exec", "../../etc", "--", "true")[0] == 2
    assert sevkit("guest", "launch", "--mode", "sev", "--policy", "es", "--dry-run", "--hypervisor", "qemu")[0] == 2
