"""The statistics against experiments whose truth is known."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import stdtrit

from sevkit.bench import facts
from sevkit.bench.analysis import stats
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Rules, Ruling
from sevkit.bench.model import AGAIN, TIME, Boot, Sample
from sevkit.vocabulary import Mode, Provenance

TRIALS = 2000
Array = NDArray[np.float64]


def boots(random: np.random.Generator, mean: float, count: int, within: int, spread: tuple[float, float]) -> Array:
    """Boot means of synthetic experiments: normal variation between boots and between samples of a boot."""
    between, inside = spread
    means = random.normal(mean, between, (TRIALS, count))
    return np.asarray(means + random.normal(0, inside, (TRIALS, count, within)).mean(axis=2))


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("count", [3, 5, 10])
@pytest.mark.parametrize("spread", [(0.02, 0.02), (0.005, 0.05), (0.03, 0.003)])
def test_intervals_cover_the_truth_as_often_as_they_say(count: int, spread: tuple[float, float], blocks: bool) -> None:
    random = np.random.default_rng(count)
    truth = math.log(1.08)
    distance, error, df, _ = stats.effects(
        boots(random, 0, count, 3, spread), boots(random, truth, count, 3, spread), blocks=blocks
    )
    covered = float(np.mean(np.abs(distance - truth) <= stdtrit(df, 0.975) * error))
    assert 0.93 <= covered <= (0.97 if blocks else 0.99)  # without blocks it is careful for unlike variances


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("count", [3, 5, 10])
@pytest.mark.parametrize("noisier", [1, 5])
def test_no_effect_is_rarely_called_one(count: int, noisier: float, blocks: bool) -> None:
    random = np.random.default_rng(100 + count)
    one = boots(random, 0, count, 3, (0.02, 0.01))
    other = boots(random, 0, count, 3, (0.02 * noisier, 0.01))
    called = stats.effects(one, other, blocks=blocks)[3] < 0.05
    assert float(called.mean()) <= 0.06  # 2,000 trials: a standard error of 0.5 %


def test_equivalence_is_rarely_claimed_at_the_margin() -> None:
    random = np.random.default_rng(7)
    margin, spread = 0.02, (0.01, 0.005)
    wrong = 0
    for base, other in zip(
        boots(random, 0, 8, 3, spread)[:500], boots(random, math.log1p(margin), 8, 3, spread)[:500], strict=True
    ):
        effect = stats.effect(base, other)
        assert effect is not None
        wrong += effect.equivalence_p(margin) < 0.05
    assert wrong / 500 <= 0.07


@pytest.mark.parametrize("tests", [1, 10, 50])
@pytest.mark.parametrize("count", [3, 10])
def test_the_smallest_detectable_effect_is_detected_with_the_power_promised(count: int, tests: int) -> None:
    """A pilot prints its figure; a second campaign with that effect is judged at the level that Holm leaves it."""
    random = np.random.default_rng(11)
    spread = (0.02, 0.0)
    pilot = stats.effects(boots(random, 0, count, 1, spread), boots(random, 0, count, 1, spread), blocks=True)
    printed = np.array(
        [stats.Effect(0, error, count - 1, 1, (count, count), True).smallest_detectable(tests) for error in pilot[1]]
    )
    other = boots(random, 0, count, 1, spread) + np.log1p(printed)[:, None]
    found = stats.effects(boots(random, 0, count, 1, spread), other, blocks=True)
    assert 0.76 <= float(np.mean(found[3] < 0.05 / tests)) <= 0.84


def test_a_margin_that_hides_small_changes_is_part_of_the_smallest_detectable_effect() -> None:
    quiet = stats.Effect(0, 0.0001, 9, 1, (10, 10), True)
    assert quiet.smallest_detectable() < 0.001
    assert quiet.smallest_detectable(margin=0.02) == pytest.approx(0.02, rel=0.05)
    still = stats.Effect(0, 0.0, 9, 1, (10, 10), True)
    assert still.smallest_detectable(margin=0.02) == 0.02


@pytest.mark.parametrize("change", [0.01, 0.05])
def test_the_number_of_boots_from_a_pilot_finds_the_change(change: float) -> None:
    random = np.random.default_rng(12)
    count = 40
    pilot = stats.Effect(0, 0.02 * math.sqrt(2 / count), count - 1, 1, (count, count), True)
    boots_each = pilot.boots_for(change, tests=5)
    assert boots_each is not None
    spread = (0.02, 0.0)
    one = boots(random, 0, boots_each, 1, spread)
    found = stats.effects(one, boots(random, math.log1p(change), boots_each, 1, spread), blocks=True)
    assert 0.78 <= float(np.mean(found[3] < 0.01)) <= 0.92
    assert pilot.boots_for(0.0001) is None


def experiment(random: np.random.Generator, ratio: float, noise: float = 0.01) -> list[Sample]:
    """An interleaved campaign of six boots of three samples with an A/A control."""
    samples: list[Sample] = []
    for boot in range(6):
        for arm, mode, factor in (
            ("nosev", Mode.NOSEV, 1.0),
            (f"nosev{AGAIN}", Mode.NOSEV, 1.0),
            ("sev", Mode.SEV, ratio),
        ):
            level = 10 * factor * math.exp(random.normal(0, noise))
            at = Boot(f"c0.b{boot}.{arm}.a0", Provenance.HARDWARE, dict.fromkeys(facts.OF_GUESTS, "the same"))
            samples += [
                Sample(
                    "w",
                    "",
                    TIME,
                    mode,
                    level * math.exp(random.normal(0, 0.01)),
                    arm=arm,
                    boot=boot,
                    order=len(samples) + i,
                    at=at,
                )
                for i in range(3)
            ]
    return samples


def test_verdicts_of_whole_campaigns_rarely_see_what_is_not_there() -> None:
    random = np.random.default_rng(3)
    outcomes = [c.outcome for _ in range(400) for c in compare(experiment(random, 1.0)) if not c.control]
    wrong = sum(outcome in {Ruling.WORSE, Ruling.BETTER} for outcome in outcomes)
    assert wrong / len(outcomes) <= 0.05


def test_verdicts_of_whole_campaigns_see_what_is_there() -> None:
    random = np.random.default_rng(4)
    found = [c for _ in range(60) for c in compare(experiment(random, 1.06))]
    real = [c for c in found if not c.control]
    assert sum(c.outcome is Ruling.WORSE for c in real) / len(real) >= 0.9
    controls = [c.outcome for c in found if c.control]
    assert controls.count(Ruling.UNEQUAL) / len(controls) <= 0.05
    assert controls.count(Ruling.EQUAL) / len(controls) >= 0.5


def test_a_control_that_is_only_too_noisy_to_differ_is_not_called_equal() -> None:
    random = np.random.default_rng(5)
    for noise in (0.03, 0.1, 0.5):
        found = [c for _ in range(60) for c in compare(experiment(random, 1.0, noise)) if c.control]
        outcomes = [c.outcome for c in found]
        assert set(outcomes) <= {Ruling.EQUAL, Ruling.INCONCLUSIVE, Ruling.UNEQUAL}
        assert outcomes.count(Ruling.EQUAL) / len(outcomes) <= 0.05, noise
        assert outcomes.count(Ruling.UNEQUAL) / len(outcomes) <= 0.1, noise
    wide = next(c for c in found if c.outcome is Ruling.INCONCLUSIVE)
    assert "could hide" in wide.reason


def test_three_modes_without_effect_are_corrected_together() -> None:
    adjusted = stats.holm([0.01, 0.04, 0.03])
    assert adjusted == pytest.approx([0.03, 0.06, 0.06])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values: list[float]) -> None:
    adjusted = stats.holm(values)
    assert all(new >= old for old, new in zip(values, adjusted, strict=True))
    assert all(new <= 1 for new in adjusted)
    order = sorted(range(len(values)), key=lambda i: values[i])
    assert all(adjusted[a] <= adjusted[b] for a, b in itertools.pairwise(order))


logs = st.lists(st.floats(-3, 3), min_size=3, max_size=8)


@settings(deadline=None)  # the machine may be busy
@given(logs, logs, st.floats(0.01, 100))
def test_effects_do_not_depend_on_the_unit(first: list[float], second: list[float], factor: float) -> None:
    shift = math.log(factor)
    one = stats.effect(np.array(first), np.array(second))
    two = stats.effect(np.array(first) + shift, np.array(second) + shift)
    assert one is not None
    assert two is not None
    assert one.log_ratio == pytest.approx(two.log_ratio, abs=1e-6)
    assert math.log(one.high) == pytest.approx(math.log(two.high), abs=1e-6)


@settings(deadline=None)  # the machine may be busy
@given(logs, logs)
def test_turning_a_comparison_round_turns_its_ratio_round(first: list[float], second: list[float]) -> None:
    one = stats.effect(np.array(first), np.array(second))
    two = stats.effect(np.array(second), np.array(first))
    assert one is not None
    assert two is not None
    assert one.log_ratio == pytest.approx(-two.log_ratio, abs=1e-9)
    assert one.p_value == pytest.approx(two.p_value, abs=1e-9)
    assert one.low <= one.ratio * (1 + 1e-9)
    assert one.ratio <= one.high * (1 + 1e-9)


def test_fewer_than_two_boots_give_no_effect() -> None:
    assert stats.effect(np.array([1.0]), np.array([1.0, 2.0])) is None


def test_arms_without_variation_are_marked() -> None:
    found = stats.effect(np.array([1.0, 1.0, 1.0]), np.array([1.1, 1.1, 1.1]))
    assert found is not None
    assert found.degenerate


def test_drift_is_found_and_its_size_estimated() -> None:
    random = np.random.default_rng(5)
    order = np.arange(40.0)
    trend = stats.drift(0.10 * order / 39 + random.normal(0, 0.01, 40), order)
    assert trend is not None
    assert trend.change == pytest.approx(0.105, abs=0.02)
    assert trend.p_value < 1e-6
    flat = stats.drift(random.normal(0, 0.01, 40), order)
    assert flat is not None
    assert flat.p_value > 0.001


@pytest.mark.parametrize("factor", [0.8, 1.3])
def test_a_first_run_out_of_line_is_seen_in_both_directions(factor: float) -> None:
    values = np.array([10.0 * factor, 10.02, 9.98, 10.01, 9.99])
    change = stats.first_run(values)
    assert change == pytest.approx(factor - 1, abs=0.01)
    assert stats.outliers(values)[0][0] == 0


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_a_first_sample_after_boot_out_of_line_is_seen(factor: float) -> None:
    random = np.random.default_rng(6)
    groups = [np.array([10 * factor, 10, 10]) * np.exp(random.normal(0, 0.005, 3)) for _ in range(6)]
    assert stats.first_in_boot(groups) == pytest.approx(factor - 1, abs=0.03)
    calm = [10 * np.exp(random.normal(0, 0.005, 3)) for _ in range(6)]
    assert stats.first_in_boot(calm) is None


def test_rules_can_be_loosened_only_on_purpose() -> None:
    assert Rules().mixed_provenance is False
    assert Rules().accept_confounds is False
