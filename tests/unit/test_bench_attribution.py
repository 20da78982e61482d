"""Attribution and sweep curves on campaigns of the mock, whose truth is known."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevkit.bench import breakdown, factors
from sevkit.bench.analysis import stats, sweeps
from sevkit.bench.analysis.attribution import Row, attribute
from sevkit.bench.analysis.compare import arms_of
from sevkit.bench.analysis.comparison import Rules, Ruling
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign import estimate, guests, mock
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.model import Boot, Sample, SlotId
from sevkit.bench.suite import Profile
from sevkit.errors import BadInputError, UsageError
from sevkit.guest.spec import Firmware
from sevkit.render import bench_parts
from sevkit.vocabulary import Mode, Provenance

FACTORS = ("bounce", "iothread", "cache=writeback")
BASE = Profile("t", "t", ("sha256", "disk-read"), boots=8, most_boots=8, iterations=2, target=1e-9, factors=FACTORS)
SWEPT = replace(BASE, factors=(), vcpus=(1, 2, 4), boots=6, most_boots=6)


def measured(path: Path, profile: Profile = BASE, **wish: Any) -> list[Sample]:
    return campaign.measure(campaign.prepare(Wish(profile, where="mock", **wish)), path / "r").samples


def row_of(rows: Sequence[Row], workload: str) -> Row:
    return next(row for row in rows if row.series.workload == workload)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return measured(tmp_path_factory.mktemp("attribution"))


def test_the_steps_are_those_that_the_mock_was_made_with(samples: list[Sample]) -> None:
    row = row_of(attribute(arms_of(samples), Rules()), "disk-read")
    assert [step.name for step in row.steps] == ["bounce", "nosev+bounce-to-sev", "sev-to-sev-es", "sev-es-to-sev-snp"]
    bounce = 1 + mock.BOUNCE * 0.6 * 0.6  # of the share that sev has of the workload's cost of 0.6
    assert row.steps[0].found.ratio == pytest.approx(bounce, rel=0.02)
    assert row.total.found.ratio == pytest.approx(1.6, rel=0.02)
    assert {step.found.outcome for step in row.steps} == {Ruling.WORSE}


def test_steps_multiply_to_the_total_and_shares_add_up_to_one(samples: list[Sample]) -> None:
    row = row_of(attribute(arms_of(samples), Rules()), "disk-read")
    ratios = [step.found.ratio or 0.0 for step in row.steps]
    assert math.prod(ratios) == pytest.approx(row.total.found.ratio, rel=1e-9)
    shares = [step.share for step in row.steps if step.share]
    assert sum(share[0] for share in shares) == pytest.approx(1)
    assert all(low < share < high for share, low, high in shares)


def test_a_factor_that_changes_the_cost_is_told_from_one_that_does_not(samples: list[Sample]) -> None:
    row = row_of(attribute(arms_of(samples), Rules()), "disk-read")
    changes = {s.part.name: s for s in row.switches}
    assert changes["iothread"].part.found.outcome is Ruling.BETTER
    assert changes["iothread"].part.found.ratio == pytest.approx((1 + 0.6 * 0.75) / 1.6, rel=0.02)
    assert changes["cache=writeback"].part.found.outcome in {Ruling.EQUIVALENT, Ruling.INCONCLUSIVE}


def test_a_workload_without_cost_has_no_shares(samples: list[Sample]) -> None:
    row = row_of(attribute(arms_of(samples), Rules()), "sha256")
    assert row.total.found.outcome in {Ruling.EQUIVALENT, Ruling.INCONCLUSIVE}
    assert all(step.share is None for step in row.steps)


def test_workloads_without_a_disk_are_not_measured_with_factors_of_the_disk(samples: list[Sample]) -> None:
    assert {dict(s.conditions).get("factor") for s in samples if s.workload == "sha256"} == {None, "bounce"}


def test_the_mean_over_a_family_is_the_mean_of_its_rows(tmp_path: Path) -> None:
    profile = replace(BASE, workloads=("disk-read", "disk-write"), factors=("bounce",), boots=4, most_boots=4)
    rows = attribute(arms_of(measured(tmp_path, profile)), Rules())
    mean = rows[-1]
    assert mean.metric is None
    logs = [math.log(row.total.found.ratio or 0) for row in rows[:-1]]
    assert math.log(mean.total.found.ratio or 0) == pytest.approx(np.mean(logs))


def test_cells_of_different_hosts_are_refused(samples: list[Sample]) -> None:
    boots = {s.at.identity: s.at for s in samples}
    for identity, at in boots.items():
        slot = SlotId.parse(identity)
        assert slot is not None
        name = "other" if slot.config else "one"
        boots[identity] = Boot(identity, at.provenance, {"host": name})
    moved = [replace(s, at=boots[s.at.identity]) for s in samples]
    row = row_of(attribute(arms_of(moved), Rules()), "disk-read")
    assert row.steps[0].found.outcome is Ruling.REFUSED
    assert "host differs" in row.steps[0].found.reason
    assert row.total.found.outcome is Ruling.WORSE  # both of its cells are of one configuration


def test_facts_that_a_factor_is_meant_to_change_are_no_confounds(samples: list[Sample]) -> None:
    def with_cache(sample: Sample) -> Sample:
        swapped = dict(sample.conditions).get("factor") == "cache=writeback"
        return replace(sample, at=replace(sample.at, facts={"host": "a", "cache": "writeback" if swapped else "none"}))

    row = row_of(attribute(arms_of([with_cache(s) for s in samples]), Rules()), "disk-read")
    assert {s.part.found.outcome for s in row.switches} & {Ruling.REFUSED} == set()


def test_too_few_rounds_get_no_verdict(tmp_path: Path) -> None:
    rows = attribute(arms_of(measured(tmp_path, replace(BASE, boots=2, most_boots=2))), Rules())
    assert {row.total.found.outcome for row in rows} == {Ruling.REFUSED}


def test_results_without_rounds_cannot_be_attributed(samples: list[Sample]) -> None:
    at = Boot("a.json", Provenance.PUBLISHED)
    with pytest.raises(BadInputError, match="rounds"):
        attribute(arms_of([replace(s, at=at) for s in samples]), Rules())


@pytest.mark.parametrize(
    "word", ["vhost", "bounce=1", "bounce-mib", "bounce-mib=0", "bounce-mib=x", "cache", "cache=fast", "iothread=", ""]
)
def test_factors_that_make_no_sense_are_refused(word: str) -> None:
    with pytest.raises(UsageError):
        factors.parse(word)


@pytest.mark.parametrize(
    ("changes", "modes"),
    [
        ({"factors": ("cache=none",)}, ()),
        ({"factors": ("iothread",), "storage": ("nvme",)}, ()),
        ({"factors": ("iothread", "iothread")}, ()),
        ({"factors": ("iothread",), "workloads": ("sha256",)}, ()),
        ({"factors": ("aio=native",), "cache": ("writeback",)}, ()),
        ({"factors": ("iothread",)}, (Mode.NOSEV,)),
    ],
)
def test_plans_with_factors_that_change_nothing_are_refused(changes: dict[str, Any], modes: tuple[Mode, ...]) -> None:
    with pytest.raises(UsageError):
        campaign.prepare(Wish(replace(BASE, **changes), where="mock", modes=modes))


def test_each_factor_reaches_the_guest() -> None:
    names = ("bounce", "bounce-mib=16", "no-huge-pages", "iothread", "cache=unsafe", "aio=native", "queues=2")
    plan = campaign.prepare(Wish(replace(BASE, factors=names), where="mock")).plan
    specs = {str(c.switch): guests.spec_of(c, Mode.SEV, firmware=Firmware.OVMF) for c in plan.configs}
    assert specs["None"].cmdline == ""
    assert specs["bounce"].cmdline == "swiotlb=force"
    assert specs["bounce-mib=16"].cmdline == "swiotlb=8192"
    assert specs["no-huge-pages"].cmdline == "transparent_hugepage=never"
    assert specs["iothread"].storage.iothread
    assert specs["cache=unsafe"].storage.cache == "unsafe"
    assert specs["aio=native"].storage.aio == "native"
    assert specs["queues=2"].storage.queues == 2


def test_a_factor_that_the_guest_does_not_show_is_noticed() -> None:
    switch = factors.parse("bounce")
    assert factors.unseen(switch, {"guest command line": "quiet"}) is not None
    assert factors.unseen(switch, {"guest command line": "quiet swiotlb=force", "guest bounce slabs": "0"}) is not None
    assert factors.unseen(switch, {"guest command line": "quiet swiotlb=force", "guest bounce slabs": "12"}) is None


def test_only_the_ends_are_measured_with_a_factor_and_rounds_alternate() -> None:
    plan = campaign.prepare(Wish(BASE, where="mock")).plan
    arms = {str(c.switch): [arm.name for arm in plan.arms_of(c)] for c in plan.configs}
    assert arms["bounce"] == ["nosev"]
    assert arms["iothread"] == ["nosev", "sev-snp"]
    order = [slot.identity.config for slot in estimate.slots(plan, 2)]
    assert order == order[::-1]
    assert estimate.seconds(replace(plan, mock_delay=1.0), 1) > 0


def test_common_workloads_of_two_configurations_run_in_the_same_order() -> None:
    plan = campaign.prepare(Wish(replace(BASE, workloads=("@cpu", "@storage")), where="mock")).plan
    first, other = ([w.name for w in plan.block(c, 0)[0].order] for c in (plan.configs[0], plan.configs[2]))
    assert [name for name in first if name in other] == other


def test_a_share_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    covered = 0
    for _ in range(1000):
        part, rest = random.normal(0.1, 0.02, 6), random.normal(0.2, 0.03, 6)
        found = stats.share(part, part + rest)
        assert found is not None
        covered += found[1] <= 1 / 3 <= found[2]
    assert 930 <= covered <= 970


def test_a_share_of_nothing_has_no_interval() -> None:
    values = np.array([0.1, -0.1, 0.05, -0.04])
    assert stats.share(values, values) is None


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    return measured(tmp_path_factory.mktemp("swept"), SWEPT, modes=(Mode.NOSEV, Mode.SEV))


def steeper(sample: Sample) -> Sample:
    """The cost of sev grows by 5 % with each doubling of the vCPUs."""
    doublings = math.log2(int(dict(sample.conditions)["vcpus"]))
    return replace(sample, value=sample.value * 1.05**-doublings) if sample.mode is Mode.SEV else sample


def test_a_cost_that_does_not_change_along_a_sweep(swept: list[Sample]) -> None:
    curve = next(c for c in sweeps.curves(arms_of(swept), Rules()) if c.series.workload == "disk-read")
    assert [point.value for point in curve.points] == ["1", "2", "4"]
    assert curve.course is not sweeps.Course.CHANGES


def test_a_cost_that_grows_along_a_sweep(swept: list[Sample]) -> None:
    moved = [steeper(s) if s.workload == "disk-read" else s for s in swept]
    curve = next(c for c in sweeps.curves(arms_of(moved), Rules()) if c.series.workload == "disk-read")
    assert curve.course is sweeps.Course.CHANGES
    trend = curve.interactions[-1]
    assert trend.value == ""
    assert trend.found.ratio == pytest.approx(1.05, rel=0.01)


def test_the_second_half_of_a_control_has_no_curve(swept: list[Sample]) -> None:
    found = sweeps.curves(arms_of(swept), Rules(baseline=Mode.SEV))
    assert len(found) == len({c.series for c in found})


def test_what_was_not_swept_has_no_curves(samples: list[Sample]) -> None:
    with pytest.raises(BadInputError, match="two values"):
        sweeps.curves(arms_of([s for s in samples if not s.conditions]), Rules())


def test_charts_show_every_part_with_its_interval(samples: list[Sample], swept: list[Sample]) -> None:
    row = breakdown.attributed(row_of(attribute(arms_of(samples), Rules()), "disk-read"))
    drawn = bench_parts.waterfall(row)
    assert drawn.count('class="whisker"') == len(row["steps"]) + 1 + len(row["switches"])
    rows = [breakdown.curve(c) for c in sweeps.curves(arms_of(swept), Rules())]
    figures = bench_parts.figures((), rows)
    assert sum(svg.count('class="whisker"') for _, svg in figures) == 3 * len(rows)


def test_a_chart_joins_numbers_and_not_kinds_and_one_without_a_cost_is_left_out(swept: list[Sample]) -> None:
    rows = [breakdown.curve(c) for c in sweeps.curves(arms_of(swept), Rules())]
    kinds = [row | {"axis": "storage"} for row in rows]
    (joined,) = {svg.count('class="line"') for _, panels in bench_parts.panels_of(rows) for svg in panels}
    assert joined > 0
    assert all('class="line"' not in svg for _, panels in bench_parts.panels_of(kinds) for svg in panels)
    assert all(title.endswith("along kinds of disk") for title, _ in bench_parts.panels_of(kinds))
    nothing = [row | {"points": [point | {"cost": None} for point in row["points"]]} for row in rows]
    assert bench_parts.panels_of(nothing) == []
