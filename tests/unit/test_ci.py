"""The script of the continuous integration: whatever fails, it fails, and nothing goes on running."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.container import not_in_the_container
from tests.support.waiting import PATIENCE, until

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("setup-system", "build.sh", "setup", "check docs", "test", "--only-build", "--no-build")
pytestmark = not_in_the_container("nothing in /tmp can be run in the container")

# Stands for every program that the script calls. What STUCK names waits for ever, what FAILS names fails.
_PROGRAM = """#!/bin/bash
words="${0##*/} $*"
echo "$words" >>"$CALLS"
[ -z "$STUCK" ] || [[ $words != *"$STUCK"* ]] || { echo $$ >>"$PIDS"; exec sleep 600; }
[ -z "$FAILS" ] || [[ $words != *"$FAILS"* ]] || { echo "it failed"; exit 3; }
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository in which all that the script calls is the program above."""
    for name in (
        ".ci/run",
        "make",
        *(f"scripts/{name}" for name in ("setup-system", "test-containers", "container-engine")),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(_PROGRAM)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "emulator").mkdir()
    shutil.copy(tmp_path / "make", tmp_path / "emulator/build.sh")
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    return tmp_path


def environment(tree: Path, *, fails: str = "", stuck: str = "") -> dict[str, str]:
    own = {"PATH": f"{tree}:{os.environ['PATH']}", "CALLS": str(tree / "calls"), "PIDS": str(tree / "pids")}
    return {**os.environ, **own, "FAILS": fails, "STUCK": stuck, "TMPDIR": str(tree)}


def run(tree: Path, *, fails: str = "", stuck: str = "") -> "subprocess.CompletedProcess[str]":
    argv, env = [str(tree / ".ci/run")], environment(tree, fails=fails, stuck=stuck)
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_every_step_is_taken_and_the_engine_is_stopped(tree: Path) -> None:
    done = run(tree)
    assert done.returncode == 0, done.stderr
    calls = (tree / "calls").read_text().splitlines()
    assert all(any(step in call for call in calls) for step in STEPS)
    assert calls.index("make test") > max(calls.index("build.sh "), calls.index("make check docs"))
    assert calls[-1] == "container-engine stop"
    assert not list(tree.glob("tmp.*"))


@pytest.mark.parametrize(
    "step", ["setup-system", "build.sh ", "make setup", "check docs", "make test", "--only-build", "--no-build"]
)
def test_a_step_that_fails_fails_the_whole(step: str, tree: Path) -> None:
    done = run(tree, fails=step)
    assert done.returncode != 0
    assert "it failed" in done.stdout
    assert "container-engine stop" in (tree / "calls").read_text()


def test_what_runs_beside_a_failed_check_is_ended(tree: Path) -> None:
    assert run(tree, fails="check docs", stuck="--only-build").returncode == 3
    (pid,) = (tree / "pids").read_text().split()
    assert ended(pid)


@pytest.mark.parametrize("step", ["setup-system", "make setup", "make test", "--no-build"])
def test_a_signal_ends_the_step_that_runs(step: str, tree: Path) -> None:
    argv, env = [str(tree / ".ci/run")], environment(tree, stuck=step)
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL) as script:
        until(
            lambda: (tree / "pids").exists() and (tree / "pids").read_text().endswith("\n"), "the step does not begin"
        )
        script.terminate()
        assert script.wait(PATIENCE) == 143
    (pid,) = (tree / "pids").read_text().split()
    until(lambda: ended(pid), "the step goes on")
    assert "container-engine stop" in (tree / "calls").read_text()
    assert not list(tree.glob("tmp.*"))


def ended(pid: str) -> bool:
    return not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
