"""Curves along a sweep, and whether the cost of a mode changes along them (the interaction of mode and axis)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from sevkit.bench.analysis import cells, verdicts
from sevkit.bench.analysis.cells import Contrast
from sevkit.bench.analysis.comparison import Arm, Comparison, Rules, Ruling, Series, Table
from sevkit.bench.model import AGAIN, Metric
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode

# Each axis of a sweep, with the facts of a boot that differ because of it.
AXES: Mapping[str, frozenset[str]] = {
    "vcpus": frozenset({"guest CPUs"}),
    "memory_mib": frozenset({"memory"}),
    "guests": frozenset(),
    "storage": frozenset(),
    "cache": frozenset({"cache"}),
}
_NUMBERS = ("vcpus", "memory_mib", "guests")


class Course(StrEnum):
    """What a curve does."""

    CHANGES = "changes"
    LEVEL = "level"
    INCONCLUSIVE = "inconclusive"
    REFUSED = "refused"


@dataclass(frozen=True)
class Point:
    """The cost of a mode at one value of the axis."""

    value: str
    cost: Comparison


@dataclass(frozen=True)
class Interaction:
    """How much the cost changes: from the first value to ``value``, or per doubling (``value`` is empty)."""

    value: str
    found: Comparison


@dataclass(frozen=True)
class Curve:
    """One mode of one row along one axis."""

    series: Series
    metric: Metric
    family: str
    axis: str
    mode: Mode
    points: tuple[Point, ...]
    interactions: tuple[Interaction, ...]

    @property
    def course(self) -> Course:
        """The conclusion over all values."""
        outcomes = {i.found.outcome for i in self.interactions}
        if outcomes & {Ruling.WORSE, Ruling.BETTER}:
            return Course.CHANGES
        if outcomes == {Ruling.EQUIVALENT}:
            return Course.LEVEL
        return Course.REFUSED if outcomes == {Ruling.REFUSED} else Course.INCONCLUSIVE


def curves(table: Table, rules: Rules) -> list[Curve]:
    """All curves of a campaign; raises BadInputError when nothing was swept."""
    if not cells.slots_known(table):
        raise BadInputError(
            "these results were not measured in rounds, so that values of a sweep cannot be compared",
            hint="`sevkit bench run --sweep vcpus=1,2,4 --output R` measures them",
        )
    found: list[tuple[Curve, list[Comparison]]] = []
    for axis in AXES:
        for series, levels in cells.by_axis(table, axis).items():
            known = {value: arms for value, arms in levels.items() if value and str(rules.baseline) in arms}
            if len(known) > 1:
                found += _curves(series, axis, known, rules)
    if not found:
        raise BadInputError(
            "nothing was measured at two values of a sweep, in the baseline and another mode",
            hint="`sevkit bench run --sweep vcpus=1,2,4 --output R` measures them",
        )
    return _judged(found, rules)


def _curves(
    series: Series, axis: str, levels: Mapping[str, Mapping[str, Arm]], rules: Rules
) -> Iterator[tuple[Curve, list[Comparison]]]:
    names = sorted(levels, key=float) if _are_numbers(axis, levels) else sorted(levels)
    base, again = str(rules.baseline), f"{rules.baseline}{AGAIN}"
    modes = [name for name in levels[names[0]] if name != base and not name.endswith(AGAIN)]
    for mode in modes:
        at = [(name, levels[name]) for name in names if mode in levels[name]]
        if len(at) < 2:
            continue
        pairs = [(name, (arms[base], arms[mode])) for name, arms in at]
        repeats = [(name, (arms[base], arms[again])) for name, arms in at if again in arms]
        first = pairs[0][1][1]
        points = tuple(_point(series, axis, name, pair, rules) for name, pair in pairs)
        tests = [_tested(series, axis, word, contrast, rules) for word, contrast in _contrasts(axis, pairs)]
        # The same contrasts of the baseline measured twice are the noise floor of each.
        controls = [_tested(series, axis, word, contrast, rules).found for word, contrast in _contrasts(axis, repeats)]
        curve = Curve(series, first.samples[0].metric, first.samples[0].family, axis, first.mode, points, tuple(tests))
        yield curve, controls


def _are_numbers(axis: str, values: Iterable[str]) -> bool:
    """Whether the values of an axis are numbers above zero, as a plan writes them; others may be in a foreign file."""
    return axis in _NUMBERS and all(value.isdecimal() and 0 < int(value[:20]) < 10**12 for value in values)


def _point(series: Series, axis: str, name: str, pair: tuple[Arm, Arm], rules: Rules) -> Point:
    at = replace(series, conditions=(*series.conditions, (axis, name)))
    return Point(name, cells.compared(at, cells.step(*pair), rules, cells.common(pair)))


def _contrasts(axis: str, pairs: Sequence[tuple[str, tuple[Arm, Arm]]]) -> Iterator[tuple[str, Contrast]]:
    """Each value against the first; and the trend per doubling, where there are three numbers or more."""
    if len(pairs) < 2:
        return
    for name, pair in pairs[1:]:
        yield name, cells.change(pairs[0][1], pair, AXES[axis])
    if len(pairs) > 2 and _are_numbers(axis, [name for name, _ in pairs]):
        yield "", _trend(pairs, AXES[axis])


def _trend(pairs: Sequence[tuple[str, tuple[Arm, Arm]]], ignore: frozenset[str]) -> Contrast:
    """The slope of the least-squares line through the logarithms of the costs, over log2 of the values."""
    x = np.log2([float(name) for name, _ in pairs])
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    terms = [
        term
        for weight, (_, (plain, mode)) in zip(weights.tolist(), pairs, strict=True)
        for term in ((-weight, plain), (weight, mode))
    ]
    return Contrast(pairs[0][1][1], pairs[-1][1][1], tuple(terms), ignore)


def _tested(series: Series, axis: str, word: str, contrast: Contrast, rules: Rules) -> Interaction:
    at = replace(series, conditions=(*series.conditions, (axis, word or "per doubling")))
    rounds = cells.common([arm for _, arm in contrast.terms])
    return Interaction(word, cells.compared(at, contrast, rules, rounds))


def _judged(found: Sequence[tuple[Curve, list[Comparison]]], rules: Rules) -> list[Curve]:
    """Verdicts on all interactions together. A control belongs to the tests of its row, whatever their mode."""
    tests = [i.found for curve, _ in found for i in curve.interactions]
    controls = {c.series: c for _, repeats in found for c in repeats}
    decided = iter(verdicts.decide([*tests, *controls.values()], rules))
    made = []
    for curve, _ in found:
        judged = tuple(replace(i, found=next(decided)) for i in curve.interactions)
        made.append(replace(curve, interactions=judged))
    return made
