"""The one sentence at the end of a campaign: what the first-time reader came for."""

from collections import Counter
from collections.abc import Sequence

from sevkit.bench.analysis.comparison import Comparison, Ruling
from sevkit.bench.report import cost, label_of
from sevkit.vocabulary import Provenance

_OPEN = (Ruling.INCONCLUSIVE, Ruling.REFUSED)


def sentences(comparisons: Sequence[Comparison]) -> list[str]:
    """One sentence for each arm that was compared with the baseline; none where nothing was but controls.

    Without a verdict no factor is named: a ratio that may be chance is not a result.
    """
    arms: dict[str, list[Comparison]] = {}
    for each in comparisons:
        if not each.control:
            arms.setdefault(each.other.name, []).append(each)
    return [_sentence(name, rows) for name, rows in arms.items()]


def _sentence(name: str, rows: Sequence[Comparison]) -> str:
    counts = Counter(row.outcome for row in rows)
    undecided = sum(counts[ruling] for ruling in _OPEN)
    told = []
    if counts[Ruling.WORSE]:
        worst = max((row for row in rows if row.outcome is Ruling.WORSE), key=lambda row: cost(row) or 0.0)
        most = f"{worst.ratio:.2f} times the {worst.metric.name} in {label_of(worst.series)}"
        told.append(f"worse in {counts[Ruling.WORSE]} of {len(rows)}, most of all {most}")
    if counts[Ruling.BETTER]:
        told.append(f"better in {counts[Ruling.BETTER]}")
    if counts[Ruling.EQUIVALENT]:
        told.append(f"the same within {rows[0].margin:.0%} in {counts[Ruling.EQUIVALENT]}")
    if undecided:
        told.append(f"not decided in {undecided}" if told else f"nothing is decided yet in {undecided} measurements")
    where = _where({sample.at.provenance for row in rows for sample in row.other.samples})
    return f"{name} against {rows[0].base.name}{where}: {', '.join(told)}."


def _where(found: set[Provenance]) -> str:
    """What to say of the level; results of hardware need no remark."""
    if found == {Provenance.HARDWARE}:
        return ""
    return f" ({', '.join(sorted(found))}: says nothing of hardware)"
