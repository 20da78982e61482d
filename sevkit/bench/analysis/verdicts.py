"""From comparisons to verdicts: Holm's correction, the A/A controls, and what may be concluded."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sevkit.bench.analysis import stats
from sevkit.bench.analysis.comparison import ALPHA, CONTROL_ALPHA, Comparison, Rules, Ruling, Series
from sevkit.bench.model import Direction


def decide(found: list[Comparison], rules: Rules) -> list[Comparison]:
    """Holm's correction over all comparisons shown together, the controls apart; then the verdicts."""
    groups = [[c for c in found if c.control], [c for c in found if not c.control]]
    adjusted = {key: value for group in groups for key, value in _corrected(group).items()}
    tests = {c.control: sum(d.effect is not None for d in group) for group in groups for c in group}
    ready = [
        replace(
            c,
            p_holm=adjusted.get(id(c)),
            tests=max(1, tests[c.control]) * stats.price(c.looks),
            warnings=(*c.warnings, *_looked(c)),
        )
        for c in found
    ]
    controls = {c.series: c for c in ready if c.control and c.effect is not None}
    return [_judge(c, controls, rules) for c in ready]


def _looked(c: Comparison) -> list[str]:
    if c.looks == 1:
        return []
    what = f"measured on {c.looks - 1} times after one could see a verdict (another stopping rule or results directory)"
    return [f"{what}: p values are multiplied by {stats.price(c.looks)}"]


def _corrected(group: Sequence[Comparison]) -> Mapping[int, float]:
    """Each look at the numbers was a chance of a false verdict of its own, and has its price; rows are Holm's."""
    tested = [c for c in group if c.effect is not None]
    values = stats.holm([c.effect.p_value * stats.price(c.looks) for c in tested if c.effect is not None])
    return dict(zip((id(c) for c in tested), values, strict=True))


def _judge(c: Comparison, controls: Mapping[Series, Comparison], rules: Rules) -> Comparison:
    if c.effect is None or c.outcome is Ruling.REFUSED:
        return c
    if c.control:
        outcome, reason = _control_verdict(c, rules)
        return replace(c, outcome=outcome, reason=reason)
    control = controls.get(c.series)
    if control is None or control.effect is None:
        c = replace(c, warnings=(*c.warnings, "no A/A control: the noise floor is not known"))
        outcome, reason = _verdict(c, 0.0, rules)
        return replace(c, outcome=outcome, reason=reason)
    floor = abs(control.effect.log_ratio)
    c = replace(c, noise_floor=float(np.expm1(floor)))
    outcome, reason = _without_control(control, rules) or _verdict(c, floor, rules)
    return replace(c, outcome=outcome, reason=reason)


def _without_control(control: Comparison, rules: Rules) -> tuple[Ruling, str] | None:
    """What a control that cannot be relied on makes of its row."""
    if control.outcome is Ruling.REFUSED:
        return Ruling.INCONCLUSIVE, f"the A/A control was refused: {control.reason}"
    if _fails(control, rules):
        return Ruling.INCONCLUSIVE, "the A/A control failed: the same mode measured twice differs"
    return None


def _fails(control: Comparison, rules: Rules) -> bool:
    """A control fails when it differs, and by a size that matters: more than half of the margin."""
    assert control.effect is not None
    return _differs(control, CONTROL_ALPHA) and abs(control.effect.log_ratio) > np.log1p(rules.margin) / 2


def _control_verdict(c: Comparison, rules: Rules) -> tuple[Ruling, str]:
    """``equal`` needs as much evidence as ``equivalent``: that nothing was seen to differ may be for want of boots."""
    assert c.effect is not None
    if _fails(c, rules):
        return Ruling.UNEQUAL, "the same mode measured twice differs: something else than the mode moves the numbers"
    if _equivalent(c):
        reason = f"the same mode measured twice is the same within {rules.margin:.1%} (two one-sided tests)"
        return Ruling.EQUAL, reason
    width = max(abs(edge - 1) for edge in c.effect.interval())
    reason = f"the same mode measured twice shows no difference, but one of {width:.1%} could hide in the interval"
    return Ruling.INCONCLUSIVE, reason


def _differs(c: Comparison, alpha: float = ALPHA) -> bool:
    """Significant after Holm's correction."""
    return c.p_holm is not None and c.p_holm < alpha


def _equivalent(c: Comparison) -> bool:
    return c.equivalence_p is not None and c.equivalence_p < ALPHA


def _verdict(c: Comparison, floor: float, rules: Rules) -> tuple[Ruling, str]:
    """A change within the margin is ``equivalent`` even when it is significant: it is too small to matter."""
    assert c.effect is not None
    if _equivalent(c):
        return Ruling.EQUIVALENT, f"within {rules.margin:.1%} either way, with evidence (two one-sided tests)"
    if not _differs(c):
        return Ruling.INCONCLUSIVE, _undecided(c, rules)
    if abs(c.effect.log_ratio) <= floor:
        return Ruling.INCONCLUSIVE, f"the same mode measured twice differed by as much ({np.expm1(floor):.1%})"
    better = (c.effect.log_ratio > 0) is (c.metric.direction is Direction.HIGHER)
    return (Ruling.BETTER if better else Ruling.WORSE), ""


def _undecided(c: Comparison, rules: Rules) -> str:
    """What would have been found, and what it takes to find more."""
    assert c.effect is not None
    smallest = c.effect.smallest_detectable(c.tests, rules.margin)
    boots = c.effect.boots_for(rules.margin, c.tests)
    takes = f"{boots} boots" if boots else "more than 200 boots"
    return (
        f"no difference shown; one of {smallest:.1%} is found with a probability of {stats.POWER:.0%} "
        f"({takes} per mode for {rules.margin:.1%})"
    )
