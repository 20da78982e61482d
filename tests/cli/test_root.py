"""What holds for every command: usage errors, JSON for failures too, help that imports nothing."""

import subprocess
import sys

import pytest

from tests.cli.conftest import Run, RunJson


@pytest.mark.parametrize(
    "argv", [["bogus"], ["guest", "bogus"], ["attack", "run"], ["attack", "run", "leak", "--nope"]]
)
def test_usage_errors(argv: list[str], sevkit: Run, sevkit_json: RunJson) -> None:
    status, out, err = sevkit(*argv)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert "hint: " in err
    status, envelope = sevkit_json(*argv)
    assert status == 2
    assert envelope["status"] == "error"
    assert envelope["errors"][0]["kind"] == "UsageError"


def test_what_follows_a_double_dash_belongs_to_the_guest(sevkit: Run) -> None:
    status, out, err = sevkit("guest", "exec", "nobody", "--", "lsblk", "--json")
    assert status == 2
    assert out == ""
    assert "no guest named nobody" in err


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from sevkit.cli import root; from sevkit.cli.output import run_root; run_root(root, ['--help']);"
        "bad = {'numpy', 'rich', 'testinfra', 'hyperscan', 'matplotlib', 'scipy', 'docker'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "attack" in done.stdout


def test_no_colour_when_not_asked_for(sevkit: Run) -> None:
    assert "\x1b" not in sevkit("bogus")[2]
