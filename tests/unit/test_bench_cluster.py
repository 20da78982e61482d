"""The same campaign on a cluster of two workers, and with one of them lost in the middle."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sevkit.bench import store as stores
from sevkit.bench import suite
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.campaign.run import Progress
from sevkit.bench.campaign.worker import Finished
from sevkit.bench.suite import Profile
from sevkit.errors import LostSchedulerError, UsageError

distributed: Any = pytest.importorskip("distributed")

from sevkit.bench.campaign.cluster import Dask, _Stream  # noqa: E402 - after the check that its library is here

Report = Callable[[Progress], None]
SMALL = Profile("t", "t", ("sha256", "disk-read"), boots=6, most_boots=6, iterations=2, target=1e-9)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        resources={"sev": 1},
        dashboard_address=None,
        host="127.0.0.1",
        local_directory=str(tmp_path_factory.mktemp("dask")),
    ) as made:
        yield made


def values(outcome: Any) -> list[tuple[Any, ...]]:
    return sorted((s.workload, s.arm, s.boot, s.iteration, s.value) for s in outcome.samples if not s.warmup)


def measured(
    cluster: Any, output: Path, *, delay: float = 0.0, profile: Profile = SMALL, report: Report | None = None
) -> Any:
    prepared = campaign.prepare(Wish(profile, where="mock", mock_delay=delay))
    scheduler = Dask(cluster.scheduler_address, prepared.setup, "sev")
    try:
        return campaign.measure(prepared, output, scheduler=scheduler, report=report)
    finally:
        scheduler.close()


def test_a_cluster_measures_the_same_as_one_machine(cluster: Any, tmp_path: Path) -> None:
    here = campaign.measure(campaign.prepare(Wish(SMALL, where="mock")), tmp_path / "here")
    assert values(measured(cluster, tmp_path / "there")) == values(here)


def test_arms_of_a_block_stay_together(cluster: Any, tmp_path: Path) -> None:
    outcome = measured(cluster, tmp_path / "r")
    for boot in range(SMALL.boots):
        slots = [s.at.identity for s in sorted(outcome.samples, key=lambda s: s.order) if s.boot == boot]
        changes = sum(a != b for a, b in itertools.pairwise(slots))
        assert changes == len(set(slots)) - 1


def test_the_order_of_records_is_that_of_measurement(cluster: Any, tmp_path: Path) -> None:
    profile = suite.changed(SMALL, boots=2, most_boots=2, iterations=20)
    outcome = measured(cluster, tmp_path / "r", delay=0.02, profile=profile)
    samples = sorted(outcome.samples, key=lambda s: s.order)
    ends = {boot: max(s.time for s in samples if s.boot == boot) for boot in (0, 1)}
    starts = {boot: min(s.time for s in samples if s.boot == boot) for boot in (0, 1)}
    overlap = max(starts.values()) < min(ends.values())  # not if one worker, on a busy machine, did both
    changes = sum(a.boot != b.boot for a, b in itertools.pairwise(samples))
    assert changes > 1 if overlap else changes == 1


def test_blocks_of_a_lost_worker_are_run_again(cluster: Any, tmp_path: Path) -> None:
    profile = suite.changed(SMALL, boots=8, most_boots=8)
    victim = next(iter(cluster.workers.values())).process.pid

    seen = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 20:
            os.kill(victim, signal.SIGKILL)

    outcome = measured(cluster, tmp_path / "r", delay=0.03, profile=profile, report=report)
    here = campaign.measure(campaign.prepare(Wish(profile, where="mock")), tmp_path / "here")
    assert values(outcome) == values(here)
    assert outcome.failures == []
    stored = stores.load(tmp_path / "r")
    arms = len({s.arm for s in stored.samples})
    assert len(stored.boots) <= arms * profile.boots + 1  # the worker's slot was booted again, not its block
    assert stored.damage == []


SLOW = suite.changed(SMALL, boots=2, most_boots=20, iterations=3)


@pytest.fixture
def own_scheduler(tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A scheduler and a worker as processes: the scheduler's id, and its address."""
    file = tmp_path / "scheduler.json"
    python = [sys.executable, "-m"]
    scheduler = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    worker = [*python, "distributed.cli.dask_worker", "--scheduler-file", str(file), "--no-nanny"]
    with ExitStack() as stack:
        started = []
        for argv in (
            [*scheduler, "--no-dashboard", "--scheduler-file", str(file)],
            [*worker, "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path)],
        ):
            process = stack.enter_context(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            stack.callback(process.kill)
            started.append(process)
        with distributed.Client(scheduler_file=str(file), timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
        yield started[0].pid, json.loads(file.read_text())["address"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_scheduler_ends_the_campaign_and_nothing_recorded_is_lost(
    own_scheduler: tuple[int, str], tmp_path: Path, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevkit.bench.campaign.cluster._ASK_AFTER", 1.0)
    monkeypatch.setattr("sevkit.bench.campaign.cluster._ANSWER_WITHIN", 2.0)
    pid, address = own_scheduler
    prepared = campaign.prepare(Wish(SLOW, where="mock", mock_delay=0.05))
    seen = []

    def report(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 5:
            os.kill(pid, how)

    scheduler = Dask(address, prepared.setup)
    with pytest.raises(LostSchedulerError, match="is lost"):
        campaign.measure(prepared, tmp_path / "r", scheduler=scheduler, report=report)
    scheduler.close()
    stored = stores.load(tmp_path / "r")
    assert len(stored.samples) >= 4
    assert stored.damage == []
    profile = suite.changed(SLOW, most_boots=2)
    here = campaign.measure(campaign.prepare(Wish(profile, where="mock")), tmp_path / "here")
    assert set(values(stored)) <= set(values(here))


def test_a_worker_that_was_given_up_is_not_listened_to() -> None:
    got: list[Any] = []
    stream = _Stream((None, 0))  # type: ignore[arg-type]
    for run, number in (("one", 1), ("two", 2), ("one", 3), ("two", 4)):
        stream.take({"run": run, "record": str(number)}, got.append)
    stream.finish(Finished("two", ["2", "4", "5"]), got.append)
    assert got == [1, 2, 4, 5]


def test_a_resource_that_no_worker_offers_is_told(cluster: Any) -> None:
    prepared = campaign.prepare(Wish(SMALL, where="mock"))
    with pytest.raises(UsageError, match="no worker that offers 'snp'"):
        Dask(cluster.scheduler_address, prepared.setup, "snp")


def test_a_scheduler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevkit.bench.campaign.cluster._CONNECT", 1)
    prepared = campaign.prepare(Wish(SMALL, where="mock"))
    with pytest.raises(UsageError, match="no scheduler answers"):
        Dask("tcp://127.0.0.1:1", prepared.setup)
