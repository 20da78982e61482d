"""``sevkit container`` where there is no engine, and no Python package for one."""

import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, RunJson


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)


def test_a_dry_run_shows_what_the_engine_would_be_asked_for(sevkit: Run, tmp_path: Path) -> None:
    inner = ["attack", "run", "leak", "--dry-run"]
    status, out, _ = sevkit("container", "run", "--dry-run", "--folder", str(tmp_path), "--host-pids", "--", *inner)
    assert status == 0
    words = shlex.split(out.splitlines()[0])
    assert words[:3] == ["docker", "run", "--rm"]
    assert words[-4:] == inner
    pairs = list(zip(words, words[1:], strict=False))
    for pair in (
        ("--cap-drop", "ALL"),
        ("--cap-add", "SYS_PTRACE"),
        ("--security-opt", "no-new-privileges"),
        ("--network", "none"),
        ("--pid", "host"),
        ("--user", "root"),
        ("--volume", f"{tmp_path}:/out:rw"),
    ):
        assert pair in pairs
    assert "--read-only" in words


def test_a_dry_build_names_each_image(sevkit: Run, sevkit_json: RunJson) -> None:
    status, envelope = sevkit_json("container", "build", "--dry-run", "tools", "test")
    assert status == 0
    lines = envelope["data"]["command_lines"]
    assert [line[line.index("--target") + 1] for line in lines] == ["tools", "test"]
    assert sevkit("container", "build", "--dry-run", "nothing")[0] == 2


def test_options_of_the_inner_command_are_its_own(sevkit: Run) -> None:
    status, out, _ = sevkit("container", "run", "--dry-run", "probe", "--json", "--room", "9")
    assert status == 0
    assert shlex.split(out.splitlines()[0])[-4:] == ["probe", "--json", "--room", "9"]
    assert "size=4096m" in out
    assert sevkit("container", "run", "--no-such", "--", "probe")[0] == 2
