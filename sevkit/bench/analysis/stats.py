"""Statistics of a comparison, pure: arrays in, values out.

The unit of observation is the boot: the mean of the logarithms of the samples that one guest boot gave. Two boots of
the same guest differ more than two runs in one boot (memory placement, address randomisation), so that only boots
count as repetitions (Kalibera and Jones, "Rigorous benchmarking in reasonable time", ISMM 2013). All effects are
differences of logarithms, so that they are ratios to the reader and symmetric: 2x and 0.5x are the same size.

Two designs, and the design decides before any value is seen:

* **Blocks.** A campaign of sevkit's own boots every arm once per round. A round is a block: what moves the host moves
  all its arms. The difference of two arms within a block is one observation, so that the host's drift drops out, and
  arms of unequal variance do no harm (paired t, n - 1 degrees of freedom).
* **No blocks.** Results of others, with boots that are known but not paired: Welch's standard error with the smaller
  arm's degrees of freedom, min(n1, n2) - 1. That keeps the error rate for every ratio of variances (Hsu 1938; Mickey
  and Brown 1966), where the usual Welch-Satterthwaite degrees of freedom exceed it for few boots.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import expm1, sqrt

import numpy as np
from numpy.typing import NDArray

from sevkit.extras import extra

with extra("bench"):
    from scipy.special import gammaincinv, ndtr, stdtr, stdtrit

Array = NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
ALPHA = 0.05
_NO_VARIANCE = 1e-24
_GRID = 160  # quantiles of the chi-square distribution over which power is averaged
_HALVINGS = 20  # of an interval of some hundred standard errors: to a thousandth of one
_MOST_BOOTS = 200
_FARTHEST = 700.0  # the largest logarithm that is shown as a ratio: a double holds e^709


@dataclass(frozen=True)
class Effect:
    """The ratio of one arm to another, with what is known about it.

    ``log_ratio`` is ln(other / base); ``standard_error`` and ``df`` belong to it, ``p_value`` is two-sided. ``boots``
    counts the observations of each arm (with blocks: the blocks, twice). ``degenerate`` says that at least one arm has
    no variation at all, which real measurements do not have.
    """

    log_ratio: float
    standard_error: float
    df: float
    p_value: float
    boots: tuple[int, int]
    blocks: bool = False
    degenerate: bool = False

    @property
    def ratio(self) -> float:
        """The ratio itself, other / base."""
        return float(np.exp(self.log_ratio))

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float]:
        """Bounds of the ratio, by the same t distribution as the test: it excludes 1 exactly when the test rejects."""
        reach = _t(0.5 + confidence / 2, self.df) * self.standard_error
        low, high = np.exp(np.clip([self.log_ratio - reach, self.log_ratio + reach], -_FARTHEST, _FARTHEST))
        return float(low), float(high)

    @property
    def low(self) -> float:
        """The lower bound of the 95 % interval."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """The upper bound of the 95 % interval."""
        return self.interval()[1]

    def smallest_detectable(self, tests: int = 1, margin: float = 0.0) -> float:
        """The smallest change (a fraction, 0.05 = 5 %) that a campaign like this one shows with 80 % probability.

        ``tests`` is the number of comparisons that Holm's correction covers: the first to be accepted must pass at
        alpha / tests. A change must also not count as equivalent within ``margin``. The probability is over campaigns:
        that the standard error is itself an estimate is allowed for.
        """
        if self.standard_error == 0:
            return margin
        room = round(min(1e4, float(np.log1p(margin)) / self.standard_error), 1)
        return expm1(min(_FARTHEST, _detectable_errors(self.df, tests, room) * self.standard_error))

    def boots_for(self, change: float, tests: int = 1) -> int | None:
        """How many boots per arm show a ``change`` with 80 % probability, from this pilot; None for over 200.

        The pilot's spread of boots holds both components of variance, between boots and within, as they are weighted
        by its number of samples per boot.
        """
        spread = self.standard_error * sqrt(self.boots[0])  # of one block, or of one boot of each arm together
        return max(self.boots) if spread == 0 else _boots_for(float(np.log1p(change)) / spread, tests)

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


def effect(base: Array, other: Array, *, blocks: bool = False, satterthwaite: bool = False) -> Effect | None:
    """Compare the boots' log means of two arms; None when an arm has fewer than two boots.

    With ``blocks`` the two arrays are of one length, and the boots at one index are of one block. ``satterthwaite``
    takes Welch's usual degrees of freedom, to describe results that get no verdict as others would.
    """
    if min(len(base), len(other)) < 2:
        return None
    table = effects(base[None, :], other[None, :], blocks=blocks, satterthwaite=satterthwaite)
    log_ratio, error, df, p = (float(column[0]) for column in table)
    same = bool(np.ptp(base) == 0 or np.ptp(other) == 0)
    return Effect(log_ratio, error, df, p, (len(base), len(other)), blocks, same)


def effects(
    base: Array, other: Array, *, blocks: bool = False, satterthwaite: bool = False
) -> tuple[Array, Array, Array, Array]:
    """Many comparisons of one shape at once: ``base`` (trials, boots) against ``other`` (trials, boots).

    Returns four arrays (trials,): log ratio, standard error, degrees of freedom, two-sided p.
    """
    distance = other.mean(axis=1) - base.mean(axis=1)
    df = np.full(len(distance), float(min(base.shape[1], other.shape[1]) - 1))
    if blocks:
        variance = (other - base).var(axis=1, ddof=1) / base.shape[1]
    else:
        first = base.var(axis=1, ddof=1) / base.shape[1]
        second = other.var(axis=1, ddof=1) / other.shape[1]
        variance = first + second
        if satterthwaite:
            df = _satterthwaite((first, base.shape[1]), (second, other.shape[1]), df)
    # Below what a double can tell apart there is no variation, only rounding.
    error = np.sqrt(np.where(variance < _NO_VARIANCE, 0.0, variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(df, -np.abs(distance) / error)
    return distance, error, df, np.where(error == 0, np.where(distance == 0, 1.0, 0.0), p)


def _satterthwaite(first: tuple[Array, int], second: tuple[Array, int], least: Array) -> Array:
    """Welch-Satterthwaite degrees of freedom of two variances of means, each with its count."""
    total = first[0] + second[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        df = total**2 / (first[0] ** 2 / (first[1] - 1) + second[0] ** 2 / (second[1] - 1))
    return np.where(total < _NO_VARIANCE, least, df)


@lru_cache(maxsize=4096)
def _boots_for(wanted: float, tests: int) -> int | None:
    """How many boots show an effect of ``wanted`` spreads of one boot with 80 % probability; None for over 200."""
    low, high = 3, _MOST_BOOTS
    if _power(wanted * sqrt(high), high - 1, tests) < POWER:
        return None
    while low < high:
        middle = (low + high) // 2
        if _power(wanted * sqrt(middle), middle - 1, tests) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


@lru_cache(maxsize=4096)
def _detectable_errors(df: float, tests: int, room: float) -> float:
    """The effect, in standard errors as estimated, that is found with 80 % probability by the next such campaign.

    The estimate is the true error times u, u² = chi² / df: the probability is averaged over the u of this campaign
    and, in `_power`, over that of the next. ``room`` is the margin of equivalence in standard errors.
    """
    low, high = 0.0, 10.0 * _t(1 - ALPHA / 2 / tests, df) + 2 * room
    scale = _chi(df)[:: _GRID // 40]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _power(middle * scale[:, None], df, tests, room * scale[:, None]) < POWER:
            low = middle
        else:
            high = middle
    return high


def _power(shift: float | Array, df: float, tests: int, room: float | Array = 0.0) -> float:
    """The probability of a verdict at alpha / tests when the effect is ``shift`` true standard errors.

    The estimate must pass the t test, and be too large for equivalence within ``room`` standard errors.
    """
    scale = _chi(df)
    bar = np.maximum(_t(1 - ALPHA / 2 / tests, df) * scale, room - _t(1 - ALPHA, df) * scale)
    return float(np.mean(ndtr(shift - bar) + ndtr(-shift - bar)))


@lru_cache(maxsize=512)
def _chi(df: float) -> Array:
    """Quantiles of sqrt(chi² / df), at the middles of equal shares of probability."""
    shares = (np.arange(_GRID) + 0.5) / _GRID
    return np.asarray(np.sqrt(2 * gammaincinv(df / 2, shares) / df))


def reach_of_mean(logs: Array, confidence: float = CONFIDENCE) -> float | None:
    """Half the width of Student's interval of a mean of logarithms; None for fewer than two."""
    if len(logs) < 2:
        return None
    return _t(0.5 + confidence / 2, len(logs) - 1) * float(logs.std(ddof=1)) / float(np.sqrt(len(logs)))


