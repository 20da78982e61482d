"""Contrasts between configurations of one campaign: cells, rounds, and what stands between them and a verdict.

The model of a row is a mixed one: ln(value) = cell + round + boot. A cell is a configuration in one mode, and a fixed
effect; a round is a random effect, since what moves the host moves all cells; boots are random with a variance of their
own in each cell. A contrast, a weighted sum of cells whose weights add up to zero, is then free of the round, and has
one value per round. Student's t on these values is exact for every ratio of the variances, where the usual mixed
model with one variance of boots gives too narrow intervals to the noisier mode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sevkit.bench.analysis import checks, stats
from sevkit.bench.analysis.comparison import Arm, Comparison, Rules, Ruling, Series, Table
from sevkit.bench.model import Conditions, Direction, Metric, Sample, SlotId

Round = tuple[int, int]
COST = Metric("cost", "times", Direction.LOWER)


@dataclass(frozen=True)
class Contrast:
    """What a row gains or loses: ``terms`` are cells with their weights, whose sum is zero.

    ``ignore`` are facts that the cells are meant to differ in.
    """

    before: Arm
    after: Arm
    terms: tuple[tuple[float, Arm], ...]
    ignore: frozenset[str] = frozenset()


def step(before: Arm, after: Arm, ignore: frozenset[str] = frozenset()) -> Contrast:
    """From one cell to another."""
    return Contrast(before, after, ((-1.0, before), (1.0, after)), ignore)


def change(before: tuple[Arm, Arm], after: tuple[Arm, Arm], ignore: frozenset[str] = frozenset()) -> Contrast:
    """How the cost of a mode changes between two pairs (baseline, mode): an interaction."""
    terms = ((1.0, before[0]), (-1.0, before[1]), (-1.0, after[0]), (1.0, after[1]))
    return Contrast(before[1], after[1], terms, ignore)


def rounds_of(arm: Arm) -> dict[Round, float]:
    """The mean ln(value) of a cell in each round, as a cost: positive when it got worse; empty without rounds."""
    found = arm.blocks() or {}
    sign = 1.0 if arm.samples[0].metric.direction is Direction.LOWER else -1.0
    return {(source, boot): sign * value for (source, _, boot), value in found.items()}


def common(arms: Sequence[Arm]) -> list[Round]:
    """The rounds that all cells have."""
    tables = [rounds_of(arm).keys() for arm in arms]
    return sorted(set(tables[0]).intersection(*tables[1:])) if tables else []


def values(contrast: Contrast, rounds: Sequence[Round]) -> "tuple[stats.Array, stats.Array]":
    """The two sides of a contrast in each round: the sums of the negative and of the positive terms."""
    sides = np.zeros((2, len(rounds)))
    for weight, arm in contrast.terms:
        table = rounds_of(arm)
        sides[int(weight > 0)] += abs(weight) * np.array([table[r] for r in rounds])
    return sides[0], sides[1]


def compared(series: Series, contrast: Contrast, rules: Rules, rounds: Sequence[Round]) -> Comparison:
    """A contrast as a comparison of costs, without a verdict yet (see ``verdicts.decide``)."""
    arms = [arm for _, arm in contrast.terms]
    first = contrast.after.samples[0]
    blank = Comparison(series, COST, first.family, contrast.before, contrast.after, None, None, margin=rules.margin)
    reasons = _unusable(arms, rules)
    if reasons:
        return blank.refused(reasons)
    found = stats.effect(*values(contrast, rounds), blocks=True) if rounds else None
    reasons = checks.doubts([at for arm in arms for at in arm.boots])
    if not rules.accept_confounds:
        reasons += confounded(arms, contrast.ignore) + checks.caveats(arms)
    if len(rounds) < rules.fewest_boots:
        reasons = [*reasons, f"too few rounds with all of it: {len(rounds)}, a verdict needs {rules.fewest_boots}"]
    if found is not None and found.standard_error == 0:
        reasons = [*reasons, checks.NO_VARIATION]
    ratio = None if found is None else found.ratio
    made = Comparison(series, COST, first.family, contrast.before, contrast.after, ratio, found, margin=rules.margin)
    return made.refused(reasons) if reasons else made


def _unusable(arms: Sequence[Arm], rules: Rules) -> list[str]:
    """Why cells cannot be set against each other at all."""
    reason = checks.no_ratio(arms)
    found = [] if reason is None else [reason]
    if len({(metric.unit, metric.direction) for arm in arms for metric in arm.metrics}) > 1:
        found.append("units or directions differ")
    if any(arm.blocks() is None for arm in arms):
        found.append("boots were not laid out in rounds")
    found += [reason for arm in arms if (reason := checks.mislabelled(arm)) is not None]
    mixed = None if rules.mixed_provenance else checks.mixed_provenance([at for arm in arms for at in arm.boots])
    return [*found, *([] if mixed is None else [mixed])]


def confounded(arms: Sequence[Arm], ignore: frozenset[str]) -> list[str]:
    """What else differs between the cells of one round, each cell against the first."""
    found: dict[str, None] = {}
    for arm in arms[1:]:
        key = (arm, ignore)  # each cell is in several contrasts
        if key not in arms[0].memo:
            arms[0].memo[key] = checks.confounds(arms[0], arm, across=True, ignore=ignore)
        found |= dict.fromkeys(arms[0].memo[key])
    return list(found)


def pooled(series: Series, parts: Sequence[tuple[Contrast, Comparison]], rules: Rules) -> Comparison | None:
    """The mean of one contrast over several rows, as a comparison of its own; rows of one boot count once per round."""
    usable = [(contrast, c) for contrast, c in parts if c.outcome is not Ruling.REFUSED and c.effect is not None]
    if len(usable) < 2:
        return None
    rounds = common([arm for contrast, _ in usable for _, arm in contrast.terms])
    if len(rounds) < rules.fewest_boots:
        return None
    sides = np.mean([values(contrast, rounds) for contrast, _ in usable], axis=0)
    found = stats.effect(sides[0], sides[1], blocks=True)
    _, c = usable[0]
    ratio = None if found is None else found.ratio
    return Comparison(series, COST, series.workload, c.base, c.other, ratio, found, margin=rules.margin)


def split(samples: Sequence[Sample], axis: str) -> list[Sample]:
    """The samples of a campaign that were measured with a value on ``axis``, or without one."""
    return [s for s in samples if dict(s.conditions).get(axis)]


def without(conditions: Conditions, axis: str) -> Conditions:
    """Conditions without one key."""
    return tuple((key, value) for key, value in conditions if key != axis)


def by_axis(table: Table, axis: str) -> dict[Series, dict[str, Mapping[str, Arm]]]:
    """Series that differ on one axis only, together: the series without it, then arms by the axis' value."""
    found: dict[Series, dict[str, Mapping[str, Arm]]] = {}
    for series, arms in table.items():
        if axis == "storage":
            key = Series(series.workload, "", series.metric, series.conditions)
            value = series.storage
        else:
            key = Series(series.workload, series.storage, series.metric, without(series.conditions, axis))
            value = dict(series.conditions).get(axis, "")
        found.setdefault(key, {})[value] = arms
    return found


def slots_known(table: Table) -> bool:
    """Whether the samples are of a campaign of sevkit's, laid out in rounds."""
    boots = (at for arms in table.values() for arm in arms.values() for at in arm.boots)
    return all(SlotId.parse(at.identity) is not None for at in boots)
