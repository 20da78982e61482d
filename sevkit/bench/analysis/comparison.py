"""What a comparison is: two arms of one series, with everything a reader needs to believe it or not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sevkit.bench.analysis import load, stats
from sevkit.bench.model import AGAIN, Boot, Conditions, Metric, Sample, SlotId
from sevkit.bench.payload import ComparisonRow
from sevkit.vocabulary import Mode

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = stats.ALPHA
# A control that differs takes away the verdicts of its row. With 5 % a good campaign would lose rows by chance alone.
CONTROL_ALPHA = 0.01
FEWEST_BOOTS = 3
MARGIN = 0.02


class Ruling(StrEnum):
    """What a comparison concludes. ``equal`` and ``unequal`` are for controls, where both arms are the same mode."""

    WORSE = "worse"
    BETTER = "better"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"
    EQUAL = "equal"
    UNEQUAL = "unequal"


@dataclass(frozen=True)
class Rules:
    """How strict to be. ``margin`` is the change (as a fraction) below which two modes count as equivalent."""

    baseline: Mode = Mode.NOSEV
    margin: float = MARGIN
    fewest_boots: int = FEWEST_BOOTS
    all_metrics: bool = False
    mixed_provenance: bool = False
    accept_confounds: bool = False


@dataclass(frozen=True)
class Series:
    """What is measured, without the mode: samples of one series may be compared."""

    workload: str
    storage: str
    metric: str
    conditions: Conditions = ()


@dataclass(eq=False)
class Arm:
    """The samples of one series in one arm, warm-ups left out, in order of measurement. Equal to itself alone.

    All but ``samples`` is computed once: ask for it when the samples are complete.
    """

    name: str
    mode: Mode
    samples: list[Sample] = field(default_factory=list)
    memo: dict[object, list[str]] = field(default_factory=dict, init=False, repr=False, compare=False)  # of checks
    _blocks: dict[tuple[int, int, int], float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def values(self) -> "NDArray[np.float64]":
        """The raw values."""
        return np.array([s.value for s in self.samples], dtype=np.float64)

    @cached_property
    def knows_boots(self) -> bool:
        """Whether boots were recorded; if not, each run stands for itself."""
        return None not in {s.boot for s in self.samples}

    @cached_property
    def labels(self) -> "NDArray[np.int64]":
        """The boot of each sample, or its own number where boots are not known."""
        if not self.knows_boots:
            return np.arange(len(self.samples))
        return np.array([s.boot for s in self.samples], dtype=np.int64)

    @cached_property
    def metrics(self) -> list[Metric]:
        """The metrics of the samples: one, unless somebody mixed units or directions."""
        return list({id(s.metric): s.metric for s in self.samples}.values())  # samples share them: few are left

    @cached_property
    def boots(self) -> list[Boot]:
        """The boots of the samples, each once."""
        return list({s.at.identity: s.at for s in self.samples}.values())

    @cached_property
    def loads(self) -> dict[str, float]:
        """The load of other programs, per CPU of the host, while each boot gave its samples."""
        return load.of_samples(self.samples)

    @cached_property
    def claims(self) -> set[tuple[str, int | None]]:
        """The boots of the samples with the numbers that the samples give them: one each, unless somebody lied."""
        return {(s.at.identity, s.boot) for s in self.samples}

    @cached_property
    def logs(self) -> "NDArray[np.float64]":
        """The mean ln(value) of each boot."""
        return stats.boot_means(self.values, self.labels)

    def blocks(self) -> "dict[tuple[int, int, int], float] | None":
        """The mean ln(value) in each block; None where boots were not laid out in blocks. Of a complete arm only."""
        if self._blocks:
            return self._blocks
        slots = {s.at.identity: SlotId.parse(s.at.identity) for s in self.samples}
        numbers: dict[tuple[int, int, int], int] = {}
        places: dict[str, int] = {}
        for identity, slot in slots.items():
            if slot is None:
                return None
            places[identity] = numbers.setdefault(slot.block, len(numbers))
        labels = np.array([places[s.at.identity] for s in self.samples], dtype=np.int64)
        self._blocks = dict(zip(numbers, stats.boot_means(self.values, labels).tolist(), strict=True))
        return self._blocks


Table = Mapping[Series, Mapping[str, Arm]]


@dataclass(frozen=True)
class Comparison:
    """One arm against another, with everything a reader needs to believe it or not."""

    series: Series
    metric: Metric
    family: str
    base: Arm
    other: Arm
    ratio: float | None
    effect: stats.Effect | None
    outcome: Ruling = Ruling.INCONCLUSIVE
    reason: str = ""
    warnings: tuple[str, ...] = ()
    p_holm: float | None = None
    noise_floor: float | None = None
    margin: float = MARGIN
    tests: int = 1

    @property
    def control(self) -> bool:
        """Whether the other arm is the same mode measured again: an A/A control."""
        return self.base.mode == self.other.mode and self.other.name.endswith(AGAIN)

    @cached_property
    def looks(self) -> int:
        """How often one could look at the numbers, the last time included: at each stopping rule's end, and each start.

        Of results directories that are joined, one that was begun when others had ended is a continuation of them.
        """
        boots = [at for arm in (self.base, self.other) for at in arm.boots]
        rules = {_source(at.identity): at.standing.looks - 1 for at in boots}
        joined = _continued([*self.base.samples, *self.other.samples]) if len(rules) > 1 else 0
        return 1 + sum(rules.values()) + joined

    @property
    def equivalence_p(self) -> float | None:
        """The p value of the two one-sided tests within the margin, multiplied by the price of the looks."""
        if self.effect is None:
            return None
        return min(1.0, self.effect.equivalence_p(self.margin) * stats.price(self.looks))

    def refused(self, reasons: Sequence[str]) -> "Comparison":
        """The comparison without a right to a verdict."""
        return replace(self, outcome=Ruling.REFUSED, reason="; ".join(reasons))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the ratio; for ``equivalent`` and ``equal`` the 90 % interval, which their test uses."""
        return None if self.effect is None else self.effect.interval(self.confidence)

    @property
    def confidence(self) -> float:
        """The confidence of the interval that is shown. Two one-sided tests at 5 % belong to a 90 % interval."""
        return 0.9 if self.outcome in (Ruling.EQUIVALENT, Ruling.EQUAL) else stats.CONFIDENCE

    def as_dict(self) -> ComparisonRow:
        """The comparison as JSON values; ``interval`` is null where nothing is known of the variation."""
        found = self.effect
        return {
            "workload": self.series.workload,
            "storage": self.series.storage or None,
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "direction": str(self.metric.direction),
            "baseline_mode": str(self.base.mode),
            "mode": str(self.other.mode),
            "ratio": self.ratio,
            "interval": None if self.interval is None else list(self.interval),
            "confidence": None if found is None else self.confidence,
            "blocks": found is not None and found.blocks,
            "verdict": str(self.outcome),
            "reason": self.reason,
            "warnings": list(self.warnings),
            "control": self.control,
            "conditions": dict(self.series.conditions),
            "family": self.family or None,
            "provenance": sorted({str(at.provenance) for at in (*self.base.boots, *self.other.boots)}),
            "baseline_value": _geometric(self.base, self.other),
            "value": _geometric(self.other, self.base),
            "boots": [len(np.unique(self.base.labels)), len(np.unique(self.other.labels))],
            "samples": [len(self.base.samples), len(self.other.samples)],
            "p_value": None if found is None else found.p_value,
            "p_holm": self.p_holm,
            "noise_floor": self.noise_floor,
            "equivalence": None if found is None else {"margin": self.margin, "p": self.equivalence_p},
            "smallest_detectable": None if found is None else found.smallest_detectable(self.tests, self.margin),
            "boots_for_margin": None if found is None else found.boots_for(self.margin, self.tests),
        }


