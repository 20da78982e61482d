"""Every attack at every level: nothing starts on a dry run, and no option is silently ignored."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sevkit import attacks, processes
from sevkit.attacks import runner
from sevkit.attacks.experiment import Notebook, Observation, Outcome
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.plan import Target
from sevkit.errors import GuestError
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.mock.hypervisor import MockHypervisor
from sevkit.vocabulary import Level, Mode
from tests.cli.conftest import Run, RunJson

NAMES = list(attacks.discover())
COMMON = {"attack", "mode", "level", "provenance", "form", "expected", "observed", "as_expected", "check", "why"}
COMMON |= {"claim", "cites", "mitigations", "mitigations_on", "steps", "seconds", "guest_log", "details"}


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*words: object, **options: object) -> None:
        raise AssertionError(f"started {words}")

    monkeypatch.setattr(processes, "start", start)


@pytest.mark.parametrize("level", ["auto", *map(str, Level)])
def test_a_dry_run_starts_nothing(nothing_starts: None, sevkit_json: RunJson, level: str, tmp_path: Path) -> None:
    for name in NAMES:
        report = ["--report", str(tmp_path / "r.html")]
        status, envelope = sevkit_json("attack", "run", name, "--level", level, "--dry-run", *report)
        if status == 2:  # the level has no form of this attack
            assert Level(level) not in attacks.find(name).levels
            assert envelope["errors"][0]["hint"] in {"--level model", "--level emulator"}
            continue
        assert status == 0, envelope
        modes = [step["mode"] for step in envelope["data"]["plan"]]
        assert modes == ["nosev", "sev"] if level == "model" else modes
        for step in envelope["data"]["plan"]:
            assert level in {"auto", step["level"]}
            assert (step["hypervisor"] is None) == (step["form"] == "model")
    assert registry.running() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_has_one_shape_and_a_report(sevkit_json: RunJson, name: str, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    modes = ["--modes", "nosev,sev,sev-es,sev-snp", "--level", "model", "--report", str(page)]
    if name == "leak":  # the only one with guests; gdb takes its time for each byte of a core
        modes += ["--memory", "64", "--capture", "gcore" if shutil.which("gdb") else "live"]
    status, envelope = sevkit_json("attack", "run", name, *modes)
    assert status == 0, envelope
    data = envelope["data"]
    assert data["as_predicted"] is True
    assert data["provenance"] == "mock"
    assert [each["mode"] for each in data["experiments"]] == list(map(str, Mode))
    for each in data["experiments"]:
        assert set(each) >= COMMON
        assert each["level"] == "model"
        assert each["observed"] in list(Outcome)
    text = page.read_text()
    assert text.lstrip().startswith("<!doctype html>")
    assert not re.search(r'<script(?! [^>]*type="application/json")', text)  # the data stand in it, nothing runs
    assert "mock" in text
    for mode in Mode:
        assert str(mode) in text


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["replay", "--level", "model", "--keep", "cores"], "--keep has no effect"),
        (["replay", "--level", "model", "--capture", "live"], "--capture has no effect"),
        (["replay", "--level", "model", "--memory", "64"], "--memory has no effect"),
        (["replay", "--level", "model", "--timeout", "5"], "--timeout has no effect"),
        (["badram", "--accel", "tcg"], "--accel has no effect"),
        (["remapping", "--hypervisor", "qemu"], "only the emulator's host"),
        (["remapping", "--level", "emulator", "--modes", "nosev"], "no form for real guests in mode nosev"),
        (["badram", "--level", "emulator"], "no form for real guests"),
        (["badram", "--hypervisor", "qemu"], "no form for real guests"),
        (["leak", "--level", "emulator", "--mitigations", "all"], "for the software model"),
        (["leak", "--level", "emulator", "--seed", "7"], "for the software model"),
        (["leak", "--level", "model", "--hypervisor", "mock"], "give one of them"),
        (["leak", "--level", "model", "--capture", "live", "--keep", "cores"], "--keep keeps cores"),
        (["leak", "--hypervisor", "mock", "--image", "bench"], "the mock has no --image"),
        (["leak", "--level", "model", "--firmware", "ovmf"], "the mock has no --firmware"),
        (["leak", "--level", "model", "--cpu", "EPYC-v4"], "the mock has no --cpu"),
        (["leak", "--level", "model", "--report", "no/such/folder/r.html"], "there is no folder"),
        (["leak", "--level", "model", "--modes", "sev,tdx"], "is not a mode"),
        (["leak", "--level", "model", "--timeout", "0"], "--timeout"),
        (["replay", "--level", "model", "--step", "--json"], "--step"),
        (["replay", "--attacks", "no-such-folder"], "is not a folder"),
        (["leak", "--level", "hardware", "--accel", "tcg", "--modes", "nosev"], "--accel tcg contradicts"),
        (["leak", "--level", "hardware", "--accel", "tcg", "--modes", "nosev", "--dry-run"], "--accel tcg contradicts"),
        (["leak", "--level", "emulator", "--accel", "kvm", "--dry-run"], "TCG only"),
        (
            ["leak", "--hypervisor", "qemu", "--modes", "nosev", "--kernel-hashes", "--dry-run"],
            "--kernel-hashes has no",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused(nothing_starts: None, sevkit: Run, argv: list[str], words: str) -> None:
    status, out, err = sevkit("attack", "run", *argv)
    assert status == 2, out
    assert words in out + err
    assert not Path("cores").exists()


def test_hypervisor_names_a_level(sevkit_json: RunJson) -> None:
    _, by_level = sevkit_json("attack", "run", "leak", "--level", "model", "--dry-run")
    _, by_name = sevkit_json("attack", "run", "leak", "--hypervisor", "mock", "--dry-run")
    levels = [[step["level"] for step in envelope["data"]["plan"]] for envelope in (by_level, by_name)]
    assert levels[0] == levels[1] == ["model", "model"]


def test_when_one_of_two_experiments_fails_no_guest_stays() -> None:
    """An attack that captures memory is performed on two guests at a time."""

    def fails(lab: GuestLab, note: Notebook) -> Observation:
        if lab.guest.spec.mode is Mode.SEV:
            raise GuestError("it broke")
        return note.works("toy", "it did")

    attack = replace(attacks.find("leak"), guest=fails)
    with pytest.raises(GuestError, match="it broke"):
        runner.run(attack, list(Mode), Target(level=Level.MODEL, capture="live"))
    assert registry.running() == []
    runs = runner.run(attack, [Mode.SEV_SNP, Mode.NOSEV], Target(level=Level.MODEL, capture="live"))
    assert [run.mode for run in runs] == [Mode.SEV_SNP, Mode.NOSEV]  # in the order that was asked for


def test_step_tells_every_form(sevkit: Run) -> None:
    for name in ("replay", "leak"):
        capture = ["--capture", "live"] if name == "leak" else []
        status, out, _ = sevkit("attack", "run", name, "--level", "model", "--step", "--modes", "nosev", *capture)
        assert status == 0
        assert f"=== {attacks.find(name).title}: nosev [model] ===" in out
        assert out.index("\nsetup") < out.index("\nprediction") < out.index("\nverdict")


TOY = """
from sevkit.attacks.experiment import Aim, Attack, Expectation, Outcome, Source
from sevkit.vocabulary import Mode

