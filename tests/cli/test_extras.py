"""Optional dependencies: base commands do without, the others name the pip command in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXTRAS = ("docker", "distributed", "matplotlib", "scipy", "testinfra")


def without(missing: tuple[str, ...], *argv: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); from sevkit.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["probe", "--json"],
        ["doctor"],
        ["attack", "matrix", "replay"],
        ["attack", "run", "leak", "--hypervisor", "mock", "--capture", "live", "--report", "r.html"],
        ["scan", "--pid", str(os.getpid()), "--secret", "never-there"],
        ["bench", "list"],
        ["guest", "list"],
        ["schema", "bench", "run"],
    ],
)
def test_base_commands_do_without(argv: list[str], tmp_path: Path) -> None:
    done = without(EXTRAS, *argv, cwd=tmp_path)
    assert done.returncode in (0, 3), done.stderr
    assert "not installed" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "package", "extra"),
    [
        (["container", "build"], "docker", "containers"),
        (["bench", "report", "--published"], "scipy", "bench"),
        (["probe", "--host", "local://"], "testinfra", "testing"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_pip_command(
    argv: list[str], package: str, extra: str, tmp_path: Path
) -> None:
    done = without((package,), *argv, cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr == (
        f"error: the Python package {package} is not installed\nhint: pip install 'sevkit[{extra}]'\n"
    )
    assert done.stdout == ""
