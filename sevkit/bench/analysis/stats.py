"""Statistics of a comparison, pure: arrays in, values out.

The unit of observation is the boot: the mean of the logarithms of the samples that one guest boot gave. Two boots of
the same guest differ more than two runs in one boot (memory placement, address randomisation), so that only boots
count as repetitions (Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013). All effects are
differences of logarithms, so that they are ratios to the reader and symmetric: 2x and 0.5x are the same size.

Boots are resampled with replacement and carry all their samples along; resampling the samples in a boot once more
would count their variance twice (Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sevkit.extras import extra

with extra("bench"):
    from scipy.special import ndtri, stdtr, stdtrit

Array = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 4000
POWER = 0.8
_NO_VARIANCE = 1e-24


@dataclass(frozen=True)
class Effect:
    """The ratio of one arm to another, with what is known about it.

    ``log_ratio`` is ln(other / base). ``low`` and ``high`` bound the ratio itself (bootstrap), ``welch_low`` and
    ``welch_high`` likewise (Welch's t on the boots' log means). ``p_value`` is Welch's, two-sided. ``degenerate``
    says that at least one arm has no variation at all, which real measurements do not have.
    """

    log_ratio: float
    low: float
    high: float
    welch_low: float
    welch_high: float
    standard_error: float
    df: float
    p_value: float
    boots: tuple[int, int]
    degenerate: bool = False

    @property
    def ratio(self) -> float:
        """The ratio itself, other / base."""
        return float(np.exp(self.log_ratio))

    def smallest_detectable(self, *, alpha: float = 0.05, power: float = POWER) -> float:
        """The smallest change (as a fraction, 0.05 = 5 %) that boots like these would show with this power."""
        reach = (_t(1 - alpha / 2, self.df) + _t(power, self.df)) * self.standard_error
        return float(np.expm1(reach))

    def equivalence_p(self, margin: float) -> float:
        """The p value of "the ratio is outside 1/(1+margin) … 1+margin": two one-sided tests (Schuirmann 1987)."""
        bound = np.log1p(margin)
        if self.standard_error == 0:
            return 0.0 if abs(self.log_ratio) < bound else 1.0
        lower = stdtr(self.df, -(self.log_ratio + bound) / self.standard_error)
        upper = stdtr(self.df, (self.log_ratio - bound) / self.standard_error)
        return float(max(lower, upper))


def boot_means(values: Array, boots: NDArray[np.int64]) -> Array:
    """The mean of ln(value) of each boot. ``values`` (n,) must be positive; ``boots`` (n,) labels them."""
    logs = np.log(values)
    _, index = np.unique(boots, return_inverse=True)
    return np.asarray(np.bincount(index, weights=logs) / np.bincount(index))


def effect(base: Array, other: Array, *, confidence: float = CONFIDENCE, seed: int = 0) -> Effect | None:
    """Compare the boots' log means of two arms; None when an arm has fewer than two boots."""
    if len(base) < 2 or len(other) < 2:
        return None
    table = [float(column[0]) for column in effects(base[None, :], other[None, :], confidence=confidence, seed=seed)]
    same = bool(np.ptp(base) == 0 or np.ptp(other) == 0)
    log_ratio, low, high, welch_low, welch_high, error, df, p = table
    return Effect(log_ratio, low, high, welch_low, welch_high, error, df, p, (len(base), len(other)), same)


