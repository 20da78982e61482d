"""Run one block: one boot of each arm; warm up and sample each workload; pass on every record at once."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sevkit.bench.analysis import load
from sevkit.bench.campaign.place import ClockError, Executor, Place, UnsteadyBootError
from sevkit.bench.campaign.plan import Config, Plan, Slot
from sevkit.bench.imports.parse import Measured
from sevkit.bench.model import Boot, Direction, Metric, Sample, SlotId, boot_from, sample_from
from sevkit.bench.records import Discarded, Event, Failure, Skipped, SlotEnd, event_from
from sevkit.bench.suite import Workload
from sevkit.errors import SevkitError

RAW = "_raw"  # the record's key for the program's output, until the recorder saves it to a file
_CLOCK_RETRIES = 2
_UNSTEADY_BOOTS = 2  # boots of a slot that may be rejected; the next is used as it is
FOOTPRINT = Metric("memory", "B", Direction.LOWER)
BOOT_TIME = Metric("boot_time", "s", Direction.LOWER)

# Receives records in the order of their creation. An error that it raises (a full disk) ends the campaign.
Emit = Callable[[Mapping[str, Any]], None]


@dataclass
class Done:
    """The part of a plan that a results directory already has, so that nothing is measured twice."""

    samples: set[tuple[str, str, int]] = field(default_factory=set)
    slots: set[str] = field(default_factory=set)
    failed: set[tuple[str, str]] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)  # boots by slot

    @classmethod
    def of(cls, samples: Iterable[Sample], events: Iterable[Event], boots: Iterable[str]) -> "Done":
        """Build it from a results directory that was read."""
        done = cls()
        for sample in samples:
            if not sample.warmup and sample.metric.primary:
                slot = _slot_of(sample.at.identity)
                done.samples.add((slot, sample.workload, sample.iteration))
        for event in events:
            if isinstance(event, SlotEnd):
                done.slots.add(event.slot)
            elif isinstance(event, Failure):
                done.failed.add((event.slot, event.workload))
        done.attempts.update(_slot_of(identity) for identity in boots)
        return done

    def with_records(self, records: Iterable[Mapping[str, Any]]) -> "Done":
        """Add records, as a block emits them."""
        boots: dict[str, Boot] = {}
        samples: list[Sample] = []
        events: list[Event] = []
        for record in records:
            if record.get("kind") == "boot":
                boots[str(record["id"])] = boot_from(record)
            elif record.get("kind") == "sample":
                samples.append(sample_from(record, boots, {}))
            elif (event := event_from(record)) is not None:
                events.append(event)
        new = Done.of(samples, events, boots)
        return Done(
            self.samples | new.samples,
            self.slots | new.slots,
            self.failed | new.failed,
            self.attempts + new.attempts,
        )

    def left(self, slot: Slot, workload: Workload, iterations: int) -> list[int]:
        """The iterations of a workload that a slot still needs."""
        name = str(slot.identity)
        if (name, workload.name) in self.failed:
            return []
        return [i for i in range(iterations) if (name, workload.name, i) not in self.samples]


def _slot_of(identity: str) -> str:
    slot = SlotId.parse(identity)
    return identity if slot is None else str(slot.slot)


def run_block(
    plan: Plan,
    executor: Executor,
    config: Config,
    boot: int,
    done: Done,
    emit: Emit,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Run the rest of a block. Failures become records; only errors of ``emit`` are raised.

    ``enough`` is called before each slot: a spent budget ends the block there.
    """
    for slot in plan.block(config, boot):
        if str(slot.identity) not in done.slots and not enough():
            _run_slot(plan, executor, slot, done, emit)


def _open(executor: Executor, slot: Slot, first: int, emit: Emit) -> Place:
    """Boot a slot; a boot whose state differs from its neighbours' is recorded and repeated."""
    for attempt in range(first, first + _UNSTEADY_BOOTS):
        try:
            return executor.open(slot, slot.identity.attempted(attempt), steady=True)
        except UnsteadyBootError as error:
            emit(Discarded(str(slot.identity), attempt, error.message).record())
    return executor.open(slot, slot.identity.attempted(first + _UNSTEADY_BOOTS), steady=False)


def _run_slot(plan: Plan, executor: Executor, slot: Slot, done: Done, emit: Emit) -> None:
    started = time.monotonic()
    place: Place | None = None
    try:
        try:
            place = _open(executor, slot, done.attempts[str(slot.identity)], emit)
        except SevkitError as error:
            emit(_failure(slot, None, error))
        if place is not None:
            emit(place.boot.record())
            for record in _boot_samples(place, slot):
                emit(record)
            _run_workloads(plan, place, slot, done, emit)
    finally:
        if place is not None:
            place.close()
    seconds = round(time.monotonic() - started, 3)
    emit(SlotEnd(str(slot.identity), place is not None, seconds).record())


