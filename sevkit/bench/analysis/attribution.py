"""What the cost of a mode consists of: steps from the plain guest to the mode, and factors that change the cost.

Steps multiply to the total: plain guest, the same with bounce buffers, then mode after mode. A factor (an iothread,
another cache mode …) is switched in the plain guest and in the mode; it is part of the cost as far as the cost changes.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sevkit.bench import factors
from sevkit.bench.analysis import cells, stats, verdicts
from sevkit.bench.analysis.cells import Contrast
from sevkit.bench.analysis.comparison import Arm, Comparison, Rules, Ruling, Series, Table
from sevkit.bench.model import AGAIN, Metric
from sevkit.errors import BadInputError, UsageError
from sevkit.vocabulary import Mode

BOUNCE = "bounce"
_ADDS = {
    Mode.SEV: "memory encryption",
    Mode.SEV_ES: "encrypted registers, exits through #VC",
    Mode.SEV_SNP: "RMP checks, private memory",
}
_JUDGED = (Ruling.WORSE, Ruling.BETTER)


@dataclass(frozen=True)
class Part:
    """One contrast of a row. ``share`` is (value, low, high) of the total's logarithm, None if that has no meaning."""

    kind: str  # total, step, change or control
    name: str
    title: str
    contrast: Contrast
    found: Comparison
    share: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Switched:
    """A factor: how the mode's cost changes with it; the cost with it, and what it does to either guest by itself."""

    part: Part
    cost: Comparison
    plain: Comparison
    mode: Comparison


@dataclass(frozen=True)
class Row:
    """One row of a campaign: ``steps`` multiply to ``total``."""

    series: Series
    metric: Metric | None  # None for the mean over several rows
    family: str
    mode: Mode
    rounds: int
    total: Part
    steps: tuple[Part, ...]
    switches: tuple[Switched, ...] = ()
    control: Part | None = None


def attribute(table: Table, rules: Rules) -> list[Row]:
    """The rows of a campaign, then the means over the rows of each family; raises BadInputError, UsageError."""
    if not cells.slots_known(table):
        raise BadInputError(
            "these results were not measured in rounds, so that nothing can be attributed",
            hint="`sevkit bench run --profile attribution --output R` measures what is needed",
        )
    cases = cells.by_axis(table, factors.CONDITION)
    rows = [row for series, variants in cases.items() if (row := _row(series, variants, rules)) is not None]
    if not rows:
        raise BadInputError(
            f"no row was measured in mode {rules.baseline} and in another one", hint="give --baseline, or measure both"
        )
    return _judged([*rows, *_means(rows, rules)], rules)


def _row(series: Series, variants: Mapping[str, Mapping[str, Arm]], rules: Rules) -> Row | None:
    reference = variants.get("", {})
    modes = [arm for name, arm in reference.items() if not name.endswith(AGAIN) and name != str(rules.baseline)]
    base = reference.get(str(rules.baseline))
    if base is None or not modes:
        return None
    first = base.samples[0]
    ladder = [base, *_bounced(variants, base), *modes]
    rounds = cells.common(ladder)
    steps = [
        _part(series, ("step", _step_name(a, b), _step_title(a, b, base)), cells.step(a, b), rules, rounds)
        for a, b in itertools.pairwise(ladder)
    ]
    words = "total", "total", f"{base.mode} to {modes[-1].mode}"
    total = _part(series, words, cells.step(base, modes[-1]), rules, rounds)
    again = reference.get(f"{rules.baseline}{AGAIN}")
    control = None
    if again is not None:
        words = "control", "control", "the same mode again"
        control = _part(series, words, cells.step(base, again), rules, cells.common([base, again]))
    switches = tuple(_switches(series, variants, (base, modes[-1]), rules))
    return Row(series, first.metric, first.family, modes[-1].mode, len(rounds), total, tuple(steps), switches, control)


def _bounced(variants: Mapping[str, Mapping[str, Arm]], base: Arm) -> list[Arm]:
    arm = variants.get(BOUNCE, {}).get(base.name)
    return [] if arm is None else [replace(arm, name=f"{arm.name}+{BOUNCE}")]


def _step_name(before: Arm, after: Arm) -> str:
    return BOUNCE if after.name.endswith(BOUNCE) else f"{before.name}-to-{after.mode}"


