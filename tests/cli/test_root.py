"""What holds for every command: usage errors, JSON for failures too, help that imports nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    "line",
    [
        "scan --core a --core b --secret x",
        "scan --pid 1 --secrets-file a --secrets-file=b",
        "report verify r --policy a --policy b",
        "guest exec --timeout 1 --timeout 2 g ls",
        "bench run --profile smoke --profile full",
    ],
)
def test_an_option_that_counts_once_is_not_silently_dropped(line: str, sevkit: Run, sevkit_json: RunJson) -> None:
    assert "is given twice" in sevkit(*line.split())[2]
    status, envelope = sevkit_json(*line.split())
    assert (status, envelope["errors"][0]["kind"]) == (2, "UsageError")


@pytest.mark.parametrize(
    "line", ["guest exec g -- ls -n 1 -n 1", "guest exec g ls -n 1 -n 1", "guest list --json --json"]
)
def test_what_may_be_given_again_is_accepted(line: str, sevkit: Run) -> None:
    assert "twice" not in sevkit(*line.split())[2]


@pytest.mark.parametrize(
    "line", ["probe --from x diff a b", "probe --format junit diff a b", "measure --mode sev explain"]
)
def test_a_groups_options_that_its_command_would_not_see_are_refused(line: str, sevkit_json: RunJson) -> None:
    assert sevkit_json(*line.split())[0] == 2


def test_an_interruption_while_a_command_is_imported_is_no_traceback() -> None:
    code = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "sevkit.cli.tree":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
from sevkit.cli import main
main(["attack", "list", "--json"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout)["errors"][0]["message"] == "interrupted"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interruption_in_a_callback_of_python_is_not_lost(name: str) -> None:
    """Python drops exceptions there: a run went on to its end when the signal came just as it started a program."""
    code = f"""
import os, signal, time
from sevkit import cli
number = signal.{name}
signal.signal(number, signal.default_int_handler)
cli._on_signals()
os.register_at_fork(after_in_parent=lambda: signal.raise_signal(number))
try:
    if os.fork() == 0:
        os._exit(0)
    time.sleep(600)
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_what_follows_a_double_dash_belongs_to_the_guest(sevkit: Run) -> None:
    status, out, err = sevkit("guest", "exec", "nobody", "--", "lsblk", "--json")
    assert status == 2
    assert out == ""
    assert "no guest named nobody" in err


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from sevkit.cli.tree import run; run(['--help']);"
        "bad = {'numpy', 'rich', 'testinfra', 'matplotlib', 'scipy', 'docker'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "attack" in done.stdout


def test_no_colour_when_not_asked_for(sevkit: Run) -> None:
    assert "\x1b" not in sevkit("bogus")[2]


def shell(line: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """A line of bash with `sevkit` as a function: exit status and streams as a user's shell has them."""
    function = f'sevkit() {{ {sys.executable} -m sevkit "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", function + line], capture_output=True, timeout=60, check=False, env={**os.environ, **environment}
    )


@pytest.mark.parametrize("command", ["probe --require sev-snp", "probe --json --require sev-snp", "scan", "nope"])
def test_a_reader_that_goes_away_changes_no_exit_status(command: str) -> None:
    whole = shell(f"sevkit {command} >/dev/null 2>&1")
    assert whole.returncode not in (0, 120)
    cut = shell(f"sevkit {command} 2>/dev/null | true; exit ${{PIPESTATUS[0]}}")
    assert cut.returncode == whole.returncode
    assert cut.stderr == b""


@pytest.mark.parametrize("command", ["--help", "--version", "measure --help"])
def test_nobody_reading_a_help_text_is_no_answer(command: str) -> None:
    assert shell(f"sevkit {command} | true; exit ${{PIPESTATUS[0]}}").returncode == 0


@pytest.mark.parametrize(
    ("command", "status"), [("nope", 2), ("scan --core /dev/null --secret abcdefgh", 2), ("--help", 4)]
)
def test_a_full_disk_behind_both_streams_changes_no_exit_status(command: str, status: int) -> None:
    assert shell(f"sevkit {command} >/dev/full 2>&1").returncode == status


def test_a_pipe_that_nobody_writes_to_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for command in ("scan --secret abcdefgh --core", "memory extract -o x.lime --core", "report verify", "probe --log"):
        assert shell(f"sevkit {command} {tmp_path}/pipe").returncode == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["probe --require sev-snp", "probe --json", "attack matrix replay", "nope"])
