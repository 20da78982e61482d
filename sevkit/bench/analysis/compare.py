"""From samples to comparisons: which arms may be set against each other, and what may be concluded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from sevkit.bench.analysis import checks, stats
from sevkit.bench.model import AGAIN, Conditions, Direction, Metric, Sample
from sevkit.bench.payload import ComparisonRow
from sevkit.vocabulary import Mode

if TYPE_CHECKING:
    from numpy.typing import NDArray

ALPHA = 0.05
FEWEST_BOOTS = 3
MARGIN = 0.02


class Outcome(StrEnum):
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
    seed: int = 0


@dataclass(frozen=True)
class Series:
    """What is measured, without the mode: samples of one series may be compared."""

    workload: str
    storage: str
    metric: str
    conditions: Conditions = ()


@dataclass
class Arm:
    """The samples of one series in one arm, warm-ups left out, in order of measurement."""

    name: str
    mode: Mode
    samples: list[Sample] = field(default_factory=list)

    @property
    def values(self) -> "NDArray[np.float64]":
        """The raw values."""
        return np.array([s.value for s in self.samples], dtype=np.float64)

    @property
    def knows_boots(self) -> bool:
        """Whether boots were recorded; if not, each run stands for itself."""
        return all(s.boot is not None for s in self.samples)

    def labels(self) -> "NDArray[np.int64]":
        """The boot of each sample, or its own number where boots are not known."""
        if not self.knows_boots:
            return np.arange(len(self.samples))
        return np.array([s.boot for s in self.samples], dtype=np.int64)

    def logs(self) -> "NDArray[np.float64]":
        """The mean ln(value) of each boot."""
        return stats.boot_means(self.values, self.labels())


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
    outcome: Outcome = Outcome.INCONCLUSIVE
    reason: str = ""
    warnings: tuple[str, ...] = ()
    p_holm: float | None = None
    noise_floor: float | None = None
    margin: float = MARGIN

    @property
    def control(self) -> bool:
        """Whether both arms are the same mode: an A/A control."""
        return self.base.mode == self.other.mode

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the ratio."""
        return None if self.effect is None else (self.effect.low, self.effect.high)

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
            "verdict": str(self.outcome),
            "reason": self.reason,
            "warnings": list(self.warnings),
            "control": self.control,
            "conditions": dict(self.series.conditions),
            "family": self.family or None,
            "provenance": sorted({str(s.at.provenance) for s in (*self.base.samples, *self.other.samples)}),
            "baseline_value": _geometric(self.base),
            "value": _geometric(self.other),
            "boots": [len(np.unique(self.base.labels())), len(np.unique(self.other.labels()))],
            "samples": [len(self.base.samples), len(self.other.samples)],
            "p_value": None if found is None else found.p_value,
            "p_holm": self.p_holm,
            "noise_floor": self.noise_floor,
            "equivalence": None if found is None else {"margin": self.margin, "p": found.equivalence_p(self.margin)},
            "smallest_detectable": None if found is None else found.smallest_detectable(),
        }


def compare(samples: Iterable[Sample], rules: Rules | None = None) -> list[Comparison]:
    """Compare every arm with the baseline of its series; controls come right after the series they belong to."""
    rules = rules or Rules()
    found: list[Comparison] = []
    for series, arms in arms_of(samples, all_metrics=rules.all_metrics).items():
        base = arms.get(str(rules.baseline))
        if base is None:
            continue
        others = [arm for name, arm in arms.items() if name != base.name]
        found += [_pair(series, base, other, rules) for other in others]
    return _decide(found, rules)


def arms_of(samples: Iterable[Sample], *, all_metrics: bool = False) -> dict[Series, dict[str, Arm]]:
    """Sort samples into series and arms. Warm-ups are left out, and secondary metrics unless they are asked for."""
    table: dict[Series, dict[str, Arm]] = {}
    interned: dict[tuple[str, str, str, Conditions], Series] = {}
    for sample in samples:
        if sample.warmup or not (all_metrics or sample.metric.primary):
            continue
        key = (sample.workload, sample.storage, sample.metric.name, sample.conditions)
        series = interned.get(key)
        if series is None:
            series = interned[key] = Series(*key)
        arms = table.setdefault(series, {})
        name = sample.arm_name
        if name not in arms:
            arms[name] = Arm(name, sample.mode)
        arms[name].samples.append(sample)
    for arms in table.values():
        for arm in arms.values():
            arm.samples.sort(key=lambda s: s.order)
    return {series: _by_mode(table[series]) for series in _in_order(table)}


def _in_order(found: Iterable[Series]) -> list[Series]:
    """Workloads in the order in which they first came, the series of each together."""
    first: dict[str, int] = {}
    for series in found:
        first.setdefault(series.workload, len(first))
    return sorted(found, key=lambda s: (first[s.workload], s.storage, s.metric, s.conditions))


def _by_mode(arms: dict[str, Arm]) -> dict[str, Arm]:
    rank = {mode: index for index, mode in enumerate(Mode)}
    return dict(sorted(arms.items(), key=lambda item: (rank[item[1].mode], item[0].endswith(AGAIN), item[0])))


