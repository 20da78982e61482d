"""What a report says, as plain values: summary, figures, comparisons, findings. Renderers only lay it out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from sevkit.bench import breakdown, method, results
from sevkit.bench.analysis import published, stats
from sevkit.bench.analysis.compare import arms_of, compared
from sevkit.bench.analysis.comparison import ALPHA, Arm, Comparison, Rules, Ruling, Series, Table
from sevkit.bench.factors import CONDITION
from sevkit.bench.lint import answer
from sevkit.bench.model import Direction, Sample
from sevkit.bench.payload_parts import AttributedRow, CurveRow
from sevkit.bench.records import Failure
from sevkit.vocabulary import Provenance

MOST_POINTS = 60  # raw values drawn for each arm; beyond, the interval says enough


@dataclass(frozen=True)
class Bar:
    """One arm of one series: its mean, interval (None when unknown) and raw values for drawing."""

    arm: str
    mode: str
    value: float
    interval: tuple[float, float] | None
    points: tuple[float, ...]
    boots: int
    count: int


@dataclass(frozen=True)
class Group:
    """The arms of one series, side by side."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Figure:
    """One chart: all series of a family that share metric and unit."""

    family: str
    metric: str
    unit: str
    direction: Direction
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Report:
    """All that a report shows."""

    title: str
    provenance: tuple[str, ...]
    summary: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    figures: tuple[Figure, ...]
    environment: Mapping[str, Any]
    confounds: tuple[str, ...]
    mistakes: tuple[str, ...]
    findings: tuple[Mapping[str, Any], ...]
    reference: Mapping[tuple[str, str, str], float]
    reference_name: str
    failures: tuple[Failure, ...] = ()
    parts: tuple[AttributedRow, ...] = ()
    curves: tuple[CurveRow, ...] = ()
    method: tuple[str, ...] = ()

    @property
    def controls(self) -> list[Comparison]:
        """The A/A controls."""
        return [c for c in self.comparisons if c.control]

    @property
    def effects(self) -> list[Comparison]:
        """The comparisons of different modes."""
        return [c for c in self.comparisons if not c.control]


def of_directory(path: Path, rules: Rules) -> Report:
    """The report on a results directory; raises BadInputError when there is nothing in it."""
    campaign = results.read(path)
    table = arms_of(campaign.samples, all_metrics=rules.all_metrics)
    comparisons = compared(table, rules)
    checked = answer.of_campaign(campaign, comparisons, arms_of(campaign.samples) if rules.all_metrics else table)
    header = campaign.header
    environment = dict(header.get("environment", {}))
    for boot in list(campaign.boots.values())[:1]:
        environment |= boot.environment
    hosts = {host: None for at in campaign.boots.values() if (host := at.facts.get("host"))}
    if len(hosts) > 1:  # on a cluster, or resumed elsewhere: what is listed is of the first
        environment["host"] = f"{', '.join(hosts)} (the rest of this list: {next(iter(hosts))})"
    made = _build(
        str(header.get("title") or path.name),
        campaign.samples,
        table,
        comparisons,
        environment=environment,
        mistakes=tuple(header.get("known_mistakes", ())),
        findings=tuple(f.as_dict() for f in checked.findings),
        failures=tuple(campaign.of_kind(Failure)),
    )
    parts = breakdown.parts_of(table, rules)
    curves = tuple(breakdown.curves_of(table, rules))
    return replace(made, parts=tuple(parts), curves=curves, method=method.told(campaign))


def of_published(rules: Rules) -> Report:
    """The report on the published study, re-analysed over all jobs."""
    about = published.about()
    samples = published.samples()
    table = arms_of(samples, all_metrics=rules.all_metrics)
    return _build(
        about["title"],
        samples,
        table,
        compared(table, rules),
        environment={"source": about["source"], **about["environment"]},
        mistakes=(about["note"], *about["known_mistakes"]),
        findings=(),
        failures=(),
    )


