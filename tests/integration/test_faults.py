"""Faults on the main paths: each has an outcome that is known, named in docs/reliability.md, and leaves nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.integration.sandbox import Sandbox, Stepped
from tests.integration.table import Row
from tests.support.waiting import until

MOCK = ("attack", "run", "leak", "--hypervisor", "mock", "--modes", "nosev", "--memory", "64", "--json")


def _with_memory(size: str) -> list[str]:
    """The same run with more memory: an option that counts once is refused when it is given twice."""
    return [size if before == "--memory" else word for before, word in zip(("", *MOCK), MOCK, strict=False)]


ON = [
    pytest.param({"hypervisor": "mock"}, id="mock"),
    pytest.param({"hypervisor": "qemu", "memory_mib": 192}, id="qemu", marks=pytest.mark.guest),
]
# Real guests take seconds each: some of the phases by default, all with SEVKIT_TEST_FAULTS=all (`make faults`).
EVERYTHING = os.environ.get("SEVKIT_TEST_FAULTS") == "all"
SAMPLE = {("kill", "capturing"), ("kill", "searching"), ("gcore", "capturing"), ("live", "searching")}
PHASES = ["starting", "planting secrets", "capturing", "searching", "looking at every page"]
needs_gdb = pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
pytestmark = needs_gdb


def _needs(setup: dict[str, object], request: pytest.FixtureRequest, *, sample: bool = True) -> str:
    if setup["hypervisor"] == "qemu":
        if not sample and not EVERYTHING:
            pytest.skip("one of many like it: `make faults` runs them all")
        request.getfixturevalue("qemu")
    return str(setup["hypervisor"])


@pytest.mark.parametrize("setup", ON)
@pytest.mark.parametrize("phase", PHASES)
def test_sevkit_is_killed(
    phase: str, setup: dict[str, object], box: Sandbox, row: Row, request: pytest.FixtureRequest
) -> None:
    where = _needs(setup, request, sample=("kill", phase) in SAMPLE)
    run = Stepped(box, **setup)
    run.reach(phase)
    run.kill()
    row("`kill -9` of sevkit", f"{where}, before {phase}", "killed", box.left())


@pytest.mark.parametrize(
    ("phase", "program", "what"),
    [("capturing", "gcore", "gdb writes the core"), ("starting", "leak-nosev", "the guest boots")],
)
@pytest.mark.parametrize("setup", ON)
def test_sevkit_is_killed_in_the_middle(
    setup: dict[str, object],
    phase: str,
    program: str,
    what: str,
    box: Sandbox,
    row: Row,
    request: pytest.FixtureRequest,
) -> None:
    where = _needs(setup, request)
    run = Stepped(box, **setup)
    run.reach(phase)
    run.go()
    until(lambda: any(program in line for line in box.processes().values()), f"no {program} runs")
    run.kill()
    row("`kill -9` of sevkit", f"{where}, while {what}", "killed", box.left())


@pytest.mark.parametrize("capture", ["gcore", "live"])
@pytest.mark.parametrize("setup", ON)
@pytest.mark.parametrize("phase", PHASES[1:])
def test_the_vmm_is_killed(
    phase: str, setup: dict[str, object], capture: str, box: Sandbox, row: Row, request: pytest.FixtureRequest
) -> None:
    where = _needs(setup, request, sample=(capture, phase) in SAMPLE)
    run = Stepped(box, **setup, capture=capture)
    os.kill(run.reach(phase), signal.SIGKILL)
    outcome = run.end()
    assert outcome != "protected"
    row("the VMM is killed", f"{where}, {capture}, before {phase}", outcome, box.left())


def test_gdb_is_killed(box: Sandbox, row: Row) -> None:
    run = Stepped(box, hypervisor="mock", memory_mib=512)
    run.reach("capturing")
    run.go()

    def debuggers() -> list[int]:
        return [pid for pid, line in box.processes().items() if "gcore" in line]

    until(debuggers, "no gdb runs")
    os.kill(debuggers()[0], signal.SIGKILL)
    row("gdb is killed", "while it writes the core", run.end(), box.left())


def test_polite_endings(box: Sandbox, row: Row) -> None:
    for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGHUP")):
        # So much memory that it is not over before the signal, however slow this machine is at looking.
        process = box.start([sys.executable, "-m", "sevkit", *_with_memory("1024")])
        until(lambda: any("leak-nosev" in line for line in box.processes().values()), "no guest boots")
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(out)["exit_code"] == 130
        row(name, "while the guest boots", "exit 130", box.left())


def test_the_disk_is_full_during_gcore(box: Sandbox, row: Row) -> None:
    private = _private_mounts(box)
    small = f'mount -t tmpfs -o size=8m none {box.temporary} && exec "$@"'
    done = box.sevkit(*MOCK, before=[*private, "sh", "-c", small, "sh"])
    assert done.envelope["errors"][0]["kind"] == "NoSpaceError"
    row("the disk is full", "gcore", done.words, box.left())


def test_the_disk_is_full_at_launch(box: Sandbox, row: Row) -> None:
    private = _private_mounts(box)
    full = f'mount -t tmpfs -o size=64k,mode=700 none {box.state} && head -c 1m /dev/zero >{box.state}/x; exec "$@"'
    done = box.sevkit(*MOCK, before=[*private, "sh", "-c", full, "sh"])
    row("the disk is full", "registry", done.words, box.left())


def test_files_may_not_grow(box: Sandbox, row: Row) -> None:
    done = box.sevkit(*MOCK, before=["prlimit", "--fsize=4194304"])
    row("file size limit (RLIMIT_FSIZE)", "gcore", done.words, box.left())


def test_no_descriptors_are_left(box: Sandbox, row: Row) -> None:
    done = box.sevkit(*MOCK, before=["prlimit", "--nofile=11"])
    assert done.status not in {0, 1}
    row("descriptor limit (RLIMIT_NOFILE)", "launch", done.words, box.left())


def test_standard_output_is_full(box: Sandbox, row: Row) -> None:
    with Path("/dev/full").open("wb") as full:
        process = box.start([sys.executable, "-m", "sevkit", *MOCK, "--capture", "live"], stdout=full)
        _, err = process.communicate(timeout=120)
    assert b"Traceback" not in err
    row("standard output is full", "result", f"exit {process.returncode}", box.left())


def test_ptrace_is_refused(box: Sandbox, row: Row) -> None:
    denied = [sys.executable, str(Path(__file__).with_name("without.py"))]
    done = box.sevkit(*MOCK, before=[*denied, "ptrace"])
    assert done.envelope["errors"][0]["kind"] == "NotPermittedError"
    row("ptrace is refused (seccomp)", "gcore", done.words, box.left())
    done = box.sevkit(*MOCK, "--capture", "live", before=[*denied, "process_vm_readv"])
    row("process_vm_readv is refused (seccomp)", "live", done.words, box.left())


def test_signals_interrupt_every_call(box: Sandbox, row: Row) -> None:
    storm = [sys.executable, str(Path(__file__).with_name("storm.py"))]
    for capture in ("gcore", "live"):
        process = box.start([*storm, *MOCK, "--capture", capture])
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert json.loads(out)["data"]["experiments"][0]["verdict"] == "leaked"
        row("a signal every 2 ms (EINTR)", f"whole run, {capture}", "exit 0, leaked", box.left())


def test_gdb_hangs(box: Sandbox, row: Row, monkeypatch: pytest.MonkeyPatch) -> None:
    from sevkit.errors import DeadlineError
    from sevkit.memory import capture

    programs = box.path / "bin"
    programs.mkdir()
    (programs / "gdb").write_text("#!/bin/sh\nexec sleep 600\n")
    (programs / "gdb").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with (
        pytest.raises(DeadlineError, match="gcore of process"),
        capture.captured(os.getpid(), box.temporary, timeout=0.5),
    ):
        pass
    shutil.rmtree(programs)
    assert psutil.Process().children() == []
    row("gdb hangs", "gcore", "exit 5, `DeadlineError`", box.left())


@pytest.mark.guest
def test_sockets_are_gone(box: Sandbox, row: Row, qemu: object) -> None:
    launched = box.sevkit("guest", "launch", "--hypervisor", "qemu", "--memory", "192", "--detach", "--json")
    assert launched.status == 0, launched.err
    folder = box.state / "guests/guest"
    try:
        (folder / "agent").unlink()
        done = box.sevkit("guest", "exec", "guest", "--json", "--", "true")
        row("the agent's socket is gone", "guest exec", done.words, "the guest")
        (folder / "qmp").unlink()
        pid = str(launched.data["guests"][0]["pid"])
        done = box.sevkit("scan", "--pid", pid, "--qmp", str(folder / "qmp"), "--secret", "x", "--json")
        row("the QMP socket is gone", "scan", done.words, "the guest")
    finally:
        assert box.sevkit("guest", "stop", "guest").status == 0
    box.left()


@pytest.mark.guest
def test_the_vmm_stands_still(box: Sandbox, row: Row, qemu: object) -> None:
    launched = box.sevkit("guest", "launch", "--hypervisor", "qemu", "--memory", "192", "--detach", "--json")
    assert launched.status == 0, launched.err
    pid = launched.data["guests"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    done = box.sevkit("guest", "exec", "guest", "--timeout", "1", "--json", "--", "true")
    row("QEMU is stopped (SIGSTOP)", "guest exec", done.words, "the guest")
    done = box.sevkit(
        "scan", "--pid", str(pid), "--qmp", str(box.state / "guests/guest/qmp"), "--secret", "x", "--json"
    )
    row("QEMU is stopped (SIGSTOP)", "scan --qmp", done.words, "the guest")
    assert box.sevkit("guest", "stop", "guest").status == 0
    row("QEMU is stopped (SIGSTOP)", "guest stop", "exit 0", box.left())


def test_a_detached_launch_is_cut_short(box: Sandbox, row: Row) -> None:
    """Between the start of the VMM and its record there is a moment: what was started then must not stay for ever."""
    script = (
        "import os, signal; from sevkit.hypervisor import registry; from sevkit.hypervisor.mock.hypervisor import MockHypervisor;"
        "from sevkit.guest.spec import GuestSpec;"
        "registry.write = lambda record: os.kill(os.getpid(), signal.SIGKILL);"
        "MockHypervisor().launch(GuestSpec(name='orphan', memory_mib=64), detach=True)"
    )
    process = box.start([sys.executable, "-c", script])
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert any("orphan" in line for line in box.processes().values())
    assert box.sevkit("guest", "list", "--json").data["guests"] == []
    row("`kill -9` of sevkit", "mock, between start and record of a detached guest", "killed", box.left())


def _private_mounts(box: Sandbox) -> list[str]:
    for argv in (["unshare", "-m"], ["unshare", "-rm"]):
        test = [*argv, "mount", "-t", "tmpfs", "none", str(box.temporary)]
        if subprocess.run(test, check=False, capture_output=True).returncode == 0:
            return argv
    pytest.skip("mounts are not permitted here")