def _pair(series: Series, base: Arm, other: Arm, rules: Rules) -> Comparison:
    """Ratio and interval of two arms, and what forbids a verdict."""
    first = other.samples[0]
    blank = Comparison(series, first.metric, first.family, base, other, None, None, margin=rules.margin)
    warnings = checks.warnings(base.samples, other.samples, knows_boots=base.knows_boots and other.knows_boots)
    if rules.mixed_provenance is False and (mixed := checks.mixed_provenance(base.samples, other.samples)):
        return replace(blank, outcome=Outcome.REFUSED, reason=mixed, warnings=tuple(warnings))
    if (unusable := _unusable(base, other)) is not None:
        return replace(blank, outcome=Outcome.REFUSED, reason=unusable, warnings=tuple(warnings))
    logs = base.logs(), other.logs()
    found = stats.effect(*logs, seed=rules.seed)
    if found is None:
        warnings.insert(0, f"no interval: {len(logs[0])} and {len(logs[1])} independent runs, two of each are needed")
    elif found.degenerate:
        warnings.insert(0, "one arm has no variation at all, as no measurement has: copied or rounded values?")
    ratio = float(np.exp(logs[1].mean() - logs[0].mean()))
    reasons = [] if rules.accept_confounds else checks.confounds(base.samples, other.samples)
    if rules.accept_confounds:
        warnings += [f"accepted: {reason}" for reason in checks.confounds(base.samples, other.samples)]
    if min(len(log) for log in logs) < rules.fewest_boots:
        unit = "boots" if base.knows_boots else "runs"
        reasons.append(
            f"too few {unit}: {len(logs[0])} and {len(logs[1])}, a verdict needs {rules.fewest_boots} of each"
        )
    outcome = Outcome.REFUSED if reasons else Outcome.INCONCLUSIVE
    return replace(
        blank, ratio=ratio, effect=found, outcome=outcome, reason="; ".join(reasons), warnings=tuple(warnings)
    )


def _unusable(base: Arm, other: Arm) -> str | None:
    for arm in (base, other):
        if (arm.values <= 0).any():
            return f"{arm.name} has values that are zero or below: a ratio has no meaning"
    if base.samples[0].metric.unit != other.samples[0].metric.unit:
        return f"units differ: {base.samples[0].metric.unit} and {other.samples[0].metric.unit}"
    return None


def _decide(found: list[Comparison], rules: Rules) -> list[Comparison]:
    """Holm's correction over all comparisons shown together, the controls apart; then the verdicts."""
    adjusted = {**_corrected([c for c in found if c.control]), **_corrected([c for c in found if not c.control])}
    ready = [replace(c, p_holm=adjusted.get(id(c))) for c in found]
    controls = {c.series: c for c in ready if c.control and c.effect is not None}
    return [_judge(c, controls, rules) for c in ready]


def _corrected(group: Sequence[Comparison]) -> Mapping[int, float]:
    tested = [c for c in group if c.effect is not None]
    values = stats.holm([c.effect.p_value for c in tested if c.effect is not None])
    return dict(zip((id(c) for c in tested), values, strict=True))


def _judge(c: Comparison, controls: Mapping[Series, Comparison], rules: Rules) -> Comparison:
    if c.effect is None or c.outcome is Outcome.REFUSED:
        return c
    if c.control:
        return _judge_control(c, rules)
    control = controls.get(c.series)
    floor = _half_width(control.effect) if control is not None and control.effect is not None else None
    c = replace(c, noise_floor=None if floor is None else float(np.expm1(floor)))
    if control is None:
        c = replace(c, warnings=(*c.warnings, "no A/A control: the noise floor is not known"))
    elif _differs(control):
        reason = "the A/A control failed: the same mode measured twice differs"
        return replace(c, outcome=Outcome.INCONCLUSIVE, reason=reason)
    outcome, reason = _verdict(c, floor or 0.0, rules)
    return replace(c, outcome=outcome, reason=reason)


def _judge_control(c: Comparison, rules: Rules) -> Comparison:
    """``equal`` needs as much evidence as ``equivalent``: that nothing was seen to differ may be for want of boots."""
    assert c.effect is not None
    if _differs(c):
        reason = "the same mode measured twice differs: something else than the mode moves the numbers"
        return replace(c, outcome=Outcome.UNEQUAL, reason=reason)
    if c.effect.equivalence_p(rules.margin) < ALPHA:
        reason = f"the same mode measured twice is the same within {rules.margin:.1%} (two one-sided tests)"
        return replace(c, outcome=Outcome.EQUAL, reason=reason)
    width = np.expm1(_half_width(c.effect))
    reason = f"the same mode measured twice shows no difference, but one of {width:.1%} could hide in the interval"
    return replace(c, outcome=Outcome.INCONCLUSIVE, reason=reason)


def _differs(c: Comparison) -> bool:
    """Significant after correction, and the interval agrees."""
    assert c.effect is not None
    return (c.p_holm or 0.0) < ALPHA and not c.effect.low <= 1 <= c.effect.high


def _verdict(c: Comparison, floor: float, rules: Rules) -> tuple[Outcome, str]:
    assert c.effect is not None
    change = abs(c.effect.log_ratio)
    if _differs(c) and change > floor:
        grew = c.effect.log_ratio > 0
        better = grew is (c.metric.direction is Direction.HIGHER)
        return (Outcome.BETTER if better else Outcome.WORSE), ""
    if c.effect.equivalence_p(rules.margin) < ALPHA:
        return Outcome.EQUIVALENT, f"within {rules.margin:.1%} either way, with evidence (two one-sided tests)"
    smallest = c.effect.smallest_detectable()
    if _differs(c):
        return Outcome.INCONCLUSIVE, f"the change is below the noise floor of the A/A control ({np.expm1(floor):.1%})"
    return Outcome.INCONCLUSIVE, f"no difference shown; one of {smallest:.1%} would have been (power {stats.POWER:.0%})"


def _half_width(found: stats.Effect) -> float:
    return float(np.log(found.high / found.low) / 2)


def _geometric(arm: Arm) -> float | None:
    values = arm.values
    return float(np.exp(arm.logs().mean())) if len(values) and (values > 0).all() else None
