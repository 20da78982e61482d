"""A block on a worker of a cluster: every record goes to the scheduler's event log as soon as it is there.

The client reads the log while the block runs. When a worker is lost, Dask runs the block again elsewhere, and that
worker reads in the log what is there already: what is lost is the sample that was running.
"""

import json
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from sevkit.bench.campaign import executors, hostlock
from sevkit.bench.campaign.block import Done, run_block
from sevkit.bench.campaign.plan import Plan

_PATIENCE = 6 * 3600.0  # seconds that a worker waits for another worker on its host


@dataclass(frozen=True)
class Task:
    """What a worker gets. Records go to ``topic``; an event in ``stop`` ends the block before its next slot."""

    plan: Plan
    setup: executors.Setup
    config: int
    boot: int
    done: Done
    topic: str
    stop: str


@dataclass(frozen=True)
class Finished:
    """The records of one run of a block, as JSON: the client takes from here what its events did not bring."""

    run: str
    records: list[str]


def work(task: Task) -> Finished:
    """Run what is left of one block on a worker; returns its records."""
    log = _Log(task)
    done = task.done.with_records(log.earlier())
    executor = executors.make(task.setup)
    executor.modes([arm.mode for arm in task.plan.arms])
    config = task.plan.configs[task.config]
    with nullcontext() if task.setup.where == "mock" else hostlock.alone(_PATIENCE):
        executor.ready([config])
        run_block(task.plan, executor, config, task.boot, done, log.emit, log.stopped)
    return log.finished


class _Log:
    """The event log of the scheduler, as one run of a block uses it."""

    def __init__(self, task: Task) -> None:
        import distributed

        worker: Any = distributed.get_worker
        client: Any = distributed.get_client
        self._worker, self._client = worker(), client()
        self._task = task
        self.finished = Finished(uuid.uuid4().hex, [])

    def earlier(self) -> list[Mapping[str, Any]]:
        """The records of runs of this block before this one, on workers that were lost."""
        return [json.loads(event["record"]) for _, event in self._client.get_events(self._task.topic)]

    def emit(self, record: Mapping[str, Any]) -> None:
        """Send one record."""
        text = json.dumps(record)
        self._worker.log_event(self._task.topic, {"run": self.finished.run, "record": text})
        self.finished.records.append(text)

    def stopped(self) -> bool:
        """Whether the campaign ended, or nobody is there to ask."""
        try:
            return bool(self._client.get_events(self._task.stop))
        except (OSError, RuntimeError, AttributeError):  # a client without its scheduler fails with any of them
            return True
