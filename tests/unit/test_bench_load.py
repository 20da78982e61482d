"""The load of other programs is judged where it was measured: in the row and the boot that had it, and in no others."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sevkit.bench import results
from sevkit.bench import store as stores
from sevkit.bench.analysis import load
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Ruling
from sevkit.bench.campaign import block, directory, environment, mock, place
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.campaign.plan import Slot
from sevkit.bench.imports.parse import Measured
from sevkit.bench.lint.answer import lint
from sevkit.bench.model import TIME, Boot, Sample
from sevkit.bench.suite import Profile, Workload
from sevkit.bench.verify import Finding, verify
from sevkit.vocabulary import Mode, Provenance

QUIET = Boot("c0.b0.sev.a0", Provenance.HARDWARE, environment={"other CPUs": 0.1, "CPUs": 2})


def samples(*windows: Any, at: Boot = QUIET) -> list[Sample]:
    made = [Sample("w", "", TIME, Mode.SEV, 1.0, boot=0, at=at, extra={load.OTHERS: window}) for window in windows]
    return made or [Sample("w", "", TIME, Mode.SEV, 1.0, boot=0, at=at)]


@pytest.mark.parametrize(
    ("windows", "expected"),
    [
        ([[0.2, 2.0], [2.4, 2.0]], 0.6),  # one sample of two suffices
        ([[0.04, 0.1]] * 20, 0.2),
        ([[0.2, 0.1], *[[0.0, 0.1]] * 9], 0.1),  # a tick in a tenth of a second tells nothing
        ([[0.0, 1.0], [0.3, 0.2]], 0.125),  # what is left over belongs to the stretch before
        ([[0.6, 0.3]], 0.05),  # too short to tell: that of the boot
        ([], 0.05),
    ],
)
def test_the_load_of_a_row_is_the_highest_of_its_stretches(windows: list[list[float]], expected: float) -> None:
    assert load.of_samples(samples(*windows)) == {QUIET.identity: pytest.approx(expected)}


@pytest.mark.parametrize(
    "window", ["much", [], [1], [1, 2, 3], [None, 1], [True, 1.0], [1, -1], [-1, 1], [1, 0], {"a": 1}]
)
def test_a_window_that_makes_no_sense_is_read_without_a_fall(window: Any) -> None:
    assert load.of_samples(samples(window)) == {QUIET.identity: pytest.approx(0.05)}


@given(some.lists(some.tuples(some.floats(0, 50), some.floats(0.001, 60)), min_size=1, max_size=30))
def test_the_load_is_between_the_mean_and_the_highest_window(windows: list[tuple[float, float]]) -> None:
    spent, seconds = (sum(column) for column in zip(*windows, strict=True))
    if seconds < load.SHORTEST:
        return
    (found,) = load.of_samples(samples(*map(list, windows))).values()
    assert spent / seconds / 2 <= found * (1 + 1e-9)
    assert found <= max(one / long for one, long in windows) / 2 * (1 + 1e-9)


def test_a_boot_that_was_up_at_once_says_nothing() -> None:
    at = replace(QUIET, environment={"other CPUs": None, "load": [9.0, 9.0, 9.0], "CPUs": 2})
    assert load.of_boot(at) == 0


class Loaded(mock.MockPlace):
    """A host whose neighbours are at work while ``b`` is measured, and in between."""

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        known = {"CPUs": 2, "other CPUs": 0.0}
        self.boot = replace(self.boot, environment=known)
        self._spent = (9.0, 9.0)
        self.timed = False

    def measure(self, workload: Workload, slot: Slot, iteration: int) -> list[Measured]:
        self.timed = True
        found = super().measure(workload, slot, iteration)
        self.timed = False
        self._spent = (7.0, 4.0) if workload.name == "sha256" else (0.1, 4.0)
        return found

    def others(self) -> tuple[float, float] | None:  # type: ignore[override]
        assert not self.timed
        found, self._spent = self._spent, (9.0, 9.0)
        return found


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(mock, "MockPlace", Loaded)
    profile = Profile("t", "t", ("sha256", "memcpy"), modes=(Mode.NOSEV, Mode.SEV), boots=8, most_boots=8)
    directory.measure(directory.prepare(Wish(profile, where="mock")), tmp_path / "r")
    return tmp_path / "r"


def test_a_row_that_was_measured_under_load_gets_no_verdict_and_the_others_of_its_boots_do(campaign: Path) -> None:
    found = {c.series.workload: c for c in compare(results.read(campaign).samples) if not c.control}
    assert found["sha256"].outcome is Ruling.REFUSED
    assert found["sha256"].reason == "the host was busy: others' load of 0.9 per CPU, in 16 of 16 boots"
    assert found["memcpy"].outcome in {Ruling.WORSE, Ruling.EQUIVALENT, Ruling.INCONCLUSIVE}
    (told,) = [finding for finding in lint(campaign).findings if finding.rule == "busy-host"]
    assert told.message.endswith("in 24 of 24 boots, while it measured sha256")
    assert told.evidence == {"load": {"sha256": 0.88}}


def test_a_load_that_was_taken_out_of_the_records_shows(campaign: Path) -> None:
    assert verify(campaign).finding is Finding.INTACT
    path = campaign / stores.RECORDS
    path.write_text(path.read_text().replace('"others":[7.0,4.0]', '"others":[0.0,4.0]'))
    assert verify(campaign).finding is Finding.CHANGED


def test_the_time_of_a_daemon_that_a_workload_left_behind_is_the_campaign_s_own() -> None:
    """As redis-server --daemonize: init is its parent."""
    code = "import os, sys, time\nif os.fork(): sys.exit()\nos.setsid()\nwhile time.process_time() < 0.3: pass\n"
    code += "print(os.getpid(), flush=True)\ntime.sleep(60)"
    known = {**os.environ, environment.CAMPAIGN: str(os.getpid())}
    _, _, before = environment.Others._read()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=known) as child:
        assert child.stdout is not None
        daemon = int(child.stdout.readline())
        child.wait()
        try:
            _, _, after = environment.Others._read()
        finally:
            os.kill(daemon, 9)
    assert before + 0.25 < after


def test_what_a_campaign_starts_on_the_host_is_marked_as_its_own(tmp_path: Path) -> None:
    profile = Profile("t", "t", ("sha256",), modes=(Mode.NOSEV,), boots=1, most_boots=1, iterations=1, control=False)
    plan = directory.prepare(Wish(profile, where="host")).plan
    made: place.Executor = directory.prepare(Wish(profile, where="host")).executor
    slot = plan.block(plan.configs[0], 0)[0]
    opened = made.open(slot, slot.identity.attempted(0), steady=True)
    try:
        tell = replace(slot.order[0], prepare="", before="", command=f"echo value ${environment.CAMPAIGN}")
        [measured] = opened.measure(replace(tell, parse="number", pattern=r"value (\d+)"), slot, 0)
        assert measured.values[0][1] == os.getpid()
        spent, seconds = opened.others() or (-1.0, -1.0)
        assert spent >= 0 < seconds
    finally:
        opened.close()


def test_each_sample_has_its_window_in_its_record() -> None:
    place_ = Loaded(_slot(), _slot().identity.attempted(0), 0, 0.0)
    records: list[Any] = []
    plan = directory.prepare(Wish(_PROFILE, where="mock")).plan
    block._run_workloads(plan, place_, _slot(), block.Done(), records.append)
    assert {tuple(r["extra"]["others"]) for r in records} == {(7.0, 4.0)}
    assert json.dumps(records)


_PROFILE = Profile("t", "t", ("sha256",), modes=(Mode.NOSEV, Mode.SEV))


def _slot() -> Slot:
    plan = directory.prepare(Wish(_PROFILE, where="mock")).plan
    return plan.block(plan.configs[0], 0)[0]
