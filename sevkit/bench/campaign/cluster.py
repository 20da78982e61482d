"""The same campaign on a cluster, through Dask's distributed scheduler.

A block (one boot of each arm, neighbours in time on one machine) is a task, so that every comparison stays within one
machine. Workers declare resources (``dask worker ADDRESS --resources sev=1``), and a block requires one of them.
Records arrive one by one while blocks run (see ``worker``): their order here is the order of measurement, and a lost
worker or scheduler loses no recorded sample.
"""

import json
import queue
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sevkit.bench.campaign import executors
from sevkit.bench.campaign.block import Done, Emit
from sevkit.bench.campaign.plan import Plan
from sevkit.bench.campaign.run import Block
from sevkit.bench.campaign.worker import Finished, Task, work
from sevkit.bench.records import Failure
from sevkit.errors import LostSchedulerError, SevkitError, UsageError
from sevkit.extras import extra

_CONNECT = 20
_LOOK_EVERY = 0.5  # seconds between looks at the connection while nothing comes
_ASK_AFTER = 10.0  # seconds without a record after which the scheduler is asked whether it is there
_ANSWER_WITHIN = 30.0
_LEAVE_WITHIN = 5.0


@dataclass
class _Stream:
    """The records of one block as they come."""

    block: Block
    run: str = ""
    count: int = 0
    earlier: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """As in the identities of its slots."""
        config, boot = self.block
        return f"c{config.index}.b{boot}"

    def take(self, event: Mapping[str, str], emit: Emit) -> None:
        """One record. A worker that was given up, but still measures, is not listened to."""
        if self._is_current(event["run"]):
            self.count += 1
            emit(json.loads(event["record"]))

    def finish(self, finished: Finished, emit: Emit) -> None:
        """The records that no event brought."""
        if self._is_current(finished.run):
            for text in finished.records[self.count :]:
                emit(json.loads(text))

    def _is_current(self, run: str) -> bool:
        if run != self.run and run not in self.earlier:
            self.earlier.add(self.run)
            self.run, self.count = run, 0
        return run == self.run


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
        self._address = address
        self._setup = setup
        self._resources = {resource: 1} if resource else None
        self._lost = False
        self._check_workers(resource)

    def run(
        self, plan: Plan, blocks: Iterable[Block], done: Done, emit: Emit, enough: Callable[[], bool]
    ) -> Iterator[Block]:
        """Run blocks in parallel, one per worker; the budget is checked with each record.

        Raises LostSchedulerError within a minute after the scheduler is gone.
        """
        inbox: queue.SimpleQueue[tuple[_Stream, Any]] = queue.SimpleQueue()
        name = f"sevkit-{uuid.uuid4().hex}"
        futures = {}
        try:
            for block in blocks:
                stream = _Stream(block)
                task = Task(plan, self._setup, block[0].index, block[1], done, f"{name}-{stream.name}", name)
                futures[stream.name] = self._submit(task, stream, inbox)
            left = set(futures)
            while left and not enough():
                stream, event = self._next(inbox)
                if event is not None:
                    stream.take(event, emit)
                    continue
                left.remove(stream.name)
                self._finish(stream, futures[stream.name], emit)
                yield stream.block
        finally:
            self._stop(name, [f for f in futures.values() if not f.done()])

    def close(self) -> None:
        """Disconnect from the scheduler; it and its workers keep running."""
        with suppress(OSError, AssertionError):  # what a client says that has no scheduler to leave
            self._client.close(timeout=_LEAVE_WITHIN)

    def _submit(self, task: Task, stream: _Stream, inbox: "queue.SimpleQueue[tuple[_Stream, Any]]") -> Any:
        self._check_connection()
        self._client.subscribe_topic(task.topic, lambda event: inbox.put((stream, event[1])))
        future = self._client.submit(work, task, resources=self._resources, pure=False)
        future.add_done_callback(lambda _: inbox.put((stream, None)))
        return future

    def _next(self, inbox: "queue.SimpleQueue[tuple[_Stream, Any]]") -> tuple[_Stream, Any]:
        """The next record of a block, or None for its end."""
        while True:
            for _ in range(int(_ASK_AFTER / _LOOK_EVERY)):
                with suppress(queue.Empty):
                    return inbox.get(timeout=_LOOK_EVERY)
                self._check_connection()
            self._ask()

    def _ask(self) -> None:
        """See that the scheduler answers: a host that was switched off closes no connection."""
        try:
            self._client.sync(self._client.scheduler.identity, n_workers=0, callback_timeout=_ANSWER_WITHIN)
        except (OSError, RuntimeError, AttributeError) as error:  # a client that is closing fails with any of them
            raise self._gone() from error

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise self._gone()

    def _gone(self) -> LostSchedulerError:
        self._lost = True
        return LostSchedulerError(
            f"the scheduler at {self._address} is lost",
            hint="what was measured is recorded: start a scheduler and give the same command again to go on",
        )

    def _finish(self, stream: _Stream, future: Any, emit: Emit) -> None:
        if future.cancelled():  # nobody here cancels: the client does when it loses the scheduler, even for a moment
            raise self._gone()
        try:
            finished = future.result()
        except SevkitError:
            raise
        except Exception as error:  # noqa: BLE001 - what a worker raises can be anything
            self._failed(stream, error, emit)
            return
        stream.finish(finished, emit)

    def _failed(self, stream: _Stream, error: Exception, emit: Emit) -> None:
        """Record that a block was lost, unless it is the scheduler that is."""
        self._check_connection()
        name, kind = stream.name, type(error).__name__
        message = f"block {name} was lost: {kind}: {error}"
        emit(Failure(name, "block", message, cell=name, error=kind, time=time.time()).record())

    def _stop(self, name: str, futures: Sequence[Any]) -> None:
        """End what still runs: workers look for the event before each slot."""
        if self._lost or not futures:
            return
        with suppress(OSError, RuntimeError, AttributeError):
            self._client.log_event(name, "stop")
            self._client.cancel(futures, force=True)

    def _check_workers(self, resource: str) -> None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        able = [w for w in workers.values() if not resource or resource in w.get("resources", {})]
        if not able:
            offers = f" that offers {resource!r}" if resource else ""
            raise UsageError(
                f"the scheduler has no worker{offers}",
                hint=f"dask worker ADDRESS --nthreads 1 --resources {resource or 'sev'}=1",
            )