def _run_workloads(plan: Plan, place: Place, slot: Slot, done: Done, emit: Emit) -> None:
    for workload in slot.order:
        left = done.left(slot, workload, plan.profile.iterations)
        if not left:
            continue
        reason = place.lacks(workload)
        if reason is not None:
            emit(Skipped(str(slot.identity), workload.name, reason).record())
            continue
        failure = _run_workload(plan, place, slot, workload, left, emit)
        if failure is not None:
            emit(_failure(slot, workload, failure))
        if not place.alive():
            emit(_failure(slot, workload, failure or SevkitError("the guest ended")))
            return


def _run_workload(
    plan: Plan, place: Place, slot: Slot, workload: Workload, left: list[int], emit: Emit
) -> SevkitError | None:
    """Warm up and sample one workload; returns the error if it failed."""
    warmups = [(-1 - i, True) for i in range(plan.warmups(workload))]
    try:
        place.prepare(workload, slot, plan.profile.seconds)
    except SevkitError as error:
        place.finish(workload)
        return error
    place.others()  # what came before is of no concern to this workload
    try:
        for iteration, warmup in [*warmups, *((i, False) for i in left)]:
            try:
                measured = _measure(place, workload, slot, iteration)
            except SevkitError as error:
                return error
            loaded = place.others()
            for record in _samples(place, slot, workload, (iteration, warmup), measured, loaded):
                emit(record)
    finally:
        place.finish(workload)
    return None


def _measure(place: Place, workload: Workload, slot: Slot, iteration: int) -> list[Measured]:
    """Take one sample; repeat it if a clock jumped meanwhile."""
    for _ in range(_CLOCK_RETRIES):
        with contextlib.suppress(ClockError):
            return place.measure(workload, slot, iteration)
    return place.measure(workload, slot, iteration)


def _samples(
    place: Place,
    slot: Slot,
    workload: Workload,
    which: tuple[int, bool],
    measured: list[Measured],
    others: tuple[float, float] | None,
) -> Iterator[Mapping[str, Any]]:
    iteration, warmup = which
    now = time.time()
    for guest, one in enumerate(measured):
        extra: dict[str, Any] = {"seconds": one.seconds, "host_seconds": round(one.host_seconds, 6)}
        if others is not None:
            extra[load.OTHERS] = list(others)
        if one.counted:
            extra["counted"] = dict(one.counted)
        if len(measured) > 1:
            extra["guest"] = guest
        for metric, value in one.values:
            kept = extra if metric.primary else {k: v for k, v in extra.items() if k != "counted"}
            sample = replace(
                _blank(place, slot, workload, metric, value), iteration=iteration, warmup=warmup, time=now, extra=kept
            )
            record = sample.record()
            if workload.parse not in {"time", "rate"} and one.raw and metric.primary:
                record[RAW] = one.raw.decode(errors="replace")
            yield record


def _blank(place: Place, slot: Slot, workload: Workload, metric: Metric, value: float) -> Sample:
    return Sample(
        workload=workload.name,
        storage=slot.config.storage if workload.disk else "",
        metric=metric,
        mode=slot.arm.mode,
        value=value,
        arm=slot.arm.name,
        boot=slot.boot,
        conditions=slot.config.conditions,
        family=workload.family,
        at=place.boot,
    )


def _boot_samples(place: Place, slot: Slot) -> Iterator[Mapping[str, Any]]:
    """The duration of the boot itself, and of its phases; the host memory that the guest takes then."""
    if place.launch is None:
        return
    values = [(BOOT_TIME, place.launch.seconds)]
    values += [(Metric(f"boot_{k}", "s", Direction.LOWER, primary=False), v) for k, v in place.launch.phases.items()]
    boot = Workload("boot", "boot", "boot", "", parse="boot")
    rows = [(boot, metric, value) for metric, value in values]
    if place.launch.footprint is not None:
        rows.append((replace(boot, name="footprint"), FOOTPRINT, place.launch.footprint))
    for workload, metric, value in rows:
        sample = _blank(place, slot, workload, metric, value)
        storage = slot.config.storage if any(w.disk for w in slot.config.workloads) else ""
        yield replace(sample, storage=storage, time=time.time()).record()


def _failure(slot: Slot, workload: Workload | None, error: SevkitError) -> Mapping[str, Any]:
    name = workload.name if workload is not None else "boot"
    return Failure(
        slot=str(slot.identity),
        workload=name,
        message=error.message,
        cell=f"{slot.identity}/{name}",
        arm=slot.arm.name,
        error=error.kind,
        detail=error.detail,
        time=time.time(),
    ).record()
