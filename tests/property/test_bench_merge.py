"""Summaries over hosts against experiments whose truth is known."""

import math

import numpy as np
import pytest

from sevkit.bench.analysis import merge


@pytest.mark.parametrize("hosts", [3, 8])
@pytest.mark.parametrize("between", [0.0, 0.05])
def test_intervals_over_hosts_cover_the_mean(hosts: int, between: float) -> None:
    random = np.random.default_rng(hosts)
    truth = math.log(1.2)
    covered = 0
    for _ in range(1000):
        errors = random.uniform(0.01, 0.03, hosts)
        logs = random.normal(truth, between, hosts) + random.normal(0, 1, hosts) * errors
        low, high = merge.summarise(logs.tolist(), errors.tolist()).interval
        covered += low <= 1.2 <= high
    assert covered / 1000 >= 0.93


@pytest.mark.parametrize("hosts", [3, 5, 10])
@pytest.mark.parametrize("noise", [0.0, 0.7])
@pytest.mark.parametrize("boots", [3, 5])
def test_errors_that_are_estimates_cover_too(hosts: int, noise: float, boots: int) -> None:
    random, covered = np.random.default_rng(hosts), 0
    for _ in range(1000):
        spread = 0.02 * np.exp(noise * random.standard_normal((hosts, 1)))
        values = spread * random.standard_normal((hosts, boots))
        errors = values.std(axis=1, ddof=1) / math.sqrt(boots)
        found = merge.summarise(values.mean(axis=1).tolist(), errors.tolist(), [boots - 1.0] * hosts)
        covered += found.interval[0] <= 1 <= found.interval[1]
    assert covered / 1000 >= 0.94


def test_hosts_that_agree_are_one_figure_and_hosts_that_do_not_have_a_spread() -> None:
    alike = merge.summarise([0.1, 0.1, 0.1], [0.01, 0.01, 0.01])
    assert alike.between == 0
    assert alike.ratio == pytest.approx(math.exp(0.1))
    assert alike.interval[0] < alike.ratio < alike.interval[1]
    apart = merge.summarise([0.0, 0.1, 0.2], [0.001, 0.001, 0.001])
    assert apart.between == pytest.approx(0.1, rel=0.01)
    assert apart.share > 0.99
    assert apart.expected is not None
    assert apart.expected[0] < apart.interval[0]


def test_the_order_of_hosts_does_not_matter() -> None:
    logs, errors = [0.1, 0.3, -0.2], [0.01, 0.05, 0.02]
    one = merge.summarise(logs, errors)
    two = merge.summarise(logs[::-1], errors[::-1])
    assert one.ratio == pytest.approx(two.ratio)
    assert one.interval == pytest.approx(two.interval)