def share(part: Array, whole: Array, confidence: float = CONFIDENCE) -> tuple[float, float, float] | None:
    """The ratio of two means of paired values (n,), with its interval by Fieller's theorem (Fieller 1954).

    None where the whole is not apart from zero: then no interval of the ratio has two ends.
    """
    count = len(whole)
    if count < 2:
        return None
    t = _t(0.5 + confidence / 2, count - 1)
    covariance = np.cov(part, whole) / count
    x, y = float(part.mean()), float(whole.mean())
    # The bounds are the roots r of (x - r y)^2 = t^2 Var(x - r y), a quadratic a r^2 - 2 b r + c = 0.
    a = y * y - t * t * float(covariance[1, 1])
    b = x * y - t * t * float(covariance[0, 1])
    c = x * x - t * t * float(covariance[0, 0])
    if a <= 0:
        return None
    root = sqrt(max(0.0, b * b - a * c))
    return x / y, (b - root) / a, (b + root) / a


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values (Holm 1979), in the order given."""
    count = len(p_values)
    adjusted = [1.0] * count
    running = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def price(looks: int) -> int:
    """The factor for p values at look number ``looks``, when those before had theirs: its cube.

    The first look has the whole of alpha, since nobody knew of a second; with the cube the later ones add little.
    Simulated with one row and its control, looked at until it pleases, false verdicts without, with the square, with
    the cube: after each of 3 to 10 rounds 14.3, 4.2 and 3.9 %; after 5, 10 and 20 rounds 10.6, 5.2 and 4.6 %.
    """
    return looks**3


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