def _source(identity: str) -> int:
    """The number of the results directory of a boot, where several are compared together."""
    slot = SlotId.parse(identity)
    return 0 if slot is None else slot.source


def _continued(samples: Sequence[Sample]) -> int:
    """How often one of several results directories was begun when one could see a verdict on those that had ended.

    Directories that were measured at the same time, as on several hosts, count once. Imported results have no order.
    """
    times: dict[int, list[float]] = {}
    rounds: dict[int, set[int]] = {}
    for sample in samples:
        slot = SlotId.parse(sample.at.identity)
        if slot is not None:
            times.setdefault(slot.source, []).append(sample.time)
            rounds.setdefault(slot.source, set()).add(slot.boot)
    spans = sorted((min(found), max(found), len(rounds[source])) for source, found in times.items())
    looks, looked = 0, -1.0
    for begin, _, _ in spans:
        ended = [(end, count) for _, end, count in spans if end < begin]
        if sum(count for _, count in ended) >= FEWEST_BOOTS and max(end for end, _ in ended) > looked:
            looks, looked = looks + 1, begin
    return looks


def _geometric(arm: Arm, other: Arm) -> float | None:
    """The geometric mean of an arm, over the blocks that the other one has too: the values belong to their ratio."""
    values = arm.values
    if not len(values) or (values <= 0).any():
        return None
    own, theirs = arm.blocks(), other.blocks()
    if own is None or theirs is None or not own.keys() & theirs.keys():
        return float(np.exp(arm.logs.mean()))
    return float(np.exp(np.mean([own[block] for block in sorted(own.keys() & theirs.keys())])))
