"""The model of a benchmark result: samples, each with the data that decides which others it is comparable with."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec

from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode, Provenance

FORMAT = "sevkit-bench"
FORMAT_VERSION = 1
AGAIN = "#again"  # the second arm of an A/A control: `nosev#again`

Conditions = tuple[tuple[str, str], ...]


_SLOT = re.compile(
    r"(?:(?P<source>\d+)/)?c(?P<config>\d+)\.b(?P<boot>\d+)\.(?P<arm>[a-z-]+(?:#again)?)(?:\.a(?P<attempt>\d+))?"
)


@dataclass(frozen=True, slots=True)
class SlotId:
    """The place of a boot in a plan: configuration, round, arm, and attempt (None for the slot itself).

    As text ``c0.b1.nosev.a0``. ``source`` numbers the results directories that are compared together, as ``2/c0…``.
    """

    config: int
    boot: int
    arm: str
    attempt: int | None = None
    source: int = 0

    def __str__(self) -> str:
        """The text as in the records of a campaign."""
        head = f"{self.source}/" if self.source else ""
        tail = "" if self.attempt is None else f".a{self.attempt}"
        return f"{head}c{self.config}.b{self.boot}.{self.arm}{tail}"

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def parse(text: str) -> "SlotId | None":
        """Read one; None for any other text, such as the identity of an imported boot."""
        match = _SLOT.fullmatch(text)
        if match is None or len(text) > 100:
            return None
        attempt = match["attempt"]
        number = None if attempt is None else int(attempt)
        return SlotId(int(match["config"]), int(match["boot"]), match["arm"], number, int(match["source"] or 0))

    def attempted(self, attempt: int) -> "SlotId":
        """The identity of one attempt at this slot."""
        return SlotId(self.config, self.boot, self.arm, attempt, self.source)

    @property
    def slot(self) -> "SlotId":
        """The slot, without the attempt."""
        return SlotId(self.config, self.boot, self.arm, source=self.source)

    @property
    def block(self) -> tuple[int, int, int]:
        """The identity of the block: all slots of one round of one configuration."""
        return self.source, self.config, self.boot


class Direction(StrEnum):
    """Whether more or less is better. Stated with every figure: ratios of rates and of times have opposite meanings."""

    HIGHER = "higher is better"
    LOWER = "lower is better"


@dataclass(frozen=True, slots=True)
class Metric:
    """A quantity, its unit and its direction. ``primary`` marks the workload's main metric."""

    name: str
    unit: str
    direction: Direction
    primary: bool = True


_TIMES = {"s", "ms", "us", "µs", "ns", "min", "h", "sec", "secs", "msec", "usec", "nsec"} | {
    f"{prefix}second{plural}" for prefix in ("", "milli", "micro", "nano") for plural in ("", "s")
}
_TIMES |= {"minute", "minutes", "hour", "hours"}
_RATES = ("b/s", "b/sec", "bit/s", "bits/s", "bit/sec", "bits/sec", "bps")


def direction_of(unit: str) -> Direction | None:
    """The direction that a unit implies: less of a time is better, more of a rate of bytes or bits; None for others."""
    word = unit.strip().lower()
    if word in _TIMES:
        return Direction.LOWER
    return Direction.HIGHER if word.endswith(_RATES) else None


def sensible(metric: Metric) -> Metric:
    """The metric; raises ValueError when its direction contradicts its unit: a longer time is never better."""
    if direction_of(metric.unit) not in (None, metric.direction):
        raise ValueError(f"{metric.name} in {metric.unit} cannot be {metric.direction!s}")
    return metric


TIME = Metric("time", "s", Direction.LOWER)
IOPS = Metric("iops", "1/s", Direction.HIGHER)
BANDWIDTH = Metric("bandwidth", "B/s", Direction.HIGHER)
LATENCY = Metric("latency_mean", "ns", Direction.LOWER)
LATENCY_P50 = Metric("latency_p50", "ns", Direction.LOWER, primary=False)
LATENCY_P99 = Metric("latency_p99", "ns", Direction.LOWER, primary=False)


@dataclass(slots=True)
class Standing:
    """What is known against a boot, noted when its directory is read (`store`, `results`): all but frozen for that.

    ``doubt`` is why no verdict may rest on it at all, ``caveat`` why none may unless the user accepts it, ``looks`` how
    often one could look at the numbers before the measurement went on, and ``lost`` in how many boots of its arm a
    workload failed, by its name.
    """

    doubt: str = ""
    caveat: str = ""
    looks: int = 1
    lost: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Boot:
    """One guest boot (or its substitute): the source of samples, and its environment.

    ``facts`` must be equal in two arms, so that their ratio shows the effect of the mode alone (CPU model, memory
    backing, huge pages, firmware, cache, kernel …). ``confounds`` are differences that the guest itself declares.
    ``standing`` is not part of its record.
    """

    identity: str
    provenance: Provenance
    facts: Mapping[str, str] = field(default_factory=dict)
    confounds: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    standing: Standing = field(default_factory=Standing, compare=False)

    def record(self) -> dict[str, Any]:
        """The boot as a line of the store."""
        return {
            "kind": "boot",
            "id": self.identity,
            "provenance": str(self.provenance),
            "facts": dict(self.facts),
            "confounds": list(self.confounds),
            "environment": dict(self.environment),
        }


