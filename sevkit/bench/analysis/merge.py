"""Results of several hosts as one figure per row: a random-effects summary of their ratios.

Hosts differ by more than noise, so that each has a true ratio of its own; the summary is about the mean of those. The
variance between hosts is DerSimonian and Laird's (1986), the interval Hartung and Knapp's (2001), which keeps its
coverage for few hosts where the usual one does not.

A host's own error is an estimate, of two degrees of freedom where it has three boots: taken as it is, the host that
came out quiet by luck would rule the mean. So each variance is drawn towards that of all hosts (moderated variances,
Smyth 2004). Simulated with 3 to 10 hosts of 3 or 5 boots, alike or three times as noisy as each other, 94 % of the
intervals or more hold the truth; without, 90 to 93 % do where hosts do not differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sevkit.bench.analysis import checks
from sevkit.bench.analysis.comparison import Comparison, Ruling, Series
from sevkit.bench.payload import MergedRow
from sevkit.extras import extra

with extra("bench"):
    from scipy.special import stdtrit

_Key = tuple[Series, str]
_PRIOR = 4.0  # degrees of freedom that the variance of all hosts counts for in that of each


@dataclass(frozen=True)
class Summary:
    """The mean ratio over hosts with its 95 % interval, and how much hosts differ.

    ``between`` is the standard deviation of the hosts' true log ratios, ``share`` (I²) the part of all variation that
    lies between hosts, ``expected`` the 95 % range for the true ratio of one more host.
    """

    ratio: float
    interval: tuple[float, float]
    between: float
    share: float
    expected: tuple[float, float] | None


def summarise(logs: Sequence[float], errors: Sequence[float], freedoms: Sequence[float] = ()) -> Summary:
    """Combine log ratios with their standard errors, two hosts or more.

    ``freedoms`` are the degrees of freedom of the errors; without them, the errors are taken as known.
    """
    values, variances = np.array(logs), np.array(errors) ** 2
    if len(freedoms):
        df = np.array(freedoms)
        variances = (_PRIOR * (df @ variances / df.sum()) + df * variances) / (_PRIOR + df)
    count = len(values)
    weights = 1 / variances
    fixed = float(weights @ values / weights.sum())
    spread = float(weights @ (values - fixed) ** 2)
    scale = float(weights.sum() - (weights**2).sum() / weights.sum())
    between = max(0.0, (spread - (count - 1)) / scale)
    weights = 1 / (variances + between)
    mean = float(weights @ values / weights.sum())
    # Never narrower than without the correction: with two alike hosts it would shrink to nothing.
    factor = max(1.0, float(weights @ (values - mean) ** 2) / (count - 1))
    error = float(np.sqrt(factor / weights.sum()))
    reach = float(stdtrit(count - 1, 0.975)) * error
    expected = None
    if count > 2:
        wide = float(stdtrit(count - 2, 0.975)) * float(np.sqrt(between + error**2))
        expected = float(np.exp(mean - wide)), float(np.exp(mean + wide))
    share = max(0.0, (spread - (count - 1)) / spread) if spread > 0 else 0.0
    interval = float(np.exp(mean - reach)), float(np.exp(mean + reach))
    return Summary(float(np.exp(mean)), interval, float(np.sqrt(between)), share, expected)


def merge(hosts: Mapping[str, Sequence[Comparison]]) -> list[MergedRow]:
    """The rows that two hosts or more have a usable comparison of; refused ones are left out, and named."""
    table: dict[_Key, dict[str, Comparison]] = {}
    for host, comparisons in hosts.items():
        failed = {c.series: c.reason for c in comparisons if c.control and c.outcome is Ruling.UNEQUAL}
        for c in comparisons:
            if not c.control:
                judged = c.refused([f"its A/A control: {failed[c.series]}"]) if c.series in failed else c
                table.setdefault((c.series, c.other.name), {})[host] = judged
    return [row for (series, mode), found in table.items() if (row := _row(series, mode, found)) is not None]


def _row(series: Series, mode: str, found: Mapping[str, Comparison]) -> MergedRow | None:
    usable = {
        host: (c.effect.log_ratio, c.effect.standard_error, c.effect.df)
        for host, c in found.items()
        if c.effect is not None and c.outcome is not Ruling.REFUSED and c.effect.standard_error > 0
    }
    first = next(iter(found.values()))
    if len(found) < 2:
        return None
    apart = _apart(list(found.values()))
    summary = None
    if len(usable) > 1 and not apart:
        summary = summarise(*zip(*usable.values(), strict=True))
    left_out = {host: c.reason or "no interval" for host, c in found.items() if host not in usable}
    if apart:
        left_out = dict.fromkeys(found, apart)
    return {
        "workload": series.workload,
        "storage": series.storage or None,
        "metric": series.metric,
        "direction": str(first.metric.direction),
        "mode": mode,
        "conditions": dict(series.conditions),
        "hosts": {host: float(np.exp(log)) for host, (log, *_) in usable.items()},
        "left_out": left_out,
        "ratio": None if summary is None else summary.ratio,
        "interval": None if summary is None else list(summary.interval),
        "between_hosts": None if summary is None else summary.between,
        "share_between": None if summary is None else summary.share,
        "expected_range": None if summary is None or summary.expected is None else list(summary.expected),
    }


def _apart(found: Sequence[Comparison]) -> str:
    """Why the figures of several hosts are not about one thing; empty if they are."""
    if len({(c.metric.unit, c.metric.direction) for c in found}) > 1:
        return "units or directions differ between hosts"
    for key in checks.SETTINGS:
        boots = [at for c in found for at in (*c.base.boots, *c.other.boots)]
        values = sorted({at.facts[key] for at in boots if key in at.facts})
        if len(values) > 1:
            return f"{key} differs between hosts ({' and '.join(values)}): these are several configurations"
    return ""
