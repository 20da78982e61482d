"""What an author who cheats, or is careless, does to a results directory: numbers stay, verdicts go, with the reason."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevkit.bench import results, twins
from sevkit.bench import store as stores
from sevkit.bench.analysis import stats
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Comparison, Rules, Ruling
from sevkit.bench.analysis.merge import merge
from sevkit.bench.lint.answer import lint
from sevkit.bench.model import TIME, Boot, Sample
from sevkit.bench.records import Discarded, Failure, StoppingRule
from sevkit.bench.report import of_directory
from sevkit.errors import UsageError
from sevkit.vocabulary import Mode, Provenance
from tests.support.bench_campaign import FACTS, campaign, rewritten, unchained

Records = list[dict[str, Any]]


def rows(path: Path, *, accept: bool = False) -> dict[str, Comparison]:
    found = compare(results.read(path).samples, Rules(accept_confounds=accept))
    return {c.series.workload: c for c in found if not c.control}


def refused(path: Path, word: str, *, accept: bool = False) -> None:
    for c in rows(path, accept=accept).values():
        assert c.outcome is Ruling.REFUSED
        assert word in c.reason
        assert c.ratio is not None
        assert c.interval is not None


def samples_of(records: Records) -> Records:
    return [record for record in records if record["kind"] == "sample"]


def test_an_honest_campaign_gets_its_verdicts(tmp_path: Path) -> None:
    assert {c.outcome for c in rows(campaign(tmp_path / "r")).values()} == {Ruling.WORSE}


def test_records_without_a_chain_get_no_verdict_whatever_is_accepted(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r")
    unchained(path)
    for accept in (False, True):
        refused(path, "are not chained, so that an edit would not show", accept=accept)


def raise_values(records: Records) -> None:
    for record in samples_of(records):
        record["value"] *= 1.5 if record["mode"] == "sev" else 1


def raise_times(records: Records) -> None:
    for record in samples_of(records):
        if record["workload"] == "sha256" and record["mode"] == "sev":
            record["value"] *= 1.5


def forget_outputs(records: Records) -> None:
    for record in samples_of(records):
        record["value"] *= 1.5 if record["mode"] == "sev" else 1
        record["extra"] = {}


def call_it_a_boot(records: Records) -> None:
    raise_values(records)
    for record in samples_of(records):
        record["family"] = "boot"


def drop_the_slow(records: Records) -> Records:
    return [r for r in records if r["kind"] != "sample" or r["mode"] != "sev" or r.get("iteration", 0) == 0]


def repeat_the_best(records: Records) -> Records:
    return [*records[:-1], *(r | {"order": 100 + i} for i, r in enumerate(samples_of(records)[-2:])), records[-1]]


@pytest.mark.parametrize(
    "change", [raise_values, raise_times, forget_outputs, call_it_a_boot, drop_the_slow, repeat_the_best]
)
def test_values_that_do_not_follow_from_the_outputs_get_no_verdict(
    tmp_path: Path, change: Callable[[Records], Records | None]
) -> None:
    path = campaign(tmp_path / "r")
    rewritten(path, change)
    for accept in (False, True):
        refused(path, "see `sevkit bench verify`", accept=accept)


def test_an_output_that_was_changed_or_lost_gets_no_verdict(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r")
    raw = min((path / stores.RAW).iterdir())
    raw.write_text("value 5000\n")
    refused(path, "is missing, or was changed", accept=True)
    raw.unlink()
    refused(path, "is missing, or was changed", accept=True)


def test_a_campaign_that_was_ended_by_hand_gets_no_verdict_unasked(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", stop=False)
    refused(path, "the campaign has not ended")
    accepted = rows(path, accept=True)["sha256"]
    assert accepted.outcome is Ruling.WORSE
    assert any("accepted: the campaign has not ended" in text for text in accepted.warnings)
    assert "unfinished" in {finding.rule for finding in lint(path).findings}


def test_rounds_cut_off_at_the_end_are_an_unfinished_campaign(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r")
    lines = (path / stores.RECORDS).read_text().splitlines(keepends=True)
    (path / stores.RECORDS).write_text(
        "".join(line for line in lines[:-1] if '"b5.' not in line and ".b5." not in line)
    )
    assert stores.load(path).damage == []
    refused(path, "the campaign has not ended")


def test_each_change_of_the_stopping_rule_costs(tmp_path: Path) -> None:
    plain = rows(campaign(tmp_path / "plain", 8, 1.02))["sha256"]
    path = campaign(tmp_path / "r", 4, 1.02)
    campaign(path, 6, 1.02, first=4)
    campaign(path, 8, 1.02, first=6, target=0.01)
    looked = rows(path)["sha256"]
    assert (plain.looks, looked.looks) == (1, 3)
    assert plain.p_holm is not None
    assert plain.effect is not None
    assert looked.effect is not None
    assert looked.p_holm == pytest.approx(min(1.0, 2 * 27 * looked.effect.p_value), rel=1.01)
    assert any("p values are multiplied by 27" in text for text in looked.warnings)
    assert looked.tests == 27 * plain.tests
    assert "rule-changed" in {finding.rule for finding in lint(path).findings}


@pytest.mark.parametrize("looks", [(3, 5), (3, 5, 8, 12), tuple(range(3, 11)), (5, 10, 20)])
def test_going_on_until_it_pleases_does_not_pay(looks: tuple[int, ...]) -> None:
    base, again, other = np.random.default_rng(3).standard_normal((3, 10_000, looks[-1])) / 100
    pleased = np.zeros(len(base), bool)
    free = pleased.copy()
    for look, rounds in enumerate(looks, 1):
        distance, _, _, p = stats.effects(base[:, :rounds], other[:, :rounds], blocks=True)
        floor = np.abs(stats.effects(base[:, :rounds], again[:, :rounds], blocks=True)[0])
        pleased |= (p * stats.price(look) < 0.05) & (np.abs(distance) > floor)
        free |= (p < 0.05) & (np.abs(distance) > floor)
    assert pleased.mean() < 0.05
    assert free.mean() > 0.05


@pytest.mark.parametrize("looks", [(3, 5), tuple(range(3, 11))])
def test_looking_until_two_modes_are_equivalent_does_not_pay(looks: tuple[int, ...]) -> None:
    margin = 0.02
    base, other = np.random.default_rng(4).standard_normal((2, 10_000, looks[-1])) / 200
    other += math.log1p(margin)
    pleased, free = np.zeros((2, len(base)), bool)
    for look, rounds in enumerate(looks, 1):
        for trial, (one, two) in enumerate(zip(base[:2000, :rounds], other[:2000, :rounds], strict=True)):
            found = stats.effect(one, two, blocks=True)
            assert found is not None
            p = found.equivalence_p(margin)
            free[trial] |= p < 0.05
            pleased[trial] |= p * stats.price(look) < 0.05
    assert pleased[:2000].mean() < 0.065  # 5 % and three standard deviations of 2,000 trials
    assert free[:2000].mean() > 0.07


def test_equivalence_pays_for_looks_too(tmp_path: Path) -> None:
    plain = rows(campaign(tmp_path / "plain", 8, 1.0))["sha256"]
    path = campaign(tmp_path / "r", 4, 1.0)
    campaign(path, 8, 1.0, first=4)
    looked = rows(path)["sha256"]
    assert looked.effect is not None
    assert (plain.outcome, looked.looks) == (Ruling.EQUIVALENT, 2)
    raw = looked.effect.equivalence_p(0.02)
    assert looked.as_dict()["equivalence"] == {"margin": 0.02, "p": pytest.approx(min(1.0, 8 * raw))}


def test_directories_that_were_begun_after_others_had_ended_are_looks(tmp_path: Path) -> None:
    def row(*shifts: float) -> Comparison:
        samples = []
        for number, shift in enumerate(shifts):
            found = results.read(campaign(tmp_path / f"{len(shifts)} {shift} {number}", 3, 1.02)).samples
            samples += stores.renumbered([replace(s, time=s.time + shift) for s in found], number)
        return next(c for c in compare(samples) if c.series.workload == "sha256" and not c.control)

    assert row(0).looks == 1
    assert row(0, 1).looks == 1  # at the same time, as on two hosts
    later = row(0, 100, 200)
    assert later.looks == 3
    assert any("p values are multiplied by 27" in text for text in later.warnings)
    assert row(200, 0, 201, 1).looks == 2  # two and two


def test_a_shorter_campaign_than_announced_is_a_look(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 20, stop=False, skip=lambda workload, arm, boot: boot > 4)
    campaign(path, 5, first=5)
    assert rows(path)["sha256"].looks == 2


def test_the_same_rule_given_again_is_no_look(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 6, stop=False)
    campaign(path, 6, first=6)
    assert len(stores.load(path).of_kind(StoppingRule)) == 1
    assert rows(path)["sha256"].looks == 1


def test_where_some_boots_failed_the_rest_is_no_fair_sample(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 8, skip=lambda workload, arm, boot: (workload, arm, boot) == ("sha256", "sev", 3))
    assert rows(path)["sha256"].outcome is Ruling.WORSE
    with stores.Store.resume(path) as store:
        store.append(Failure("c0.b3.sev", "sha256", "timed out", arm="sev").record())
    found = rows(path)
    assert found["exit-cpuid"].outcome is Ruling.WORSE
    assert found["sha256"].outcome is Ruling.REFUSED
    assert "sha256 failed in 1 boots of sev: those that ended are no fair sample" in found["sha256"].reason
    assert rows(path, accept=True)["sha256"].outcome is Ruling.WORSE


def test_boots_of_one_mode_that_were_taken_again_are_told(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", stop=False)
    with stores.Store.resume(path) as store:
        store.append(*(Discarded(f"c0.b{boot}.sev", 0, "clock fell to hpet").record() for boot in range(3)))
    (found,) = [finding for finding in lint(path).findings if finding.rule == "discarded-boots"]
    assert "3 of sev" in found.message
    assert found.severity == "warning"


@pytest.mark.parametrize("key", ["memory", "guest CPUs", "cache", "image", "accel"])
def test_a_row_holds_one_configuration(tmp_path: Path, key: str) -> None:
    path = campaign(tmp_path / "r", of=lambda arm, boot: {**FACTS, key: "half" if boot % 2 else "full"})
    refused(path, f"was measured in several configurations: {key} is")


@pytest.mark.parametrize("key", ["sevkit", "microcode", "governor", "boost", "SMT"])
def test_what_changes_between_the_boots_of_a_round_is_a_confound(tmp_path: Path, key: str) -> None:
    path = campaign(tmp_path / "r", of=lambda arm, boot: {**FACTS, key: "b" if arm == "sev" else "a"})
    refused(path, f"{key} differs (a against b)")


def test_one_name_for_two_workloads_is_refused() -> None:
    plan = {"profile": {"seconds": 10}, "workloads": {"w": {"command": "sleep 1", "unit": "s", "emulated": 1}}}
    other = {"profile": {"seconds": 5}, "workloads": {"w": {"command": "sleep 1", "unit": "s", "emulated": 2}}}
    twins.check_works({"a": {"plan": plan}, "b": {"plan": other}, "c": {"plan": {"workloads": 3}}, "d": {}})
    longer = {"workloads": {"w": {"command": "sleep 2", "unit": "s"}}}
    with pytest.raises(UsageError, match="the workload w is not the same in a and in b"):
        twins.check_works({"a": {"plan": plan}, "b": {"plan": longer}})
    fio = [{"profile": {"seconds": n}, "workloads": {"f": {"command": "fio --runtime=$SECONDS_EACH"}}} for n in (1, 9)]
    with pytest.raises(UsageError, match="the workload f is not the same"):
        twins.check_works({"a": {"plan": fio[0]}, "b": {"plan": fio[1]}})


@pytest.mark.parametrize("scale", [1e-308, 1e-300, 1e300, 1e307])
def test_values_at_the_edge_of_a_double_give_no_other_ratio(tmp_path: Path, scale: float) -> None:
    path = campaign(tmp_path / "r")
    made = [s for s in results.read(path).samples if s.workload == "sha256"]
    scaled = [Sample(**{**{f: getattr(s, f) for f in Sample.__slots__}, "value": s.value * scale}) for s in made]
    plain, large = (next(c for c in compare(found) if not c.control) for found in (made, scaled))
    assert large.outcome is plain.outcome
    assert large.ratio == pytest.approx(plain.ratio, rel=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(min_value=5e-324, allow_infinity=False), min_size=8, max_size=8))
def test_whatever_the_values_a_comparison_is_json(values: list[float]) -> None:
    made = [
        Sample(
            "w", "", TIME, mode, value, str(mode), boot, order=boot, at=Boot(f"{mode} {boot}", Provenance.MOCK, FACTS)
        )
        for mode in (Mode.NOSEV, Mode.SEV)
        for boot, value in enumerate(values[:4] if mode is Mode.NOSEV else values[4:])
    ]
    for c in compare(made):
        json.dumps(c.as_dict(), allow_nan=False)


def test_a_ratio_beyond_a_double_is_refused_and_stays_json(tmp_path: Path) -> None:
    made = [s for s in results.read(campaign(tmp_path / "r")).samples if s.workload == "sha256"]
    change = {"sev": 1e307, "nosev": 1e-307, "nosev#again": 1e-307}
    far = [Sample(**{**{f: getattr(s, f) for f in Sample.__slots__}, "value": change[s.arm_name]}) for s in made]
    for c in compare(far):
        text = json.dumps(c.as_dict(), allow_nan=False)
        assert math.isfinite(json.loads(text)["ratio"] or 0)


@pytest.mark.parametrize("key", ["memory", "cache", "image"])
def test_hosts_that_measured_in_other_configurations_are_not_summarised(tmp_path: Path, key: str) -> None:
    hosts = {
        name: compare(
            results.read(
                campaign(
                    tmp_path / name, of=lambda arm, boot, name=name, value=value: {**FACTS, "host": name, key: value}
                )
            ).samples
        )
        for name, value in (("a", "small"), ("b", "small"), ("c", "large"))
    }
    both = merge({name: hosts[name] for name in ("a", "b")})
    assert all(row["ratio"] is not None for row in both)
    for row in merge({name: hosts[name] for name in ("a", "c")}):
        assert row["ratio"] is None
        assert f"{key} differs between hosts (large and small)" in row["left_out"]["a"]


def test_the_values_of_a_row_are_those_of_its_ratio(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", 6, noise=0.5, skip=lambda workload, arm, boot: arm == "sev" and boot in (1, 4))
    for row in rows(path).values():
        found = row.as_dict()
        assert found["boots"] == [6, 4]
        assert found["value"] is not None
        assert found["baseline_value"] is not None
        assert found["ratio"] == pytest.approx(found["value"] / found["baseline_value"])


def test_the_second_half_of_a_control_is_no_mode_of_its_own(tmp_path: Path) -> None:
    samples = results.read(campaign(tmp_path / "r")).samples
    found = compare(samples, Rules(baseline=Mode.SEV))
    assert [c.other.name for c in found] == ["nosev"] * len({s.workload for s in samples})


def test_a_host_whose_control_failed_is_left_out_of_a_summary(tmp_path: Path) -> None:
    def host(name: str, noise: float = 0.005) -> list[Comparison]:
        path = campaign(tmp_path / name, noise=noise, of=lambda arm, boot: {**FACTS, "host": name})
        return compare(results.read(path).samples)

    def unequal(found: list[Comparison]) -> list[Comparison]:
        return [replace(c, outcome=Ruling.UNEQUAL, reason="it differs") if c.control else c for c in found]

    hosts = {"a": host("a"), "b": host("b", 0.006), "c": host("c", 0.007)}
    assert all(set(row["hosts"]) == {"a", "b", "c"} for row in merge(hosts))
    for row in merge(hosts | {"c": unequal(hosts["c"])}):
        assert set(row["hosts"]) == {"a", "b"}
        assert row["left_out"] == {"c": "its A/A control: it differs"}


def test_a_report_names_every_host(tmp_path: Path) -> None:
    path = campaign(tmp_path / "r", of=lambda arm, boot: {**FACTS, "host": f"host{boot % 2}"})
    assert str(of_directory(path, Rules()).environment["host"]).startswith("host0, host1")