@dataclass(frozen=True, slots=True)
class Sample:
    """One raw value.

    ``arm`` is the mode, with ``#again`` for the second half of an A/A control. ``boot`` numbers the guest boots of an
    arm, None if boots are not known (imported results: each run is then its own boot). ``order`` is the place in
    the order of measurement, ``time`` the wall clock (seconds since 1970, 0 when unknown).
    """

    workload: str
    storage: str
    metric: Metric
    mode: Mode
    value: float
    arm: str = ""
    boot: int | None = None
    iteration: int = 0
    order: int = 0
    time: float = 0.0
    warmup: bool = False
    conditions: Conditions = ()
    family: str = ""
    at: Boot = field(default=Boot("", Provenance.PUBLISHED))
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arm_name(self) -> str:
        """The arm, by default the mode."""
        return self.arm or str(self.mode)

    def record(self) -> dict[str, Any]:
        """The sample as a line of the store, without empty fields."""
        line: dict[str, Any] = {
            "kind": "sample",
            "workload": self.workload,
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "direction": str(self.metric.direction),
            "mode": str(self.mode),
            "value": self.value,
            "order": self.order,
            "boot_id": self.at.identity,
        }
        optional = {
            "storage": self.storage,
            "secondary": not self.metric.primary,
            "arm": self.arm,
            "iteration": self.iteration,
            "time": self.time,
            "warmup": self.warmup,
            "conditions": dict(self.conditions),
            "family": self.family,
            "extra": dict(self.extra),
        }
        line |= {key: value for key, value in optional.items() if value}
        if self.boot is not None:
            line["boot"] = self.boot
        return line


class SampleLine(msgspec.Struct, tag_field="kind", tag="sample"):
    """A sample's line of the store, as it is decoded: its types are checked, its meaning not yet."""

    workload: str
    metric: str
    unit: str
    direction: str
    mode: str
    value: float
    boot_id: str
    storage: str = ""
    secondary: bool = False
    arm: str = ""
    boot: int | None = None
    iteration: int = 0
    order: int = 0
    time: float = 0.0
    warmup: bool = False
    conditions: dict[str, str] = {}
    family: str = ""
    extra: dict[str, Any] = {}


def sample_from(
    record: Mapping[str, Any] | SampleLine, boots: Mapping[str, Boot], metrics: dict[Any, Metric]
) -> Sample:
    """Read a line of the store; raises BadInputError when it is not a sample.

    ``metrics`` is a cache, so that a hundred thousand samples share their metrics.
    """
    try:
        line = record if isinstance(record, SampleLine) else msgspec.convert(record, SampleLine)
        key = (line.metric, line.unit, line.direction, line.secondary)
        metric = metrics.get(key)
        if metric is None:
            made = Metric(line.metric, line.unit, Direction(line.direction), primary=not line.secondary)
            metric = metrics[key] = sensible(made)
        slot = SlotId.parse(line.boot_id)
        if slot is not None and line.boot != slot.boot:
            raise ValueError(f"boot {line.boot!r}, but it belongs to {line.boot_id}")
        if slot is not None and (line.arm or line.mode, line.mode) != (slot.arm, slot.arm.removesuffix(AGAIN)):
            raise ValueError(f"mode {line.mode}, arm {line.arm or line.mode}, but it belongs to {line.boot_id}")
        if slot is not None and line.warmup is not (line.iteration < 0):
            raise ValueError(f"iteration {line.iteration} cannot be {'a' if line.warmup else 'no'} warm-up")
        return Sample(
            workload=line.workload,
            storage=line.storage,
            metric=metric,
            mode=_mode(line.mode),
            value=checked(line.value),
            arm=line.arm,
            boot=line.boot,
            iteration=line.iteration,
            order=line.order,
            time=line.time,
            warmup=line.warmup,
            conditions=_conditions(tuple(line.conditions.items())) if line.conditions else (),
            family=line.family,
            at=boots[line.boot_id],
            extra=line.extra,
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadInputError(f"not a sample: {type(error).__name__}: {error}") from error


@lru_cache(maxsize=16)
def _mode(text: str) -> Mode:
    """The mode of a record; an enumeration takes ten times as long to look up its members."""
    return Mode(text)


@lru_cache(maxsize=4096)
def _conditions(pairs: Conditions) -> Conditions:
    """The conditions of a record in order: equal ones are one object."""
    return tuple(sorted(pairs))


def boot_from(record: Mapping[str, Any]) -> Boot:
    """Read a boot line of the store; raises BadInputError when it is not one."""
    try:
        return Boot(
            identity=str(record["id"]),
            provenance=Provenance(record["provenance"]),
            facts={str(k): str(v) for k, v in record.get("facts", {}).items()},
            confounds=tuple(str(c) for c in record.get("confounds", ())),
            environment=dict(record.get("environment", {})),
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise BadInputError(f"not a boot: {type(error).__name__}: {error}") from error


def number(value: Any) -> float:
    """A number in the output of another program, also as text; raises ValueError as ``checked`` does."""
    if isinstance(value, str):
        try:
            return checked(float(value))
        except ValueError as error:
            raise ValueError(f"{value[:80]!r} is not a number" if value.strip() else "no value") from error
    return checked(value)


def checked(value: Any) -> float:
    """A measured value as a number; raises ValueError for impossible values (NaN, infinite, not a number)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError("a number with more digits than any measurement has") from error
    if not math.isfinite(number):
        raise ValueError(f"{number!r} is not finite")
    return number
