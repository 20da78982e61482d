"""Run a campaign: blocks in order, each record written to disk at once, until the intervals are narrow enough."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sevkit.bench import store as stores
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Rules
from sevkit.bench.campaign.block import RAW, Done, Emit, run_block
from sevkit.bench.campaign.place import Executor
from sevkit.bench.campaign.plan import Config, Plan
from sevkit.bench.model import Boot, Metric, Sample, SlotId, boot_from, sample_from
from sevkit.bench.records import ClockJump, Failure, Skipped, SlotEnd, Stop, StoppingRule, event_from
from sevkit.bench.store import Store
from sevkit.errors import UsageError

_CLOCK_JUMP = 1.0
_GIVE_UP_AFTER = 2  # boots of one arm that failed in a row

Block = tuple[Config, int]


@dataclass(frozen=True)
class Progress:
    """The progress of a campaign. ``left`` is in seconds, None while it is unknown."""

    done: int
    total: int
    text: str
    left: float | None


@dataclass
class Ending:
    """How a campaign ended."""

    reason: str
    rounds: int
    samples: list[Sample] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Scheduler(Protocol):
    """Runs blocks, here or elsewhere, and returns their records."""

    def run(
        self, plan: Plan, blocks: Iterable[Block], done: Done, emit: Emit, enough: Callable[[], bool]
    ) -> Iterator[Block]:
        """Run blocks; yields each when it is finished. ``enough`` says when the budget is spent.

        ``blocks`` is asked for the next one when that can start.
        """
        ...


class Local:
    """Runs blocks here, one after the other."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def run(
        self, plan: Plan, blocks: Iterable[Block], done: Done, emit: Emit, enough: Callable[[], bool]
    ) -> Iterator[Block]:
        """Run blocks in order; the budget is checked before each boot."""
        for config, boot in blocks:
            run_block(plan, self._executor, config, boot, done, emit, enough)
            yield config, boot


class Recorder:
    """Numbers records, saves the programs' output, detects clock jumps, keeps samples for the stopping rule."""

    def __init__(self, store: Store, campaign: stores.Campaign) -> None:
        self._store = store
        self.samples = campaign.samples
        self.events = list(campaign.events)
        self.boots = campaign.boots
        self._metrics: dict[Any, Metric] = {}
        self._order = max((s.order for s in campaign.samples), default=-1) + 1
        self._offset = _clock_offset()

    def append(self, record: Mapping[str, Any]) -> None:
        """Put one record on the disk."""
        offset = _clock_offset()
        if abs(offset - self._offset) > _CLOCK_JUMP:
            jump = ClockJump(round(offset - self._offset, 3), time.time())
            self._store.append(jump.record())
            self.events.append(jump)
            self._offset = offset
        kind = record.get("kind")
        if kind == "sample":
            self._sample(dict(record))
            return
        self._store.append(record)
        if kind == "boot":
            boot: Boot = boot_from(record)
            self.boots[boot.identity] = boot
        elif (event := event_from(record)) is not None:
            self.events.append(event)

    def begin(self, plan: Plan) -> None:
        """Write the stopping rule down, unless it is the one that the campaign has already."""
        profile = plan.profile
        rounds = 1 + max((s.boot for s in self.samples if s.boot is not None), default=-1)
        rule = StoppingRule(profile.most_boots, profile.budget, profile.target, rounds)
        rules = [event for event in self.events if isinstance(event, StoppingRule)]
        if not rules or not rules[-1].same(rule):
            self.append(rule.record())

    @property
    def slots(self) -> list[SlotEnd]:
        """The slots that are finished."""
        return [event for event in self.events if isinstance(event, SlotEnd)]

    def _sample(self, record: dict[str, Any]) -> None:
        record["order"] = self._order
        raw = record.pop(RAW, None)
        if raw is not None:
            name = f"{self._order:06d}-{record['workload']}.txt".replace("/", "_")
            kept = {"raw": self._store.keep_raw(name, raw.encode()), "raw_sha256": stores.digest(raw.encode())}
            record["extra"] = {**record.get("extra", {}), **kept}
        self._store.append(record)
        self._order += 1
        self.samples.append(sample_from(record, self.boots, self._metrics))


