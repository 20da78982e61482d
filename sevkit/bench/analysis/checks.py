"""What stands between two sets of samples and a verdict: confounds, provenance, order, drift, outliers, first runs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sevkit.bench.analysis import stats
from sevkit.bench.model import Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray


def confounds(base: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    """What differs between two arms besides the mode: declared by the guests, or seen in the facts of their boots."""
    found = [f"confounded: {text}" for text in _declared(base, other)]
    if base[0].mode == other[0].mode:
        found = []
    first, second = _facts(base), _facts(other)
    for key in sorted(first.keys() | second.keys()):
        left, right = first.get(key, set()), second.get(key, set())
        if left != right and left and right:
            found.append(f"confounded: {key} differs ({_some(left)} against {_some(right)})")
    return found


def _declared(base: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    mine = {c for at in {s.at.identity: s.at for s in base}.values() for c in at.confounds}
    theirs = {c for at in {s.at.identity: s.at for s in other}.values() for c in at.confounds}
    return sorted(mine | theirs)


def _facts(samples: Sequence[Sample]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for at in {s.at.identity: s.at for s in samples}.values():
        for key, value in at.facts.items():
            found.setdefault(key, set()).add(value)
    return found


def _some(values: set[str]) -> str:
    return ", ".join(sorted(values)[:3])


def mixed_provenance(base: Sequence[Sample], other: Sequence[Sample]) -> str | None:
    """Why the two arms may not be compared without being asked to, if their provenance differs."""
    kinds = {str(s.at.provenance) for s in (*base, *other)}
    return None if len(kinds) == 1 else f"mixed provenance: {' and '.join(sorted(kinds))}"


def warnings(base: Sequence[Sample], other: Sequence[Sample], *, knows_boots: bool) -> list[str]:
    """What a reader should know beside the interval."""
    found = []
    if not knows_boots and min(len(base), len(other)) > 1:
        found.append("boots are not known: the interval covers the variation between runs only")
    for arm in (base, other):
        values = np.array([s.value for s in arm])
        found += _first_runs(arm, values) + _outliers(arm, values)
    found += _inherent(base, other) + order(base, other)
    if (trend := drifts(base, other)) is not None:
        found.append(trend)
    if knows_boots and _uneven(base, other):
        found.append("boots of different numbers of samples: each boot counts the same")
    return found


def _inherent(base: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    """Differences that a mode cannot be had without: part of its cost, and worth knowing."""
    told = {
        f"belongs to the mode: {text}"
        for at in {s.at.identity: s.at for s in (*base, *other)}.values()
        for text in at.environment.get("belongs to the mode", ())
    }
    return sorted(told)


def _first_runs(arm: Sequence[Sample], values: "NDArray[np.float64]") -> list[str]:
    name = arm[0].arm_name
    change = stats.first_run(values)
    if change is not None:
        return [
            f"the first run of {name} is {_percent(change)} against the others: cold caches, or a leftover of set-up?"
        ]
    if any(s.boot is None for s in arm) or not (values > 0).all():
        return []
    groups: dict[int, list[float]] = {}
    for sample in arm:
        groups.setdefault(sample.boot or 0, []).append(sample.value)
    change = stats.first_in_boot([np.array(group) for group in groups.values()])
    if change is None:
        return []
    return [f"the first run after each boot of {name} is {_percent(change)} against the others: more warm-up is needed"]


def _outliers(arm: Sequence[Sample], values: "NDArray[np.float64]") -> list[str]:
    found = stats.outliers(values)
    if not found:
        return []
    listed = ", ".join(f"run {index + 1} (z {score:+.0f})" for index, score in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"{arm[0].arm_name} has outliers: {listed}{more}; they are kept"]


def order(base: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    """Whether all runs of one arm came before all of the other, where the wall clock is known."""
    if min(len(base), len(other)) < 2 or not all(s.time for s in (*base, *other)):
        return []
    first, second = sorted((base, other), key=lambda arm: arm[0].time)
    if max(s.time for s in first) < min(s.time for s in second):
        names = first[0].arm_name, second[0].arm_name
        return [f"not interleaved: all runs of {names[0]} came before all of {names[1]}"]
    return []


def drifts(base: Sequence[Sample], other: Sequence[Sample], *, alpha: float = 0.001) -> str | None:
    """A trend over the order of measurement, in what is left when each arm's own level is taken off."""
    if min(len(base), len(other)) < 3:
        return None
    logs, places = [], []
    for arm in (base, other):
        values = np.array([s.value for s in arm])
        if not (values > 0).all():
            return None
        log = np.log(values)
        logs.append(log - log.mean())
        places.append(np.array([s.order for s in arm], dtype=np.float64))
    trend = stats.drift(np.concatenate(logs), np.concatenate(places))
    if trend is None or trend.p_value >= alpha or abs(trend.change) < 0.01:
        return None
    return f"drift: values change by {_percent(trend.change)} from the first to the last run, whatever the mode"


def _uneven(base: Sequence[Sample], other: Sequence[Sample]) -> bool:
    sizes = {count for arm in (base, other) for count in np.unique([s.boot for s in arm], return_counts=True)[1]}
    return len(sizes) > 1


def _percent(change: float) -> str:
    return f"{change:+.0%}" if abs(change) >= 0.1 else f"{change:+.1%}"
