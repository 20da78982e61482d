"""What an installed sevkit consists of."""

import re
import runpy
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from sevkit.cli import main
from tests.support.container import not_in_the_container

yaml = pytest.importorskip("yaml")
source = not_in_the_container("the image has not the whole source tree")
ROOT = Path(__file__).parents[2]


def test_the_command_is_a_conventional_entry_point() -> None:
    """Installers (pipx, uv) and readers of metadata find the command there."""
    (found,) = entry_points(group="console_scripts", name="sevkit")
    assert found.load() is main


def workflows() -> list[Path]:
    return sorted((ROOT / ".github/workflows").glob("*.yml"))


@source
def test_github_accepts_the_workflows_and_the_action() -> None:
    """By the schemas that GitHub's editors use; an unknown key or a wrong type would only be seen there."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    for schema, files in (("github-workflows", workflows()), ("github-actions", [ROOT / "action.yml"])):
        done = subprocess.run([*check, f"vendor.{schema}", *files], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@source
@pytest.mark.parametrize("path", workflows(), ids=lambda path: path.stem)
def test_workflows_run_what_is_there(path: Path) -> None:
    """Every job ends, every action is pinned by commit, and what `make` and the shell are asked for exists."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    flow = yaml.safe_load(path.read_text())
    assert flow[True]  # YAML 1.1 reads `on` as a boolean
    assert flow["permissions"] == {"contents": "read"}
    for name, job in flow["jobs"].items():
        assert job["runs-on"], name
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            if "uses" in step:
                assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]), step
            for line in step.get("run", "").splitlines():
                words = line.split()
                if "make" in words[:3]:
                    wanted = [word for word in words[words.index("make") + 1 :] if re.fullmatch("[a-z][a-z-]*", word)]
                    assert set(wanted) <= targets, line
                for file in re.findall(r"(?:^|\s)((?:scripts|emulator|packaging)/[\w./-]+)(?=\s|$)", line):
                    assert (ROOT / file).exists(), line


def test_the_action_is_executed_by_its_steps(tmp_path: Path) -> None:
    """scripts/run-action fills in inputs and outputs, passes over other actions, and stops at a failure."""
    action = tmp_path / "action.yml"
    action.write_text(
        'inputs:\n  word:\n    default: hello\n  empty:\n    default: ""\n'
        "runs:\n  using: composite\n  steps:\n    - uses: a/b@c # v1\n      with:\n        x: y\n"
        "    - id: first\n      shell: bash\n      env:\n        WORD: ${{ inputs.word }}\n"
        '      run: |\n        echo "said=$WORD" >>"$GITHUB_OUTPUT"\n        echo \'two lines\'\n'
        "    - if: inputs.empty != ''\n      run: |\n        echo never\n"
        '    - shell: bash\n      run: |\n        echo "got ${{ steps.first.outputs.said }}"\n        exit 7\n'
        "    - shell: bash\n      run: |\n        echo never\n"
    )
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/run-action", action, "word=moin"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert "two lines" in done.stdout
    assert "got moin" in done.stdout
    assert "passed over: a/b@c" in done.stdout
    assert "never" not in done.stdout


@source
def test_the_actions_own_steps_are_understood() -> None:
    script = runpy.run_path(str(ROOT / "scripts/run-action"))
    text = (ROOT / "action.yml").read_text()
    real = yaml.safe_load(text)["runs"]["steps"]
    for found, step in zip(script["steps"](text.splitlines()), real, strict=True):
        assert sorted(found) == sorted(step)
        assert found.get("run") == step.get("run")


@source
def test_the_debian_package_has_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (ROOT / "packaging/debian/changelog").read_text().startswith(f"sevkit ({version})")
