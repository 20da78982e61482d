"""The same campaign on a cluster, through Dask's distributed scheduler.

A block (one boot of each arm, neighbours in time on one machine) is a task, so that every comparison stays within one
machine. Workers declare resources (``dask worker ADDRESS --resources sev=1``), and a block requires one of them. When
a worker is lost, Dask runs its blocks again elsewhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from sevkit.bench.campaign import executors, hostlock
from sevkit.bench.campaign.block import Done, Emit, run_block
from sevkit.bench.campaign.plan import Plan
from sevkit.bench.campaign.run import Block
from sevkit.errors import SevkitError, UsageError
from sevkit.extras import extra

_CONNECT = 20
_PATIENCE = 6 * 3600.0  # a worker waits for another worker on its host


@dataclass(frozen=True)
class Task:
    """The input of a worker."""

    plan: Plan
    setup: executors.Setup
    config: int
    boot: int
    done: Done


def work(task: Task) -> list[Mapping[str, Any]]:
    """Run one block on a worker; returns its records."""
    records: list[Mapping[str, Any]] = []
    executor = executors.make(task.setup)
    executor.modes([arm.mode for arm in task.plan.arms])
    config = task.plan.configs[task.config]
    with nullcontext() if task.setup.where == "mock" else hostlock.alone(_PATIENCE):
        executor.ready([config])
        run_block(task.plan, executor, config, task.boot, task.done, records.append)
    return records


class Dask:
    """Runs blocks on the workers of a scheduler. Each block needs one unit of ``resource``, if it is not empty."""

    def __init__(self, address: str, setup: executors.Setup, resource: str = "") -> None:
        with extra("cluster"):
            from distributed import Client
        connect: Any = Client
        try:
            self._client: Any = connect(address, timeout=_CONNECT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"no scheduler answers at {address}", hint="start one: dask scheduler; dask worker ADDRESS"
            ) from error
        self._setup = setup
        self._resources = {resource: 1} if resource else None
        self._check_workers(resource)

    def run(
        self, plan: Plan, blocks: Sequence[Block], done: Done, emit: Emit, enough: Callable[[], bool]
    ) -> Iterator[Block]:
        """Run blocks in parallel, one per worker; records arrive block by block."""
        import distributed

        del enough  # the budget is checked when a block is finished
        as_completed: Any = distributed.as_completed
        futures = {
            self._client.submit(
                work, Task(plan, self._setup, config.index, boot, done), resources=self._resources, pure=False
            ): (config, boot)
            for config, boot in blocks
        }
        try:
            for future in as_completed(list(futures), loop=self._client.loop):
                yield self._take(future, futures[future], emit)
        finally:
            self._client.cancel([f for f in futures if not f.done()], force=True)

    def close(self) -> None:
        """Disconnect from the scheduler; it and its workers keep running."""
        self._client.close()

    def _take(self, future: Any, block: Block, emit: Emit) -> Block:
        try:
            records = future.result()
        except SevkitError:
            raise
        except Exception as error:  # noqa: BLE001 - what a worker raises can be anything
            config, boot = block
            name = f"c{config.index}.b{boot}"
            message = f"block {name} was lost: {type(error).__name__}: {error}"
            emit({"kind": "failure", "cell": name, "slot": name, "workload": "block", "message": message})
            return block
        for record in records:
            emit(record)
        return block

    def _check_workers(self, resource: str) -> None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        able = [w for w in workers.values() if not resource or resource in w.get("resources", {})]
        if not able:
            offers = f" that offers {resource!r}" if resource else ""
            raise UsageError(
                f"the scheduler has no worker{offers}",
                hint=f"dask worker ADDRESS --nthreads 1 --resources {resource or 'sev'}=1",
            )
