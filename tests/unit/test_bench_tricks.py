"""Ways to get a verdict that the data do not support: each ends in a refusal, and says why."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevkit.bench import facts, store, twins
from sevkit.bench.analysis import checks, load
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Comparison, Rules, Ruling
from sevkit.bench.imports import write
from sevkit.bench.imports.files import Given, Imported, read_folder
from sevkit.bench.lint.answer import lint
from sevkit.bench.model import AGAIN, TIME, Boot, Direction, Metric, Sample, SlotId, sample_from
from sevkit.bench.verify import verify
from sevkit.errors import BadInputError, UsageError
from sevkit.vocabulary import Mode, Provenance

FACTS = {"host": "h", "cache": "none", **{key: f"the {key}" for key in facts.OF_GUESTS}}
HOST_FACTS = {"cache": "none", facts.WORK_SCALE: "1", **{key: f"the {key}" for key in facts.OF_HOST}}


@dataclass
class Made:
    """How a campaign is made: rounds, effect, and the facts of a boot by arm and round."""

    rounds: int = 20
    ratio: float = 1.3
    noise: float = 0.005
    facts: Callable[[str, int], Mapping[str, str]] = lambda arm, boot: FACTS
    identity: str = "c0.b{boot}.{arm}.a0"
    environment: dict[str, Any] = field(default_factory=dict)
    metric: Metric = TIME

    def samples(self) -> list[Sample]:
        """Two samples per boot: nosev, its control, sev."""
        random = np.random.default_rng(7)
        found: list[Sample] = []
        arms = (("nosev", Mode.NOSEV, 1.0), (f"nosev{AGAIN}", Mode.NOSEV, 1.0), ("sev", Mode.SEV, self.ratio))
        for boot in range(self.rounds):
            for arm, mode, factor in arms:
                name = self.identity.format(boot=boot, arm=arm)
                at = Boot(name, Provenance.HARDWARE, self.facts(arm, boot), environment=self.environment)
                for i in range(2):
                    value = 10 * factor * math.exp(random.normal(0, self.noise))
                    found.append(
                        Sample("w", "", self.metric, mode, value, arm, boot, i, order=len(found), time=1, at=at)
                    )
        return found


def effect(samples: list[Sample]) -> Comparison:
    (found,) = [c for c in compare(samples) if not c.control]
    return found


def test_an_honest_campaign_gets_its_verdict() -> None:
    found = effect(Made().samples())
    assert found.outcome is Ruling.WORSE
    assert found.effect is not None
    assert found.effect.blocks


@pytest.mark.parametrize("identity", ["c0.b{boot}.{arm}.a0", "boot-{boot}-{arm}"])
@pytest.mark.parametrize(
    ("known", "word"),
    [
        (lambda arm, boot: {}, "nothing was recorded"),
        (lambda arm, boot: {} if arm == "sev" else FACTS, "is not known"),
        (lambda arm, boot: {"host": "h"} if arm == "sev" else FACTS, "accel is not known"),
        (lambda arm, boot: {**FACTS, "accel": "tcg"} if arm == "sev" else FACTS, "accel differs"),
        (lambda arm, boot: {**FACTS, "accel": "tcg" if (boot < 2) != (arm == "sev") else "kvm"}, "accel"),
        (lambda arm, boot: {} if arm == "sev" and boot == 3 else FACTS, "is not known in 1 of 20"),
    ],
    ids=["none", "one arm has none", "one is missing", "differs", "mixed", "one boot lacks them"],
)
def test_facts_that_are_missing_or_mixed_refuse(identity: str, known: Any, word: str) -> None:
    found = effect(Made(facts=known, identity=identity).samples())
    assert found.outcome is Ruling.REFUSED
    assert word in found.reason or word.replace("is not known in 1 of 20", "in 0 of 20 and 1 of 20") in found.reason
    assert found.ratio == pytest.approx(1.3, rel=0.01)


@pytest.mark.parametrize("whole", [FACTS, HOST_FACTS], ids=["guest", "host"])
def test_a_fact_that_no_boot_has_refuses(whole: Mapping[str, str]) -> None:
    assert effect(Made(facts=lambda arm, boot: whole).samples()).outcome is Ruling.WORSE
    for key in facts.OF_GUESTS if whole is FACTS else facts.OF_HOST:
        for lacking in ({k: v for k, v in whole.items() if k != key}, {**whole, key: ""}):
            made = Made(facts=lambda arm, boot, lacking=lacking: lacking)  # type: ignore[misc]
            found = effect(made.samples())
            assert found.outcome is Ruling.REFUSED
            assert f"{key} is not known in 20 of 20 rounds" in found.reason


def test_rounds_on_several_hosts_are_compared_within_each_host() -> None:
    several = Made(facts=lambda arm, boot: {**FACTS, "host": f"host {boot % 3}"})
    assert effect(several.samples()).outcome is Ruling.WORSE
    assert effect(replace(several, identity="boot-{boot}-{arm}").samples()).outcome is Ruling.REFUSED


def test_one_sample_in_another_unit_refuses() -> None:
    samples = Made().samples()
    milliseconds = replace(TIME, unit="ms")
    changed = [
        replace(s, metric=milliseconds, value=s.value * 1000) if s.mode is Mode.SEV and s.boot else s for s in samples
    ]
    found = effect(changed)
    assert found.outcome is Ruling.REFUSED
    assert "units differ" in found.reason


def test_one_arm_in_the_other_direction_refuses() -> None:
    metric = Metric("score", "points", Direction.HIGHER)
    flipped = replace(metric, direction=Direction.LOWER)
    samples = Made(metric=metric).samples()
    found = effect([replace(s, metric=flipped) if s.mode is Mode.SEV else s for s in samples])
    assert found.outcome is Ruling.REFUSED
    assert "directions differ" in found.reason


@pytest.mark.parametrize(
    ("unit", "direction"), [("s", Direction.HIGHER), ("ns", Direction.HIGHER), ("MB/s", Direction.LOWER)]
)
def test_a_direction_that_contradicts_its_unit_is_not_read(unit: str, direction: Direction) -> None:
    record = {**Made(rounds=1).samples()[0].record(), "unit": unit, "direction": str(direction)}
    boots = {record["boot_id"]: Boot(record["boot_id"], Provenance.HARDWARE)}
    with pytest.raises(BadInputError, match="cannot be"):
        sample_from(record, boots, {})


def test_samples_of_one_boot_that_claim_to_be_of_several_refuse() -> None:
    found = effect(Made(rounds=5, identity="only-{arm}").samples())
    assert found.outcome is Ruling.REFUSED
    assert "no independent repetitions" in found.reason


def test_a_boot_number_that_contradicts_the_boot_is_damage(tmp_path: Path) -> None:
    samples = [replace(s, at=replace(s.at, identity=f"c0.b0.{s.arm}.a0")) for s in Made(rounds=5).samples()]
    write.imported(tmp_path / "r", Imported(samples), folder=tmp_path, given=Given())
    campaign = store.load(tmp_path / "r")
    assert {s.boot for s in campaign.samples} == {0}
    assert any("but it belongs to" in text for text in campaign.damage)
    assert effect(campaign.samples).outcome is Ruling.REFUSED


def test_runs_without_boots_get_numbers_and_no_verdict() -> None:
    found = effect([replace(s, boot=None) for s in Made(identity="study-{arm}").samples()])
    assert found.outcome is Ruling.REFUSED
    assert "boots are not known" in found.reason
    assert found.interval is not None


def test_a_busy_host_gets_no_verdict_and_is_named() -> None:
    busy = Made(environment={"load": [7.0, 6.0, 5.0], "CPUs": 2, "own CPUs": 1})
    found = effect(busy.samples())
    assert found.outcome is Ruling.REFUSED
    assert "the host was busy: others' load of 3.0 per CPU" in found.reason
    quiet = Made(environment={"load": [1.4, 1, 1], "CPUs": 2, "own CPUs": 1})
    assert effect(quiet.samples()).outcome is Ruling.WORSE


@pytest.mark.parametrize(("others", "ruling"), [(0.9, Ruling.WORSE), (1.1, Ruling.REFUSED)])
def test_the_cpus_of_others_count_and_not_the_load_that_a_campaign_makes_itself(others: float, ruling: Ruling) -> None:
    """Threads that wait for the disk are in the load average: a campaign alone on two CPUs came to 4."""
    made = Made(environment={"load": [4.0, 4.0, 4.0], "CPUs": 2, "own CPUs": 1, "other CPUs": others})
    assert effect(made.samples()).outcome is ruling


@pytest.mark.parametrize("others", ["much", [], float("nan"), -3, {"a": 1}])
def test_a_figure_of_others_that_makes_no_sense_is_read_without_a_fall(others: Any) -> None:
    at = Boot("x", Provenance.HARDWARE, environment={"other CPUs": others, "CPUs": 2})
    assert not checks.told_busy([load.of_boot(at)])


@pytest.mark.parametrize("average", ["much", [], [None], {"a": 1}, [1e400]])
def test_a_load_that_makes_no_sense_is_read_without_a_fall(average: Any) -> None:
    at = Boot("x", Provenance.HARDWARE, environment={"load": average, "CPUs": 2})
    assert load.of_boot(at) >= 0


def controlled(difference: float, ratio: float) -> list[Comparison]:
    samples = Made(ratio=ratio, noise=0.0003).samples()
    return compare([replace(s, value=s.value * difference) if s.arm.endswith(AGAIN) else s for s in samples])


def test_a_control_that_differs_by_less_than_matters_keeps_its_row() -> None:
    control, row = controlled(1.0026, 1.1)
    assert control.p_holm is not None
    assert control.p_holm < 0.001
    assert control.outcome is Ruling.EQUAL
    assert row.outcome is Ruling.WORSE


def test_a_control_that_differs_by_what_matters_takes_the_verdict_away() -> None:
    control, row = controlled(1.03, 1.2)
    assert control.outcome is Ruling.UNEQUAL
    assert row.outcome is Ruling.INCONCLUSIVE
    assert "control failed" in row.reason


def test_a_significant_change_within_the_margin_is_equivalent() -> None:
    _, row = controlled(1.0, 1.0059)
    assert row.p_holm is not None
    assert row.p_holm < 0.001
    assert row.outcome is Ruling.EQUIVALENT
    assert row.confidence == pytest.approx(0.9)
    assert row.interval is not None
    assert 1 / 1.02 < row.interval[0] < row.interval[1] < 1.02


def test_slots_are_named_and_read_back() -> None:
    for slot in (SlotId(0, 3, "sev-snp", 1), SlotId(2, 0, f"nosev{AGAIN}"), SlotId(1, 1, "sev", 0, source=4)):
        assert SlotId.parse(str(slot)) == slot
    assert SlotId.parse("study linux sev") is None
    assert SlotId.parse("c" + "9" * 5000 + ".b0.sev") is None


def written(folder: Path, made: Made) -> list[str]:
    """A campaign on disk; returns its lines."""
    samples = made.samples()
    with store.Store.create(folder, {"origin": "run", "title": folder.name}) as opened:
        boots = {s.at.identity: s.at.record() for s in samples}
        opened.append(*boots.values(), *(s.record() for s in samples))
    return (folder / store.RECORDS).read_text().splitlines(keepends=True)


def outcome_on_disk(folder: Path) -> Comparison:
    return effect(store.load(folder).samples)


def raised(line: str) -> str:
    return line.replace('"value":', '"value":1') if '"mode":"sev"' in line else line


@pytest.mark.parametrize(
    "forge",
    [
        lambda lines: [raised(line) for line in lines],
        lambda lines: [line for line in lines if '"mode":"sev"' not in line or '"iteration":1' in line],
        lambda lines: [*lines, *lines[-6:]],
        lambda lines: [line.replace('"cache":"none"', '"cache":"writeback"') for line in lines],
    ],
    ids=["values raised", "values removed", "values repeated", "facts changed"],
)
def test_records_that_were_edited_get_no_verdict_whatever_is_accepted(
    tmp_path: Path, forge: Callable[[list[str]], list[str]]
) -> None:
    lines = written(tmp_path / "r", Made(rounds=6))
    assert outcome_on_disk(tmp_path / "r").outcome is Ruling.WORSE
    (tmp_path / "r" / store.RECORDS).write_text("".join(forge(lines)))
    for accepted in (False, True):
        found = compare(store.load(tmp_path / "r").samples, Rules(accept_confounds=accepted))
        assert {c.outcome for c in found} == {Ruling.REFUSED}
        assert all("changed after they were written" in c.reason for c in found)


def test_a_header_that_denies_the_chain_is_an_edit_too(tmp_path: Path) -> None:
    written(tmp_path / "r", Made(rounds=6))
    header = tmp_path / "r" / store.HEADER
    header.write_text(header.read_text().replace('"chained"', '"unchained"'))
    assert outcome_on_disk(tmp_path / "r").outcome is Ruling.REFUSED


def test_samples_of_one_mode_cannot_be_called_anothers() -> None:
    sample = Made(rounds=1).samples()[0]
    boots = {sample.at.identity: sample.at}
    assert sample_from(sample.record(), boots, {}) == sample
    for change in ({"mode": "sev"}, {"arm": "sev"}, {"arm": f"nosev{AGAIN}"}, {"mode": "sev", "arm": "sev"}):
        with pytest.raises(BadInputError, match="but it belongs to"):
            sample_from({**sample.record(), **change}, boots, {})


def test_a_boot_is_recorded_once(tmp_path: Path) -> None:
    written(tmp_path / "r", Made(rounds=3))
    again = Made(rounds=3, facts=lambda arm, boot: {**FACTS, "cache": "writeback"}).samples()[0]
    with store.Store.resume(tmp_path / "r") as opened:
        opened.append(again.at.record())
    loaded = store.load(tmp_path / "r")
    assert loaded.boots[again.at.identity].facts["cache"] == "none"
    assert any("recorded once" in text for text in loaded.damage)


def test_the_same_measurements_are_no_repetition_and_no_second_host() -> None:
    one, two = Made(rounds=3).samples(), Made(rounds=3, noise=0.006).samples()
    copied = [replace(s, at=replace(s.at, identity=f"x{s.at.identity}"), order=s.order + 5) for s in one]
    twins.check({"a": one, "b": two})
    for copy in (copied, copied[:3], [*two, copied[0]]):
        with pytest.raises(UsageError, match="a and b hold the same measurements"):
            twins.check({"a": one, "b": copy})
    untimed = [replace(s, time=0) for s in one]  # values that other programs rounded may coincide
    twins.check({"a": untimed, "b": [*untimed[:1], *(replace(s, time=0) for s in two)]})
    with pytest.raises(UsageError, match="hold the same measurements"):
        twins.check({"a": untimed, "b": untimed[:4]})


def test_two_campaigns_of_one_host_are_not_two_hosts() -> None:
    boot = Made(rounds=1).samples()[0].at
    other = replace(boot, facts={**FACTS, "host": "another"})
    twins.check_hosts({"a": [boot, boot], "b": [other]})
    with pytest.raises(UsageError, match="both of the host h"):
        twins.check_hosts({"a": [boot], "b": [other, boot]})


def test_copies_of_one_file_are_one_run(tmp_path: Path) -> None:
    text = json.dumps({"results": [{"command": "x" * 200, "times": [1.0, 1.1, 1.2], "exit_codes": [0, 0, 0]}]})
    for name in ("w-nosev-boot1.json", "w-nosev-boot2.json"):
        (tmp_path / name).write_text(text)
    (tmp_path / "w-nosev-boot3.json").write_text(json.dumps(json.loads(text), indent=2))
    found = read_folder(tmp_path, Given())
    assert found.files == ["w-nosev-boot1.json"]
    why = "a copy of w-nosev-boot1.json: one run is no repetition of itself"
    assert found.skipped == [("w-nosev-boot2.json", why), ("w-nosev-boot3.json", why)]


def test_one_run_under_two_modes_is_of_neither(tmp_path: Path) -> None:
    runs = {
        "w-nosev.json": [1.23456789, 1.3456789],
        "w-nosev-2.json": [1.5, 1.6],
        "w-sev.json": [1.23456789, 1.3456789],
    }
    for name, times in runs.items():
        (tmp_path / name).write_text(json.dumps({"results": [{"command": "x", "times": times}]}))
    found = read_folder(tmp_path, Given())
    assert found.files == ["w-nosev-2.json"]
    assert [name for name, why in found.skipped if "neither is believed" in why] == ["w-nosev.json", "w-sev.json"]


def test_short_figures_may_be_alike_by_chance(tmp_path: Path) -> None:
    for name in ("w-nosev.json", "w-nosev-2.json", "w-sev.json"):
        (tmp_path / name).write_text('{"results": [{"command": "x", "times": [1.0, 1.1]}]}')
    assert len(read_folder(tmp_path, Given()).files) == 3


def test_one_figure_alone_may_be_alike_by_chance_in_a_long_text(tmp_path: Path) -> None:
    for boot in range(3):
        text = f"sysbench 1.0.20\n{'x' * 300}\n events per second: 1234.56\n min: 0.{boot}\n"
        (tmp_path / f"w-nosev-boot{boot}.txt").write_text(text)
    assert len(read_folder(tmp_path, Given()).files) == 3


def test_one_run_in_two_results_under_two_modes_is_refused() -> None:
    def imported(mode: Mode, *values: float) -> list[Sample]:
        at = Boot("w.json", Provenance.HARDWARE)
        return [Sample("w", "", TIME, mode, value, iteration=i, at=at) for i, value in enumerate(values)]

    nosev, more = imported(Mode.NOSEV, 1.23456789, 1.3456789), replace(Boot("v.json", Provenance.HARDWARE))
    sev = [*imported(Mode.SEV, 1.23456789, 1.3456789), replace(nosev[0], value=7.0, at=more)]
    twins.check({"a": nosev, "b": imported(Mode.SEV, 1.23456780, 1.3456789)})
    with pytest.raises(UsageError, match="a and b hold the same measurements"):
        twins.check({"a": [*nosev, replace(nosev[0], value=9.0, at=more)], "b": sev})


def test_a_measured_value_cannot_be_called_a_warm_up() -> None:
    sample = Made(rounds=1).samples()[0]
    for iteration, warmup in ((0, True), (-1, False)):
        with pytest.raises(BadInputError, match="warm-up"):
            sample_from(
                {**sample.record(), "iteration": iteration, "warmup": warmup}, {sample.at.identity: sample.at}, {}
            )


def test_guests_under_tcg_are_no_results_of_hardware() -> None:
    found = effect(Made(facts=lambda arm, boot: {**FACTS, "accel": "tcg"}).samples())
    assert found.outcome is Ruling.REFUSED
    assert "no results of hardware" in found.reason


def test_records_without_a_chain_are_told_by_the_linter_and_by_verify(tmp_path: Path) -> None:
    lines = written(tmp_path / "r", Made(rounds=6))
    header = tmp_path / "r" / store.HEADER
    header.write_text(json.dumps({**json.loads(header.read_text()), "chained": False}))
    bare = [{k: v for k, v in json.loads(line).items() if k != "chain"} for line in lines]
    (tmp_path / "r" / store.RECORDS).write_text("".join(json.dumps(record) + "\n" for record in bare))
    assert "unchained" in {finding.rule for finding in lint(tmp_path / "r").findings}
    assert any("not chained" in text for text in verify(tmp_path / "r").unsure)
