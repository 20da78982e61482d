"""The same campaign on a cluster of two workers, and with one of them lost in the middle."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sevkit.bench import suite
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.suite import Profile
from sevkit.errors import UsageError

distributed: Any = pytest.importorskip("distributed")

from sevkit.bench.campaign.cluster import Dask  # noqa: E402 - after the check that its library is here

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


def measured(cluster: Any, output: Path, *, delay: float = 0.0, profile: Profile = SMALL) -> Any:
    prepared = campaign.prepare(Wish(profile, where="mock", mock_delay=delay))
    scheduler = Dask(cluster.scheduler_address, prepared.setup, "sev")
    try:
        return campaign.measure(prepared, output, scheduler=scheduler)
    finally:
        scheduler.close()


def test_a_cluster_measures_the_same_as_one_machine(cluster: Any, tmp_path: Path) -> None:
    here = campaign.measure(campaign.prepare(Wish(SMALL, where="mock")), tmp_path / "here")
    assert values(measured(cluster, tmp_path / "there")) == values(here)


def test_arms_of_a_block_stay_together(cluster: Any, tmp_path: Path) -> None:
    outcome = measured(cluster, tmp_path / "r")
    order = [s.boot for s in sorted(outcome.samples, key=lambda s: s.order)]
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes == SMALL.boots - 1


def test_blocks_of_a_lost_worker_are_run_again(cluster: Any, tmp_path: Path) -> None:
    profile = suite.changed(SMALL, boots=8, most_boots=8)
    victim = next(iter(cluster.workers.values())).process.pid

    def kill() -> None:
        time.sleep(0.6)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    outcome = measured(cluster, tmp_path / "r", delay=0.03, profile=profile)
    killer.join()
    here = campaign.measure(campaign.prepare(Wish(profile, where="mock")), tmp_path / "here")
    assert values(outcome) == values(here)
    assert outcome.failures == []


def test_a_resource_that_no_worker_offers_is_told(cluster: Any) -> None:
    prepared = campaign.prepare(Wish(SMALL, where="mock"))
    with pytest.raises(UsageError, match="no worker that offers 'snp'"):
        Dask(cluster.scheduler_address, prepared.setup, "snp")


def test_a_scheduler_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevkit.bench.campaign.cluster._CONNECT", 1)
    prepared = campaign.prepare(Wish(SMALL, where="mock"))
    with pytest.raises(UsageError, match="no scheduler answers"):
        Dask("tcp://127.0.0.1:1", prepared.setup)