def _build(
    title: str,
    samples: Sequence[Sample],
    table: Table,
    comparisons: Sequence[Comparison],
    *,
    environment: Mapping[str, Any],
    mistakes: tuple[str, ...],
    findings: tuple[Mapping[str, Any], ...],
    failures: tuple[Failure, ...],
) -> Report:
    kinds = tuple(sorted({str(s.at.provenance) for s in samples}))
    confounds = sorted({c for at in {s.at.identity: s.at for s in samples}.values() for c in at.confounds})
    own = kinds == (str(Provenance.PUBLISHED),)
    return Report(
        title=title,
        provenance=kinds,
        summary=tuple(summarise(comparisons)),
        comparisons=tuple(comparisons),
        figures=tuple(figures(table)),
        environment=environment,
        confounds=tuple(confounds),
        mistakes=mistakes,
        findings=findings,
        reference=article_ratios() if own else published.ratios(),
        reference_name="article" if own else "study",
        failures=failures,
    )


def article_ratios() -> dict[tuple[str, str, str], float]:
    """The ratios as the article prints them: (workload, storage, metric) -> sev / nosev."""
    return {(row.workload, row.storage, row.metric): row.ratio for row in published.article_tables()}


def study_ratio(report: Report, comparison: Mapping[str, Any]) -> float | None:
    """What the study has for the same row: the article's figure, or its re-analysis over all jobs."""
    if comparison["control"]:
        return None
    storage = (comparison["storage"] or "").removeprefix("virtio-")
    return report.reference.get((comparison["workload"], storage, comparison["metric"]))


@dataclass(frozen=True)
class Forest:
    """Comparisons of one family whose ratios read the same way."""

    title: str
    direction: Direction
    rows: tuple[Comparison, ...]


def forests(comparisons: Sequence[Comparison]) -> list[Forest]:
    """One figure per family and direction, so that one large ratio does not squeeze the others."""
    groups: dict[tuple[str, Direction], list[Comparison]] = {}
    for c in comparisons:
        if c.ratio is not None:
            groups.setdefault((c.family or _guess_family(c.series), c.metric.direction), []).append(c)
    return [Forest(family, direction, tuple(rows)) for (family, direction), rows in groups.items()]


def cost(c: Comparison) -> float | None:
    """How much worse than the baseline, as a factor, whichever way the metric points."""
    if c.ratio is None:
        return None
    return c.ratio if c.metric.direction is Direction.LOWER else 1 / c.ratio


def summarise(comparisons: Sequence[Comparison]) -> list[str]:
    """The findings in a few sentences."""
    effects = [c for c in comparisons if not c.control]
    controls = [c for c in comparisons if c.control]
    lines = [*_counted(effects), *_largest(effects), *_undecided(effects)]
    if controls:
        lines.append(_told_controls(controls))
    elif effects:
        lines.append("There is no A/A control: the noise floor of these measurements is not known.")
    return lines + _refusals(effects)


def _counted(effects: Sequence[Comparison]) -> list[str]:
    counts = Counter(c.outcome for c in effects)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in Ruling if counts[outcome])
    return [f"{len(effects)} comparisons with the baseline: {told}."] if effects else []


def _largest(effects: Sequence[Comparison]) -> list[str]:
    worst = [(factor, c) for c in effects if c.outcome is Ruling.WORSE and (factor := cost(c)) is not None]
    if not worst:
        return []
    _, c = max(worst, key=lambda pair: pair[0])
    what = f"{label_of(c.series)} in mode {c.other.name}"
    return [f"The largest cost with a verdict: {what}, {c.ratio:.2f} times the baseline's {c.metric.name}."]


