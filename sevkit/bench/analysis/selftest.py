"""The statistics tried on simulated campaigns whose truth is known: coverage, false verdicts, power.

Each shape is a kind of noise. Thousands of campaigns of a shape are simulated at once, as arrays (trials, rows, boots)
of the boots' log means, and judged by the same rules as real ones (`verdicts`); `as_samples` turns one of them into
samples, so that a test can hold the two against each other.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sevkit.bench.analysis import stats
from sevkit.bench.analysis.comparison import ALPHA, CONTROL_ALPHA, MARGIN
from sevkit.bench.model import AGAIN, TIME, Boot, Sample
from sevkit.bench.payload import SelftestShape
from sevkit.extras import extra
from sevkit.vocabulary import Mode, Provenance

with extra("bench"):
    from scipy.special import stdtr, stdtrit

Array = NDArray[np.float64]
Truths = NDArray[np.bool_]

TRIALS = 2000
COVERAGE = (0.93, 0.97)
FALSE_VERDICTS = 0.05
POWER_OFF = 0.05
_TRUTH = math.log(1.08)  # the effect for which coverage is counted
_ARMS = ("nosev", f"nosev{AGAIN}", "sev")


@dataclass(frozen=True)
class Shape:
    """A kind of noise. All spreads are of ln(value), so 0.02 is about 2 %.

    ``between`` is the spread of boots, ``within`` that of samples in a boot, ``round_spread`` what the host adds to all
    boots of a round, ``drift`` the change from the first boot to the last, ``noisier`` the factor for the spread in
    mode sev. Without ``blocks`` the boots are not in rounds. ``spells`` is the share of boots that are 10 % slower.
    """

    name: str
    boots: int = 5
    samples: int = 3
    rows: int = 10
    between: float = 0.02
    within: float = 0.02
    tails: Literal["normal", "heavy", "skewed"] = "normal"
    round_spread: float = 0.0
    drift: float = 0.0
    noisier: float = 1.0
    spells: float = 0.0
    blocks: bool = True


SHAPES = (
    Shape("normal noise"),
    Shape("three boots", boots=3),
    Shape("ten boots, one row", boots=10, rows=1),
    Shape("fifty rows", rows=50),
    Shape("boots differ, samples do not", between=0.03, within=0.003),
    Shape("samples differ, boots do not", between=0.003, within=0.05),
    Shape("heavy tails", tails="heavy", boots=8),
    Shape("skewed", tails="skewed", boots=8),
    Shape("drift of 10 %", drift=0.10, boots=6),
    Shape("load of 10 % by the round", round_spread=0.10),
    Shape("one boot in ten is 10 % slower", spells=0.1, boots=10),
    Shape("sev five times as noisy", noisier=5.0, boots=6),
    Shape("no rounds, sev five times as noisy", noisier=5.0, boots=6, blocks=False),
)


def run(trials: int = TRIALS, seed: int = 0, shapes: tuple[Shape, ...] = SHAPES) -> list[SelftestShape]:
    """Try each shape; the same trials and seed give the same figures."""
    return [_try(shape, trials, np.random.default_rng([seed, index])) for index, shape in enumerate(shapes)]


def holds(row: SelftestShape) -> bool:
    """Whether a shape keeps what the statistics promise."""
    return (
        COVERAGE[0] <= row["coverage"] <= COVERAGE[1]
        and row["family_wise_error"] <= FALSE_VERDICTS
        and abs(row["power"] - row["power_printed"]) <= POWER_OFF
    )


def _try(shape: Shape, trials: int, random: np.random.Generator) -> SelftestShape:
    quiet = simulate(shape, trials, random, np.zeros((trials, shape.rows)))
    distance, error, df, _ = _compared(quiet[0], quiet[2] + _TRUTH, shape)
    covered = np.abs(distance - _TRUTH) <= stdtrit(df, 0.975) * error
    false = verdicts(quiet, shape).any(axis=1)
    # Each campaign prints what it can detect; the next campaign has that effect in its first row.
    effects = np.zeros((trials, shape.rows))
    effects[:, 0] = np.log1p(printed(quiet, shape))
    found = verdicts(simulate(shape, trials, random, effects), shape)[:, 0]
    return {
        "shape": shape.name,
        "boots": shape.boots,
        "rows": shape.rows,
        "trials": trials,
        "coverage": round(float(covered.mean()), 4),
        "family_wise_error": round(float(false.mean()), 4),
        "power": round(float(found.mean()), 4),
        "power_printed": stats.POWER,
    }


def simulate(shape: Shape, trials: int, random: np.random.Generator, effects: Array) -> Array:
    """Log means of boots (arms, trials, rows, boots): nosev, its control, sev with ``effects`` (trials, rows)."""
    size = (len(_ARMS), trials, shape.rows, shape.boots)
    spread = np.array([1.0, 1.0, shape.noisier])[:, None, None, None]
    logs = shape.between * spread * _noise(shape, random, size)
    logs += shape.within * _noise(shape, random, (*size, shape.samples)).mean(axis=-1)
    logs += shape.round_spread * random.standard_normal((1, *size[1:]))
    logs += np.log(1.1) * (random.random(size) < shape.spells)
    logs += shape.drift * _times(shape.boots)[:, None, None, :]
    logs[2] += effects[:, :, None]
    return np.asarray(logs)


def _noise(shape: Shape, random: np.random.Generator, size: tuple[int, ...]) -> Array:
    """Noise of mean 0 and standard deviation 1."""
    if shape.tails == "heavy":
        return random.standard_t(4, size) / math.sqrt(2)
    if shape.tails == "skewed":
        return random.standard_exponential(size) - 1
    return random.standard_normal(size)


def _times(boots: int) -> Array:
    """When each arm of each round was booted (arms, boots), as a share of the campaign; rounds go to and fro."""
    arms = len(_ARMS)
    places = np.array([np.arange(arms) if boot % 2 == 0 else np.arange(arms)[::-1] for boot in range(boots)]).T
    return np.asarray((places + arms * np.arange(boots)) / (arms * boots - 1))


def _compared(base: Array, other: Array, shape: Shape) -> tuple[Array, Array, Array, Array]:
    """`stats.effects` over all trials and rows: arrays (trials, rows)."""
    flat = [arm.reshape(-1, shape.boots) for arm in (base, other)]
    one, two, three, four = stats.effects(*flat, blocks=shape.blocks)
    rows = base.shape[:2]
    return one.reshape(rows), two.reshape(rows), three.reshape(rows), four.reshape(rows)


def verdicts(logs: Array, shape: Shape) -> Truths:
    """Whether each row of each trial is called better or worse, (trials, rows)."""
    distance, error, df, p = _compared(logs[0], logs[2], shape)
    control, _, _, control_p = _compared(logs[0], logs[1], shape)
    bound = math.log1p(MARGIN)
    equivalent = np.maximum(stdtr(df, -(distance + bound) / error), stdtr(df, (distance - bound) / error)) < ALPHA
    failed = (_holm(control_p) < CONTROL_ALPHA) & (np.abs(control) > bound / 2)
    return np.asarray((_holm(p) < ALPHA) & (np.abs(distance) > np.abs(control)) & ~equivalent & ~failed)


def printed(logs: Array, shape: Shape) -> Array:
    """The smallest detectable change that each trial prints for its first row, (trials,)."""
    _, error, df, _ = _compared(logs[0], logs[2], shape)
    boots = (shape.boots, shape.boots)
    effects = (
        stats.Effect(0.0, float(e), float(d), 1.0, boots, shape.blocks)
        for e, d in zip(error[:, 0], df[:, 0], strict=True)
    )
    return np.array([effect.smallest_detectable(shape.rows, MARGIN) for effect in effects])


def _holm(p: Array) -> Array:
    """Holm's adjusted p values over the rows of each trial."""
    rows = p.shape[1]
    order = np.argsort(p, axis=1)
    ranked = np.minimum(1.0, np.take_along_axis(p, order, axis=1) * (rows - np.arange(rows)))
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.maximum.accumulate(ranked, axis=1), axis=1)
    return adjusted


def as_samples(logs: Array, shape: Shape) -> list[Sample]:
    """One trial's log means (arms, rows, boots) as the samples of a campaign."""
    modes = (Mode.NOSEV, Mode.NOSEV, Mode.SEV)
    found: list[Sample] = []
    for boot in range(shape.boots):
        for arm, (name, mode) in enumerate(zip(_ARMS, modes, strict=True)):
            identity = f"c0.b{boot}.{name}.a0" if shape.blocks else f"boot {boot} of {name}"
            at = Boot(identity, Provenance.MOCK, {"host": "simulated"})
            for row in range(shape.rows):
                value = math.exp(logs[arm, row, boot])
                found.append(Sample(f"w{row}", "", TIME, mode, value, name, boot, order=len(found), at=at))
    return found
