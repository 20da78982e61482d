"""The self-test of the statistics: its bounds hold, and it judges campaigns as the real rules do."""

from dataclasses import replace

import numpy as np
import pytest

from sevkit.bench.analysis import selftest
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Ruling

BY_NAME = {shape.name: shape for shape in selftest.SHAPES}


def test_every_shape_keeps_its_bounds() -> None:
    rows = selftest.run()
    assert len(rows) >= 8
    assert [row for row in rows if not selftest.holds(row)] == []


@pytest.mark.parametrize("name", ["normal noise", "three boots", "no rounds, sev five times as noisy"])
def test_the_arrays_are_judged_as_real_campaigns_are(name: str) -> None:
    shape = replace(BY_NAME[name], rows=4)
    random = np.random.default_rng(1)
    effects = np.tile([0.0, 0.05, 0.2, 0.4], (8, 1))
    logs = selftest.simulate(shape, 8, random, effects)
    logs[1, :, 3] += 0.3 * (np.arange(8) % 2)[:, None]  # a control that fails
    expected = selftest.verdicts(logs, shape)
    smallest = selftest.printed(logs, shape)
    for trial in range(8):
        found = [c for c in compare(selftest.as_samples(logs[:, trial], shape)) if not c.control]
        assert [c.outcome in {Ruling.WORSE, Ruling.BETTER} for c in found] == expected[trial].tolist()
        assert found[0].as_dict()["smallest_detectable"] == pytest.approx(smallest[trial])
    assert expected.any()
    assert not expected.all()


def test_the_same_seed_gives_the_same_figures() -> None:
    shapes = selftest.SHAPES[:1]
    assert selftest.run(200, 3, shapes) == selftest.run(200, 3, shapes)
    assert selftest.run(200, 3, shapes) != selftest.run(200, 4, shapes)


def test_figures_outside_of_the_bounds_are_told() -> None:
    (row,) = selftest.run(200, 0, selftest.SHAPES[:1])
    good = {**row, "coverage": 0.95, "family_wise_error": 0.05, "power": 0.8}
    assert selftest.holds(good)  # type: ignore[arg-type]
    for key, value in (("coverage", 0.92), ("coverage", 0.98), ("family_wise_error", 0.06), ("power", 0.7)):
        assert not selftest.holds({**good, key: value})  # type: ignore[arg-type]