def model(note):
    note.setup("a toy")
    note.predict("it works")
    return note.works("toy", "it did")

ATTACK = Attack(
    name="toy", title="Toy", aim=Aim.INTEGRITY, summary="A toy.", preconditions=(), generations="none",
    sources=(Source("this file"),), expected=dict.fromkeys(Mode, Expectation(Outcome.WORKS, "it is a toy")), model=model,
)
"""


def test_attacks_of_ones_own(sevkit: Run, sevkit_json: RunJson, tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    folder = ["--attacks", str(tmp_path)]
    assert "toy" in [each["name"] for each in sevkit_json("attack", "list", *folder)[1]["data"]["attacks"]]
    assert sevkit_json("attack", "run", "toy", *folder)[0] == 0
    assert sevkit_json("attack", "explain", "toy", *folder)[1]["data"]["check"] == "toy"
    assert sevkit_json("attack", "matrix", "toy", *folder)[1]["data"]["as_expected"] is True
    assert sevkit("attack", "run", "toy")[0] == 2
    for text, words in (("ATTACK = 1", "defines no ATTACK"), ("1/0", "ZeroDivisionError"), ("def", "SyntaxError")):
        (tmp_path / "bad.py").write_text(text)
        os.utime(tmp_path / "bad.py", (1, 1))  # the same second, and the same size: Python's cache would not notice
        status, _, err = sevkit("attack", "list", *folder)
        assert status == 2
        assert words in err
    assert not (tmp_path / "__pycache__").exists()
    (tmp_path / "bad.py").write_text(TOY.replace('"toy"', '"replay"'))
    assert "there is an attack named 'replay' already" in sevkit("attack", "list", *folder)[2]


def test_matrix_dry_run_and_levels(nothing_starts: None, sevkit_json: RunJson, sevkit: Run) -> None:
    status, envelope = sevkit_json("attack", "matrix", "--dry-run")
    assert status == 0
    assert len(envelope["data"]["cells"]) == 5 * len(NAMES)
    assert {cell["level"] for cell in sevkit_json("attack", "matrix", "replay")[1]["data"]["cells"]} == {"model"}
    assert sevkit("attack", "matrix", "--html", "no/such/folder/m.html")[0] == 2


def test_what_applies_to_a_generation(sevkit_json: RunJson, sevkit: Run) -> None:
    old = sevkit_json("attack", "list", "--generation", "genoa", "--tcb", "snp=0x10")[1]["data"]["published"]
    new = sevkit_json("attack", "list", "--generation", "genoa", "--tcb", "snp=0x1B")[1]["data"]["published"]
    unknown = sevkit_json("attack", "list", "--generation", "genoa")[1]["data"]["published"]
    answers = [{each["name"]: each["applies"] for each in rows}["RMPocalypse"] for rows in (old, new, unknown)]
    assert answers == ["yes", "no", "unknown"]
    for each in old:
        assert set(each["attacks"]) <= set(NAMES)
        assert each["how_sure"] in {"confirmed", "authors", "secondary"}
    assert "[sevkit attack explain rmpocalypse]" in sevkit("attack", "list", "--generation", "milan")[1]
    rome = sevkit_json("attack", "list", "--generation", "rome")[1]["data"]
    assert rome["mode"] == "sev-es"
    assert {each["name"]: each["applies"] for each in rome["published"]}["RMPocalypse"] == "no"
    for wrong in (["--tcb", "snp=1"], ["--generation", "milan", "--tcb", "snp"], ["--generation", "epyc"]):
        assert sevkit("attack", "list", *wrong)[0] == 2


def test_options_of_encrypted_guests_reach_only_those(nothing_starts: None, sevkit_json: RunJson) -> None:
    options = ["--policy", "0x30000", "--sev-options", "host-data=AAAA"]
    argv = ["attack", "run", "leak", "--level", "emulator", "--dry-run", *options]
    status, envelope = sevkit_json(*argv, "--modes", "nosev,sev-snp")
    assert status == 0, envelope
    plain, encrypted = (" ".join(step["command_line"]) for step in envelope["data"]["plan"])
    assert "tcg-guest" not in plain
    assert "policy=0x30000" in encrypted
    assert "host-data=AAAA" in encrypted
    for level, modes in (("emulator", "nosev"), ("model", "nosev,sev-snp"), ("emulator", "sev-es")):
        words = ["attack", "run", "leak", "--level", level, "--dry-run", *options, "--modes", modes]
        status, envelope = sevkit_json(*words)
        assert (status, "twice" in envelope["errors"][0]["message"]) == (2, False), envelope
    on_mock = ["attack", "run", "leak", "--level", "model", "--modes", "sev", "--dry-run"]
    assert sevkit_json(*on_mock, "--policy", "nodbg")[0] == 0
    assert sevkit_json(*on_mock, "--policy", "nonsense")[0] == 2


@pytest.fixture(scope="module")
def state_of_m(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The registry with a mock guest whose name is everywhere in memory; every test here leaves it running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEVKIT_STATE_DIR", str(tmp_path_factory.mktemp("m")))
        MockHypervisor().launch(GuestSpec(name="m", mode=Mode.SEV, memory_mib=64), detach=True)
        yield os.environ["SEVKIT_STATE_DIR"]
        select.attach("m").stop()


@pytest.fixture
def m(state_of_m: str, _own_state: None, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("SEVKIT_STATE_DIR", state_of_m)
    return "m"


def test_a_guest_that_runs_is_attacked_and_left_running(
    m: str, sevkit: Run, sevkit_json: RunJson, tmp_path: Path
) -> None:
    status, envelope = sevkit_json("attack", "run", "leak", "--guest", m, "--capture", "live")
    assert status == 0, envelope["errors"]
    (experiment,) = envelope["data"]["experiments"]
    assert (experiment["mode"], experiment["level"], experiment["verdict"]) == ("sev", "model", "protected")
    assert experiment["controls"] == {"positive": True, "negative": True, "secret_alive": True}
    assert experiment["details"]["guest"] == m
    assert experiment["coverage"]["guest_ram_bytes"] == 64 << 20
    assert m in sevkit("guest", "list")[1]
    if shutil.which("gdb"):
        keep = tmp_path / "cores"
        for _ in range(2):
            assert sevkit("attack", "run", "leak", "--guest", m, "--keep", str(keep))[0] == 0
        assert sorted(path.name for path in keep.iterdir()) == ["m-2.core", "m.core"]
    plan = sevkit_json("attack", "run", "leak", "--guest", m, "--dry-run")[1]["data"]["plan"]
    assert [(step["guest"], step["mode"]) for step in plan] == [(m, "sev")]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["leak", "--modes", "sev"], "--modes has no effect"),
        (["leak", "--memory", "1G"], "--memory has no effect"),
        (["leak", "--level", "model"], "--level has no effect"),
        (["leak", "--seed", "2"], "--seed has no effect"),
        (["leak", "--timeout", "9"], "--timeout has no effect"),
        (["replay"], "it needs a guest in QEMU"),
        (["badram"], "it has no form for real guests"),
        *((["--", name], "the guest might not survive it") for name in ("aliasing", "cachewarp", "double-validate")),
        (["leak", "--keep", "c", "--capture", "live"], "--keep keeps cores"),
    ],
)
def test_what_does_not_suit_a_running_guest_is_refused(m: str, sevkit: Run, argv: list[str], words: str) -> None:
    status, out, err = sevkit("attack", "run", "--guest", m, *argv)
    assert status == 2, out
    assert words in err
    assert sevkit("attack", "run", "leak", "--guest", "nobody")[0] == 2
