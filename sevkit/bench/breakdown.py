"""Attribution and curves as the values that commands print."""

from sevkit.bench import factors
from sevkit.bench import payload_parts as payload
from sevkit.bench.analysis import attribution, sweeps
from sevkit.bench.analysis.attribution import Part, Row, Switched
from sevkit.bench.analysis.comparison import Comparison, Rules, Table
from sevkit.bench.analysis.sweeps import Curve, Interaction, Point
from sevkit.errors import BadInputError


def parts_of(table: Table, rules: Rules) -> list[payload.AttributedRow]:
    """What costs consist of, where the campaign switched factors; empty otherwise."""
    if not any(key == factors.CONDITION for series in table for key, _ in series.conditions):
        return []
    try:
        return [attributed(row) for row in attribution.attribute(table, rules)]
    except BadInputError:
        return []


def curves_of(table: Table, rules: Rules) -> list[payload.CurveRow]:
    """The curves of a campaign's sweeps; empty where nothing was swept."""
    try:
        return [curve(found) for found in sweeps.curves(table, rules)]
    except BadInputError:
        return []


def attributed(row: Row) -> payload.AttributedRow:
    """One row of an attribution as JSON values."""
    return {
        "workload": row.series.workload,
        "storage": row.series.storage or None,
        "metric": None if row.metric is None else row.metric.name,
        "family": row.family or None,
        "conditions": dict(row.series.conditions),
        "baseline_mode": str(row.total.found.base.mode),
        "mode": str(row.mode),
        "rounds": row.rounds,
        "provenance": _provenance(row.total.found),
        "total": _part(row.total),
        "steps": [_part(part) for part in row.steps],
        "switches": [_switched(switched) for switched in row.switches],
        "control": None if row.control is None else _part(row.control),
    }


def curve(found: Curve) -> payload.CurveRow:
    """One curve as JSON values."""
    return {
        "workload": found.series.workload,
        "storage": found.series.storage or None,
        "metric": found.metric.name,
        "family": found.family or None,
        "conditions": dict(found.series.conditions),
        "axis": found.axis,
        "baseline_mode": str(found.points[0].cost.base.mode),
        "mode": str(found.mode),
        "provenance": _provenance(found.points[0].cost),
        "course": str(found.course),
        "points": [_point(point) for point in found.points],
        "interactions": [_interaction(test) for test in found.interactions],
    }


def _provenance(found: Comparison) -> list[str]:
    return sorted({str(at.provenance) for arm in (found.base, found.other) for at in arm.boots})


def _part(part: Part) -> payload.Part:
    found, share = part.found, part.share
    return {
        "name": part.name,
        "title": part.title,
        "before": part.contrast.before.name,
        "after": part.contrast.after.name,
        "times": found.ratio,
        "interval": _interval(found),
        "p_holm": found.p_holm,
        "verdict": str(found.outcome),
        "reason": found.reason,
        "share": None if share is None else share[0],
        "share_interval": None if share is None else [share[1], share[2]],
    }


def _switched(switched: Switched) -> payload.Switched:
    return {
        "factor": switched.part.name,
        "change": _part(switched.part),
        "cost": switched.cost.ratio,
        "cost_interval": _interval(switched.cost),
        "plain": switched.plain.ratio,
        "mode": switched.mode.ratio,
    }


def _point(point: Point) -> payload.CurvePoint:
    effect = point.cost.effect
    return {
        "value": point.value,
        "cost": point.cost.ratio,
        "interval": _interval(point.cost),
        "rounds": 0 if effect is None else effect.boots[0],
    }


def _interaction(test: Interaction) -> payload.InteractionRow:
    found = test.found
    return {
        "value": test.value or None,
        "times": found.ratio,
        "interval": _interval(found),
        "p_holm": found.p_holm,
        "noise_floor": found.noise_floor,
        "verdict": str(found.outcome),
        "reason": found.reason,
    }


def _interval(found: Comparison) -> list[float] | None:
    """The 95 % interval, also where two one-sided tests decided: parts stand beside each other in one figure."""
    return None if found.effect is None else list(found.effect.interval())
