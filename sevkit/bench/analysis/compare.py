"""From samples to comparisons: which arms may be set against each other, and with what numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from sevkit.bench.analysis import checks, stats, verdicts
from sevkit.bench.analysis.comparison import Arm, Comparison, Rules, Ruling, Series, Table
from sevkit.bench.model import AGAIN, Conditions, Sample
from sevkit.vocabulary import Mode

if TYPE_CHECKING:
    from numpy.typing import NDArray


def compare(samples: Iterable[Sample], rules: Rules | None = None) -> list[Comparison]:
    """Compare every arm with the baseline of its series; controls come right after the series they belong to."""
    rules = rules or Rules()
    return compared(arms_of(samples, all_metrics=rules.all_metrics), rules)


def compared(table: Table, rules: Rules) -> list[Comparison]:
    """The same of samples that are sorted already: a report asks several things of one table."""
    found: list[Comparison] = []
    for series, arms in table.items():
        base = arms.get(str(rules.baseline))
        if base is None:
            continue
        # The second half of a control belongs to its own mode, which need not be the baseline.
        others = [arm for name, arm in arms.items() if name != base.name and _may_follow(base, arm)]
        with np.errstate(over="ignore", invalid="ignore"):  # of values at the edge of a double, which are refused
            found += [_pair(series, base, other, rules) for other in others]
    return verdicts.decide(found, rules)


def _may_follow(base: Arm, arm: Arm) -> bool:
    return arm.mode is base.mode or not arm.name.endswith(AGAIN)


def arms_of(samples: Iterable[Sample], *, all_metrics: bool = False) -> Table:
    """Sort samples into series and arms. Warm-ups are left out, and secondary metrics unless they are asked for."""
    found: dict[tuple[str, str, str, Conditions, str], Arm] = {}
    for sample in samples:
        metric = sample.metric
        if sample.warmup or not (all_metrics or metric.primary):
            continue
        key = (sample.workload, sample.storage, metric.name, sample.conditions, sample.arm or str(sample.mode))
        arm = found.get(key)
        if arm is None:
            arm = found[key] = Arm(key[-1], sample.mode)
        arm.samples.append(sample)
    table: dict[Series, dict[str, Arm]] = {}
    for key, arm in found.items():
        arm.samples.sort(key=attrgetter("order"))
        table.setdefault(Series(*key[:-1]), {})[arm.name] = arm
    return {series: _by_mode(table[series]) for series in _in_order(table)}


def _in_order(table: Mapping[Series, Mapping[str, Arm]]) -> list[Series]:
    """By family and name: the order of measurement is shuffled, and would differ from campaign to campaign."""
    families = {series: next(iter(arms.values())).samples[0].family for series, arms in table.items()}
    return sorted(table, key=lambda s: (families[s], s.workload, s.storage, s.metric, _sortable(s.conditions)))


def _sortable(conditions: Conditions) -> list[tuple[str, float, str]]:
    """Conditions such that 16 vCPUs come after 4."""
    return [(key, float(value) if value.isdecimal() else 0.0, value) for key, value in conditions]


def _by_mode(arms: dict[str, Arm]) -> dict[str, Arm]:
    rank = {mode: index for index, mode in enumerate(Mode)}
    return dict(sorted(arms.items(), key=lambda item: (rank[item[1].mode], item[0].endswith(AGAIN), item[0])))


def _pair(series: Series, base: Arm, other: Arm, rules: Rules) -> Comparison:
    """Ratio and interval of two arms, and what forbids a verdict."""
    first = other.samples[0]
    known = base.knows_boots and other.knows_boots
    warnings = checks.warnings(base, other)
    blank = Comparison(series, first.metric, first.family, base, other, None, None, margin=rules.margin)
    mixed = None if rules.mixed_provenance else checks.mixed_provenance((*base.boots, *other.boots))
    if (unusable := mixed or _unusable(base, other)) is not None:
        return replace(blank, outcome=Ruling.REFUSED, reason=unusable, warnings=tuple(warnings))
    logs, blocks = _observations(base, other)
    found = stats.effect(*logs, blocks=blocks, satterthwaite=not known)
    if found is None:
        warnings.insert(0, f"no interval: {len(logs[0])} and {len(logs[1])} independent runs, two of each are needed")
    elif found.degenerate:
        warnings.insert(0, "one arm has no variation at all, as no measurement has: copied or rounded values?")
    reasons, more = _obstacles(base, other, rules, (len(logs[0]), len(logs[1])))
    if found is not None and found.standard_error == 0:
        reasons = [*reasons, checks.NO_VARIATION]
    return replace(
        blank,
        ratio=float(np.exp(logs[1].mean() - logs[0].mean())) if len(logs[0]) else None,
        effect=found,
        outcome=Ruling.REFUSED if reasons else Ruling.INCONCLUSIVE,
        reason="; ".join(reasons),
        warnings=(*warnings, *more),
    )


def _obstacles(base: Arm, other: Arm, rules: Rules, counts: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Why there may be no verdict, and the confounds that the user accepted."""
    confounds = checks.confounds(base, other) + checks.caveats((base, other))
    reasons = checks.doubts((*base.boots, *other.boots)) + ([] if rules.accept_confounds else confounds)
    accepted = [f"accepted: {reason}" for reason in confounds] if rules.accept_confounds else []
    known = base.knows_boots and other.knows_boots
    if not known:
        reasons = [*reasons, "boots are not known: runs of one boot are no independent repetitions"]
    if min(counts) < rules.fewest_boots:
        unit = "boots" if known else "runs"
        reasons = [*reasons, f"too few {unit}: {counts[0]} and {counts[1]}, a verdict needs {rules.fewest_boots}"]
    return reasons, accepted


def _unusable(base: Arm, other: Arm) -> str | None:
    if (reason := checks.no_ratio((base, other))) is not None:
        return reason
    metrics = (*base.metrics, *other.metrics)
    for what, found in (
        ("units", {metric.unit for metric in metrics}),
        ("directions", {str(metric.direction) for metric in metrics}),
    ):
        if len(found) > 1:
            return f"{what} differ: {' and '.join(sorted(found))}"
    return checks.mislabelled(base) or checks.mislabelled(other)


def _observations(base: Arm, other: Arm) -> "tuple[tuple[NDArray[np.float64], NDArray[np.float64]], bool]":
    """The boots' log means of two arms, and whether they are paired by block.

    The design decides, not the data: where both arms were booted in blocks, the blocks that have both are compared.
    """
    first, second = base.blocks(), other.blocks()
    if first is None or second is None:
        return (base.logs, other.logs), False
    common = sorted(first.keys() & second.keys())
    return (np.array([first[b] for b in common]), np.array([second[b] for b in common])), True