def test_closed_standard_streams_neither_crash_nor_turn_a_lost_answer_into_one(command: str, closed: str) -> None:
    whole = shell(f"sevkit {command}")
    done = shell(f"sevkit {command} {closed}")
    lost = ">&-" in closed.replace("2>&-", "") and command != "nope"  # usage errors go to standard error
    assert done.returncode == (4 if lost else whole.returncode), done.stderr
    assert b"Traceback" not in done.stderr
    if closed == "<&-":
        assert len(done.stdout) >= 0.9 * len(whole.stdout)


ODD = os.fsdecode(b"\xff\xfe")


@pytest.mark.parametrize(
    "argv",
    [
        [ODD],
        ["guest", "launch", "--name", ODD, "--dry-run"],
        ["guest", "launch", "--image", ODD, "--dry-run", "--hypervisor", "qemu"],
        ["guest", "launch", "--cmdline", ODD, "--dry-run", "--hypervisor", "qemu"],
        ["guest", "exec", ODD, "--", "true"],
        ["guest", "copy", ODD, "nobody:/x"],
        ["guest", "stop", ODD],
        ["attack", "run", ODD],
        ["attack", "explain", ODD],
        ["attack", "run", "replay", "--modes", ODD],
        ["scan", "--core", ODD, "--secret", "x"],
        ["scan", "--core", "/nope", "--secret", ODD],
        ["scan", "--core", "/nope", "--regex", ODD],
        ["memory", "map", "--core", ODD],
        ["probe", "--from", ODD],
        ["probe", "--log", ODD],
        ["bench", "lint", ODD],
        ["bench", "run", "--workload", ODD, "--dry-run", "--where", "mock"],
    ],
)
def test_arguments_that_are_not_utf_8_work_or_give_typed_errors(argv: list[str]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}  # the harder case: nothing can be shown as it is
    done = subprocess.run(
        [sys.executable, "-m", "sevkit", *argv[:2], "--json", *argv[2:]]
        if argv[:1] in (["guest"], ["attack"], ["bench"], ["memory"])
        else [sys.executable, "-m", "sevkit", *argv[:1], "--json", *argv[1:]],
        capture_output=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    envelope = json.loads(done.stdout)
    assert done.returncode == envelope["exit_code"]
    for error in envelope["errors"]:
        assert error["kind"] != "SevkitError" or "itself failed" not in error["message"], error["message"]


def test_a_secret_that_is_not_utf_8_is_searched_for_byte_by_byte(tmp_path: Path) -> None:
    from tests.unit.elf import Load, core

    dump = tmp_path / "core"
    dump.write_bytes(core([Load(0x1000, b"..\xff\xfe..")]))
    done = subprocess.run(
        [sys.executable, "-m", "sevkit", "scan", "--json", "--core", str(dump), "--secret", ODD],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert [hit["address"] for hit in json.loads(done.stdout)["data"]["hits"]] == [0x1002]


@pytest.mark.parametrize(
    ("argv", "meant"), [(["gest"], "guest"), (["bench", "lnt"], "lint"), (["guest", "launh"], "launch")]
)
def test_every_group_suggests_what_was_meant(argv: list[str], meant: str, sevkit: Run) -> None:
    status, _, err = sevkit(*argv)
    assert status == 2
    assert meant in err


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_completion_for_each_shell(kind: str, sevkit: Run) -> None:
    assert "_SEVKIT_COMPLETE" in sevkit("completion", kind)[1]


def test_text_is_ascii_where_the_encoding_is() -> None:
    done = shell("sevkit attack matrix replay", PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert b"\\u" not in done.stdout


def test_every_command_has_a_manual_page(tmp_path: Path) -> None:
    from sevkit.cli import COMMANDS

    subprocess.run([sys.executable, "-m", "sevkit.cli.man", str(tmp_path)], check=True, timeout=60)
    for name in COMMANDS:
        text = (tmp_path / f"sevkit-{name}.1").read_text()
        assert text.startswith('.TH "SEVKIT-')
        assert ".SH EXIT STATUS" in text
    assert "\\-\\-share" in (tmp_path / "sevkit-guest-launch.1").read_text()