def effects(
    base: Array, other: Array, *, confidence: float = CONFIDENCE, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[Array, ...]:
    """Many comparisons of one shape at once: ``base`` (trials, boots) against ``other`` (trials, boots).

    Returns eight arrays (trials,): log ratio, low, high, Welch low, Welch high, standard error, df, p.
    """
    distance = other.mean(axis=1) - base.mean(axis=1)
    error, df = _welch(base, other)
    low, high = _bootstrap(base, other, distance, (error, df), (confidence, seed, resamples))
    reach = _t_array(0.5 + confidence / 2, df) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(df, -np.abs(distance) / error)
    p = np.where(error == 0, np.where(distance == 0, 1.0, 0.0), p)
    return distance, np.exp(low), np.exp(high), np.exp(distance - reach), np.exp(distance + reach), error, df, p


def _welch(base: Array, other: Array) -> tuple[Array, Array]:
    """Standard error of the difference of means, and the Welch-Satterthwaite degrees of freedom."""
    first = base.var(axis=1, ddof=1) / base.shape[1]
    second = other.var(axis=1, ddof=1) / other.shape[1]
    total = first + second
    # Below what a double can tell apart there is no variation, only rounding.
    total = np.where(total < _NO_VARIANCE, 0.0, total)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (first**2 / (base.shape[1] - 1) + second**2 / (other.shape[1] - 1))
    return np.sqrt(total), np.where(total == 0, float(base.shape[1] + other.shape[1] - 2), df)


def _bootstrap(
    base: Array, other: Array, distance: Array, welch: tuple[Array, Array], how: tuple[float, int, int]
) -> tuple[Array, Array]:
    """Bootstrap interval of the distance, widened for few boots.

    The bootstrap distribution of few units is too narrow, by sqrt((n-1)/n) and by the normal quantile in place of
    Student's (Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 4.1); its deviations are
    scaled by what is missing, so that its shape (skew) is kept.
    """
    error, df = welch
    confidence, seed, resamples = how
    tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
    shift = other @ _weights(other.shape[1], resamples, seed) - base @ _weights(base.shape[1], resamples, seed + 1)
    deviation = np.quantile(shift - distance[:, None], tails, axis=1)
    plug_in = np.sqrt(base.var(axis=1) / base.shape[1] + other.var(axis=1) / other.shape[1])
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = error / plug_in * _t_array(tails[1], df) / ndtri(tails[1])
    scale = np.where(error == 0, 1.0, scale)
    return distance + deviation[0] * scale, distance + deviation[1] * scale


@lru_cache(maxsize=64)
def _weights(boots: int, resamples: int, seed: int) -> Array:
    """How often each boot is drawn, as weights (boots, resamples) that sum to one."""
    random = np.random.default_rng(seed)
    return random.multinomial(boots, np.full(boots, 1 / boots), size=resamples).T / boots


def reach_of_mean(logs: Array, confidence: float = CONFIDENCE) -> float | None:
    """Half the width of Student's interval of a mean of logarithms; None for fewer than two."""
    if len(logs) < 2:
        return None
    return _t(0.5 + confidence / 2, len(logs) - 1) * float(logs.std(ddof=1)) / float(np.sqrt(len(logs)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (Holm 1979), in the order given."""
    count = len(p_values)
    adjusted = [1.0] * count
    running = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def outliers(values: Array, *, threshold: float = 14.826) -> list[tuple[int, float]]:
    """Samples far from the median: (index, (value - median) / MAD) where that exceeds the threshold either way.

    The threshold is ten standard deviations of a normal distribution (MAD = 0.6745 sigma).
    """
    if len(values) < 4:
        return []
    centre = np.median(values)
    spread = np.median(np.abs(values - centre))
    if spread == 0:
        return []
    scores = (values - centre) / spread
    return [(int(i), float(scores[i])) for i in np.flatnonzero(np.abs(scores) > threshold)]


def first_run(values: Array, *, threshold: float = 14.826, floor: float = 0.05) -> float | None:
    """How far the first value is from the median of the others, as a fraction, if that is out of the ordinary.

    Negative when the first is smaller. Ordinary is within ``threshold`` MADs of the others, or within ``floor``.
    """
    if len(values) < 4:
        return None
    rest = values[1:]
    centre = float(np.median(rest))
    spread = float(np.median(np.abs(rest - centre)))
    change = float(values[0]) / centre - 1
    strange = abs(values[0] - centre) > threshold * spread and abs(change) > floor
    return change if strange else None


def first_in_boot(groups: Sequence[Array], *, alpha: float = 0.01, floor: float = 0.02) -> float | None:
    """How far the first sample of each boot is from the others of its boot, as a fraction, if all boots agree on it.

    Paired t test over boots of ln(first) - mean ln(rest); None when there is nothing to say.
    """
    gaps = np.array([np.log(g[0]) - np.log(g[1:]).mean() for g in groups if len(g) > 1])
    if len(gaps) < 3:
        return None
    spread = gaps.std(ddof=1) / np.sqrt(len(gaps))
    change = float(np.expm1(gaps.mean()))
    if abs(change) < floor:
        return None
    p = 0.0 if spread == 0 else 2 * float(stdtr(len(gaps) - 1, -abs(gaps.mean()) / spread))
    return change if p < alpha else None


@dataclass(frozen=True)
class Drift:
    """A trend over the order of measurement: the change from first to last as a fraction, and its p value."""

    change: float
    p_value: float


def drift(residuals: Array, order: Array) -> Drift | None:
    """Regress log residuals (their arm's mean taken off) on the order in which they were measured."""
    count = len(residuals)
    if count < 6 or np.ptp(order) == 0:
        return None
    x = (order - order.mean()) / np.ptp(order)
    slope = float(x @ residuals / (x @ x))
    left = residuals - residuals.mean() - slope * x
    error = float(np.sqrt(left @ left / (count - 2) / (x @ x)))
    if error == 0:
        return Drift(float(np.expm1(slope)), 1.0 if slope == 0 else 0.0)
    return Drift(float(np.expm1(slope)), 2 * float(stdtr(count - 2, -abs(slope) / error)))


def _t(quantile: float, df: float) -> float:
    return float(stdtrit(df, quantile))


def _t_array(quantile: float, df: Array) -> Array:
    return np.asarray(stdtrit(df, quantile))