def _undecided(effects: Sequence[Comparison]) -> list[str]:
    """What the rows without an answer could have shown: they are no finding, in either direction."""
    open_rows = [c for c in effects if c.outcome is Ruling.INCONCLUSIVE and c.effect is not None]
    shown = [c.effect.smallest_detectable(c.tests, c.margin) for c in open_rows if c.effect is not None]
    if not shown:
        return []
    boots = min(min(c.effect.boots) for c in open_rows if c.effect is not None)
    least = median(shown)
    what = f"a change below {least:.0%}" if least < 1 else "even a doubling"
    reach = f"with {boots} boots of each mode, half of these rows cannot show {what}; more boots can"
    return [f"Inconclusive says neither that there is a cost nor that there is none: {reach}."]


def _told_controls(controls: Sequence[Comparison]) -> str:
    judged = [c for c in controls if c.effect is not None and c.outcome is not Ruling.REFUSED]
    if not judged:
        return f"A/A controls (the same mode measured twice): none of {len(controls)} could be judged."
    bad = sum(c.outcome is Ruling.UNEQUAL for c in judged)
    width = max((c.effect.high - c.effect.low) / 2 for c in judged if c.effect)
    equal = sum(c.outcome is Ruling.EQUAL for c in judged)
    verdict = f"{bad} of {len(judged)} differ" if bad else f"none of {len(judged)} differs"
    verdict += f", {equal} shown equal within {controls[0].margin:.1%}"
    return f"A/A controls (the same mode measured twice): {verdict}; half width of the widest: {width:.1%}."


def _refusals(effects: Sequence[Comparison]) -> list[str]:
    refused = [c for c in effects if c.outcome is Ruling.REFUSED]
    if not refused:
        return []
    reasons = {reason.split(":", maxsplit=1)[0] for c in refused for reason in c.reason.split("; ")}
    lines = [f"A verdict was refused {len(refused)} times ({', '.join(sorted(reasons))})."]
    if apart := sum(c.p_holm is not None and c.p_holm < ALPHA for c in refused):
        lines.append(f"In {apart} of those the arms do differ (Holm p < {ALPHA}); whether by the mode is open.")
    return lines


def figures(table: Table) -> list[Figure]:
    """One chart for each family, metric and unit."""
    tables: dict[tuple[str, str, str], list[tuple[Series, Mapping[str, Arm]]]] = {}
    for series, arms in table.items():
        first = next(iter(arms.values())).samples[0]
        family = first.family or _guess_family(series)
        tables.setdefault((family, series.metric, first.metric.unit), []).append((series, arms))
    found = []
    for (family, metric, unit), rows in tables.items():
        groups = tuple(_group(series, arms) for series, arms in rows)
        direction = next(iter(rows[0][1].values())).samples[0].metric.direction
        found.append(Figure(family, metric, unit, direction, groups))
    return found


def _guess_family(series: Series) -> str:
    word = series.workload.replace("-", "_").split("_", maxsplit=1)[0].lower()
    return {"bw": "bandwidth", "iops": "IOPS", "al": "latency", "redis": "redis"}.get(word, series.metric)


def label_of(series: Series) -> str:
    """Workload, storage and conditions as one label."""
    conditions = ", ".join(value if key == CONDITION else f"{key} {value}" for key, value in series.conditions)
    return " · ".join(part for part in (series.workload, series.storage, conditions) if part)


def _group(series: Series, arms: Mapping[str, Arm]) -> Group:
    return Group(label_of(series), tuple(_bar(arm) for arm in arms.values()))


def _bar(arm: Arm) -> Bar:
    values = arm.values
    points = tuple(float(v) for v in values[:: max(1, len(values) // MOST_POINTS)])[:MOST_POINTS]
    boots = len(np.unique(arm.labels))
    if (values <= 0).any():
        return Bar(arm.name, str(arm.mode), float(values.mean()), None, points, boots, len(values))
    logs = arm.logs
    reach = stats.reach_of_mean(logs)
    centre = float(np.exp(logs.mean()))
    interval = None if reach is None else (centre / float(np.exp(reach)), centre * float(np.exp(reach)))
    return Bar(arm.name, str(arm.mode), centre, interval, points, boots, len(values))