def _clock_offset() -> float:
    """Wall clock minus monotonic clock: constant unless the wall clock jumps."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def open_store(output: Path, plan: Plan, header: Mapping[str, Any]) -> tuple[Store, stores.Campaign]:
    """Start a results directory, or resume it if it is of the same plan."""
    if stores.is_campaign(output):
        old = stores.read_header(output)
        if old.get("fingerprint") != plan.fingerprint():
            raise UsageError(
                f"{output} holds a campaign with other settings",
                hint="give the settings it was started with, or another --output",
            )
        store = Store.resume(output)
    else:
        full = {"origin": "run", "fingerprint": plan.fingerprint(), "plan": plan.as_dict(), **header}
        store = Store.create(output, full)
    return store, stores.load(output)


def run(
    plan: Plan,
    store: Store,
    campaign: stores.Campaign,
    scheduler: Scheduler,
    report: Callable[[Progress], None] | None = None,
) -> Ending:
    """Measure until the stopping rule is met. Existing samples are not measured again."""
    recorder = Recorder(store, campaign)
    recorder.begin(plan)
    state = _State(plan, recorder, report or (lambda _: None))
    reason, boot = "boots", 0
    while boot < plan.profile.most_boots:
        step = plan.profile.boots if boot == 0 else 1
        # Round by round, so that a budget that runs out leaves the same number of boots of every configuration.
        blocks = [(c, b) for b in range(boot, boot + step) for c in plan.round(b) if c.index not in state.finished]
        due = state.affordable(state.wanted(blocks))
        for _ in scheduler.run(plan, due, state.done(), state.append, state.enough):
            if state.enough():
                break
        boot += step
        state.finish_narrow()
        if len(state.finished) == len(plan.configs):
            reason = "narrow"
            break
        if (state.enough() or state.withheld) and (boot < plan.profile.most_boots or state.wanted(blocks)):
            reason = "budget"
            break
    _end(recorder, reason, boot)
    failures = [event for event in recorder.events if isinstance(event, Failure)]
    skipped = [event for event in recorder.events if isinstance(event, Skipped)]
    return Ending(reason, boot, recorder.samples, failures, skipped)


def _end(recorder: Recorder, reason: str, rounds: int) -> None:
    """Record why the campaign ended, unless the last record already says so."""
    stop = Stop(reason, rounds)
    if recorder.events[-1:] != [stop]:
        recorder.append(stop.record())


class _State:
    """The loop's state: finished configurations, elapsed time, progress."""

    def __init__(self, plan: Plan, recorder: Recorder, report: Callable[[Progress], None]) -> None:
        self._plan = plan
        self._recorder = recorder
        self._report = report
        self.finished: set[int] = set()
        self.withheld = False  # whether a block was left out because it could not have ended within the budget
        self._earlier = sum(end.seconds for end in recorder.slots)
        self._started = time.monotonic()
        self._slots = 0
        self._total = plan.profile.boots * sum(len(plan.arms_of(config)) for config in plan.configs)
        self._already = len({end.slot for end in recorder.slots})

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record and report the progress."""
        self._recorder.append(record)
        kind = record.get("kind")
        if kind == "slot":
            self._slots += 1
        if kind in {"slot", "boot", "sample", "failure"}:
            self._report(Progress(self._already + self._slots, self._of(), _text(record), self._left()))

    def spent(self) -> float:
        """Seconds of measurement, including those before a resumption."""
        return self._earlier + time.monotonic() - self._started

    def enough(self) -> bool:
        """Whether the budget is spent."""
        return self.spent() > self._plan.profile.budget

    def affordable(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """The blocks that can end within the budget, as long as those before them took; each is judged when it is due.

        A block that is cut off has boots of some arms only, which no comparison within rounds can use. Those of the
        least number of boots are tried in any case.
        """
        for config, boot in blocks:
            if boot < self._plan.profile.boots or self.spent() + self._expected(config) <= self._plan.profile.budget:
                yield config, boot
            else:
                self.withheld = True

    def _expected(self, config: Config) -> float:
        """The duration of a block of a configuration: the mean of its slots so far, for each arm."""
        taken = [
            end.seconds
            for end in self._recorder.slots
            if (slot := SlotId.parse(end.slot)) is not None and slot.config == config.index
        ]
        return len(self._plan.arms_of(config)) * sum(taken) / len(taken) if taken else 0.0

    def done(self) -> Done:
        """The measurements that exist already."""
        return Done.of(self._recorder.samples, self._recorder.events, self._recorder.boots)

    def wanted(self, blocks: Iterable[Block]) -> list[Block]:
        """The blocks with unfinished slots; arms that never boot end their configuration."""
        done = {end.slot for end in self._recorder.slots}
        return [(c, b) for c, b in blocks if any(str(s.identity) not in done for s in self._plan.block(c, b))]

    def finish_narrow(self) -> None:
        """Mark configurations as finished if all ratios are precise enough, or if they cannot be booted."""
        for config in self._plan.configs:
            if self._hopeless(config) or (not self._plan.profile.factors and self._is_narrow(config)):
                self.finished.add(config.index)
        # Factors are compared with the reference round by round: configurations end together.
        left = [c for c in self._plan.configs if len(self._plan.arms_of(c)) > 1 and c.index not in self.finished]
        if self._plan.profile.factors and all(map(self._is_narrow, left)):
            self.finished |= {config.index for config in self._plan.configs}

    def _is_narrow(self, config: Config) -> bool:
        return narrow(self._of_config(config), self._plan.profile.target)

    def _of_config(self, config: Config) -> list[Sample]:
        found = []
        for sample in self._recorder.samples:
            slot = SlotId.parse(sample.at.identity)
            if slot is not None and slot.config == config.index:
                found.append(sample)
        return found

    def _hopeless(self, config: Config) -> bool:
        """Whether at most one arm still boots, so that nothing can be compared."""
        able = 0
        arms = self._plan.arms_of(config)
        for arm in arms:
            booted = [
                end.booted
                for end in self._recorder.slots
                if (slot := SlotId.parse(end.slot)) is not None and (slot.config, slot.arm) == (config.index, arm.name)
            ]
            able += not (len(booted) >= _GIVE_UP_AFTER and not any(booted[-_GIVE_UP_AFTER:]))
        return able < min(2, len(arms))

    def _of(self) -> int:
        return max(self._total, self._already + self._slots)

    def _left(self) -> float | None:
        if not self._slots:
            return None
        each = (time.monotonic() - self._started) / self._slots
        left = max(0, self._total - self._already - self._slots) * each
        return min(left, max(0.0, self._plan.profile.budget - self.spent()))


def _text(record: Mapping[str, Any]) -> str:
    if record.get("kind") == "sample":
        return f"{record.get('workload')} in {record.get('arm')}"
    return str(record.get("cell") or record.get("id") or "")


def narrow(samples: Sequence[Sample], target: float) -> bool:
    """Whether every ratio's interval is within ``target`` of its middle.

    The rule looks at widths only, never at whether an interval contains 1, so that it does not favour either answer.
    """
    found = compare((s for s in samples if s.family != "boot"), Rules(accept_confounds=True))
    wanted = [c for c in found if not c.control] or found
    if not wanted:
        return False
    # The middle of an interval of ratios is the geometric mean, sqrt(low * high), so high / middle is
    # sqrt(high / low). Example: 0.97 to 1.03 is within 3.05 % of its middle.
    return all(c.effect is not None and (c.effect.high / c.effect.low) ** 0.5 - 1 <= target for c in wanted)