def _step_title(before: Arm, after: Arm, base: Arm) -> str:
    if after.name.endswith(BOUNCE):
        return "bounce buffers"
    order = list(Mode)
    added = order[order.index(before.mode) + 1 : order.index(after.mode) + 1]
    words = [_ADDS[mode] for mode in added if mode in _ADDS]
    if len(words) > 1:
        words = [f"all that {after.mode} adds"]
    if before is base and before.mode is Mode.NOSEV:
        words.insert(1, "bounce buffers")
    return ", ".join(words) or f"{before.mode} to {after.mode}"


def _part(
    series: Series, words: tuple[str, str, str], contrast: Contrast, rules: Rules, rounds: Sequence[cells.Round]
) -> Part:
    return Part(*words, contrast, cells.compared(series, contrast, rules, rounds))


def _switches(
    series: Series, variants: Mapping[str, Mapping[str, Arm]], ends: tuple[Arm, Arm], rules: Rules
) -> Iterator[Switched]:
    for word, arms in variants.items():
        pair = arms.get(ends[0].name), arms.get(ends[1].name)
        if word in ("", BOUNCE) or pair[0] is None or pair[1] is None:
            continue
        with_it = pair[0], pair[1]
        switch = _known(word)
        ignore = frozenset(switch.factor.changes) if switch is not None else frozenset()
        rounds = cells.common([*ends, *with_it])
        contrast = cells.change(ends, with_it, ignore)
        title = switch.title if switch is not None else word
        yield Switched(
            _part(series, ("change", word, title), contrast, rules, rounds),
            cost=cells.compared(series, cells.step(*with_it), rules, rounds),
            plain=cells.compared(series, cells.step(ends[0], with_it[0], ignore), rules, rounds),
            mode=cells.compared(series, cells.step(ends[1], with_it[1], ignore), rules, rounds),
        )


def _known(word: str) -> factors.Switch | None:
    try:
        return factors.parse(word)
    except UsageError:  # a factor of a later version
        return None


def _means(rows: Sequence[Row], rules: Rules) -> Iterator[Row]:
    """The mean over the rows of a family with one metric, for several rows that have the same steps."""
    groups: dict[tuple[str, str, Mode, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.family, row.series.metric, row.mode, tuple(s.name for s in row.steps)), []).append(row)
    for (family, metric, mode, _), members in groups.items():
        series = Series(f"mean of {len(members)} {family} rows ({metric})", "", "cost")
        total = _mean(series, [row.total for row in members], rules)
        steps = [_mean(series, list(parts), rules) for parts in zip(*(row.steps for row in members), strict=True)]
        controls = [row.control for row in members if row.control is not None]
        control = _mean(series, controls, rules) if len(controls) == len(members) else None
        if total is None or any(step is None for step in steps):
            continue
        rounds = 0 if total.found.effect is None else total.found.effect.boots[0]
        yield Row(series, None, family, mode, rounds, total, tuple(s for s in steps if s), (), control)


def _mean(series: Series, parts: Sequence[Part], rules: Rules) -> Part | None:
    if any(part.found.outcome is Ruling.REFUSED for part in parts):
        return None
    found = cells.pooled(series, [(part.contrast, part.found) for part in parts], rules)
    return None if found is None else replace(parts[0], found=found)


def _judged(rows: Sequence[Row], rules: Rules) -> list[Row]:
    """Verdicts for all parts together, so that Holm's correction covers what is shown; then the shares."""
    parts = [part for row in rows for part in _parts(row)]
    decided = verdicts.decide([part.found for part in parts], rules)
    table = {id(part): replace(part, found=c) for part, c in zip(parts, decided, strict=True)}

    def new(part: Part) -> Part:
        return table[id(part)]

    made = []
    for row in rows:
        switches = tuple(replace(s, part=new(s.part)) for s in row.switches)
        control = None if row.control is None else new(row.control)
        steps = tuple(map(new, row.steps))
        made.append(_shared(replace(row, total=new(row.total), steps=steps, switches=switches, control=control)))
    return made


def _parts(row: Row) -> list[Part]:
    extra = [] if row.control is None else [row.control]
    return [row.total, *row.steps, *(s.part for s in row.switches), *extra]


def _shared(row: Row) -> Row:
    """The row with each step's share of the total, where the total is a cost that was shown."""
    if row.metric is None or row.total.found.outcome not in _JUDGED:
        return row
    arms = [arm for part in row.steps for _, arm in part.contrast.terms]
    rounds = cells.common(arms)
    before, after = cells.values(row.total.contrast, rounds)
    steps = []
    for part in row.steps:
        low, high = cells.values(part.contrast, rounds)
        share = stats.share(high - low, after - before)
        steps.append(part if part.found.outcome is Ruling.REFUSED else replace(part, share=share))
    return replace(row, steps=tuple(steps))
