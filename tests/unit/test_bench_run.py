"""Plans, the runner and its stopping rule, on the mock: interleaving, failures, clocks, resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sevkit.bench import store, suite
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Outcome
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign import environment, plan, run
from sevkit.bench.campaign.block import Done
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.suite import Profile
from sevkit.errors import NoSpaceError, UnsupportedModeError, UsageError
from sevkit.vocabulary import Mode

SMALL = Profile("t", "t", ("sha256", "disk-read"), boots=3, most_boots=3, iterations=2, target=1e-9)


def prepared(profile: Profile = SMALL, **wish: Any) -> campaign.Prepared:
    return campaign.prepare(Wish(profile, where="mock", **wish))


def test_arms_alternate_in_direction() -> None:
    arms = [plan.Arm(name, Mode.NOSEV) for name in "AB"]
    orders = ["".join(a.name for a in plan.arm_order(arms, boot)) for boot in range(4)]
    assert orders == ["AB", "BA", "BA", "AB"]


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_arm_stands_in_every_place_equally_often_on_average(count: int) -> None:
    arms = [plan.Arm(str(i), Mode.NOSEV) for i in range(count)]
    places = {a.name: 0 for a in arms}
    for boot in range(2 * count):
        for place, arm in enumerate(plan.arm_order(arms, boot)):
            places[arm.name] += place
    assert len(set(places.values())) == 1


def test_a_linear_drift_cancels_in_two_rounds() -> None:
    arms = [plan.Arm(name, Mode.NOSEV) for name in ("a", "b", "c")]
    order = [arm.name for boot in range(2) for arm in plan.arm_order(arms, boot)]
    assert {sum(i for i, name in enumerate(order) if name == arm) for arm in "abc"} == {5}


def test_workloads_run_in_the_same_order_in_all_arms_of_a_round() -> None:
    made = prepared(suite.changed(SMALL, workloads=("@cpu", "@storage"))).plan
    first = made.block(made.configs[0], 0)
    assert len({slot.order for slot in first}) == 1
    assert made.block(made.configs[0], 1)[0].order != first[0].order


def test_only_disk_workloads_are_repeated_for_each_storage() -> None:
    made = prepared(suite.changed(SMALL, storage=("virtio-blk", "nvme"))).plan
    assert [[w.name for w in c.workloads] for c in made.configs] == [["sha256", "disk-read"], ["disk-read"]]


def test_sweeps_multiply_and_become_conditions() -> None:
    changes = campaign.sweeps(("vcpus=1,2", "memory=256,512", "guests=1,3"))
    made = prepared(suite.changed(SMALL, **changes)).plan
    assert len(made.configs) == 8
    assert made.configs[0].conditions == (("guests", "1"), ("memory_mib", "256"), ("vcpus", "1"))


@pytest.mark.parametrize("word", ["vcpus", "vcpus=", "vcpus=0", "vcpus=x", "colour=red"])
def test_sweeps_that_make_no_sense_are_refused(word: str) -> None:
    with pytest.raises(UsageError):
        campaign.sweeps((word,))


def test_a_campaign_keeps_every_value_and_marks_warm_ups(tmp_path: Path) -> None:
    outcome = campaign.measure(prepared(), tmp_path / "r")
    arms = len(Mode) + 1
    kept = [s for s in outcome.samples if not s.warmup]
    assert len(kept) == 3 * arms * 2 * 2
    assert sum(s.warmup for s in outcome.samples) == 3 * arms * 2
    assert [s.order for s in outcome.samples] == list(range(len(outcome.samples)))
    loaded = store.load(tmp_path / "r")
    assert loaded.samples == outcome.samples
    assert loaded.of_kind("stop")[-1]["reason"] == "boots"


def test_the_control_is_equal_and_costs_are_found(tmp_path: Path) -> None:
    profile = suite.changed(SMALL, boots=6, most_boots=6)
    found = compare(campaign.measure(prepared(profile), tmp_path / "r").samples)
    assert {c.outcome for c in found if c.control} == {Outcome.EQUAL}
    snp = next(c for c in found if c.series.workload == "disk-read" and c.other.mode is Mode.SEV_SNP)
    assert snp.outcome is Outcome.WORSE
    assert snp.ratio == pytest.approx(1 / 1.6, rel=0.03)


def test_it_stops_when_the_intervals_are_narrow(tmp_path: Path) -> None:
    profile = suite.changed(SMALL, most_boots=40, target=0.02)
    outcome = campaign.measure(prepared(profile), tmp_path / "r")
    assert outcome.reason == "narrow"
    assert outcome.rounds < 40
    for c in compare(outcome.samples):
        if not c.control:
            assert c.interval is not None
            assert (c.interval[1] / c.interval[0]) ** 0.5 - 1 <= 0.02


def test_it_stops_when_the_budget_is_spent(tmp_path: Path) -> None:
    profile = suite.changed(SMALL, most_boots=500, budget=0.3)
    outcome = campaign.measure(prepared(profile, mock_delay=0.01), tmp_path / "r")
    assert outcome.reason == "budget"
    assert outcome.rounds < 100


OWN_SUITE = """
family = "mine"
[workload.good]
command = "true"
[workload.it-fails]
command = "false"
"""


def test_a_benchmark_that_fails_in_one_mode_stops_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN_SUITE)
    profile = suite.changed(SMALL, workloads=("good", "it-fails"))
    outcome = campaign.measure(prepared(profile, suite_file=tmp_path / "own.toml"), tmp_path / "r")
    assert {f["arm"] for f in outcome.failures} == {"sev"}
    assert len(outcome.failures) == 3
    modes = {(s.workload, str(s.mode)) for s in outcome.samples}
    assert ("it-fails", "sev") not in modes
    assert {("it-fails", "nosev"), ("it-fails", "sev-snp"), ("good", "sev")} < modes


def test_the_same_settings_go_on_and_others_are_refused(tmp_path: Path) -> None:
    campaign.measure(prepared(), tmp_path / "r")
    before = (tmp_path / "r" / store.RECORDS).read_bytes()
    outcome = campaign.measure(prepared(), tmp_path / "r")
    assert (tmp_path / "r" / store.RECORDS).read_bytes() == before
    assert len(outcome.samples) == len(store.load(tmp_path / "r").samples)
    with pytest.raises(UsageError, match="other settings"):
        campaign.measure(prepared(suite.changed(SMALL, iterations=3)), tmp_path / "r")


def test_more_boots_can_be_added_to_a_finished_campaign(tmp_path: Path) -> None:
    campaign.measure(prepared(), tmp_path / "r")
    outcome = campaign.measure(prepared(suite.changed(SMALL, most_boots=5)), tmp_path / "r")
    assert {s.boot for s in outcome.samples} == set(range(5))


def test_any_interruption_resumes_to_the_same_values(tmp_path: Path) -> None:
    """Killed after any record: what comes out in the end is the same, sample for sample."""
    whole = campaign.measure(prepared(), tmp_path / "whole")
    values = sorted((s.workload, s.arm, s.boot, s.iteration, s.value) for s in whole.samples if not s.warmup)
    lines = (tmp_path / "whole" / store.RECORDS).read_bytes().splitlines(keepends=True)
    for cut in range(1, len(lines), 7):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / store.HEADER).write_bytes((tmp_path / "whole" / store.HEADER).read_bytes())
        (folder / store.RECORDS).write_bytes(b"".join(lines[:cut]) + lines[cut][:-3])
        outcome = campaign.measure(prepared(), folder)
        resumed = [s for s in outcome.samples if not s.warmup]
        assert sorted((s.workload, s.arm, s.boot, s.iteration, s.value) for s in resumed) == values
        assert store.load(folder).damage == []


def test_killed_and_resumed_gives_the_same_result(tmp_path: Path) -> None:
    """The real thing: a process killed with SIGKILL in mid-run."""
    output = tmp_path / "r"
    options = ["--where", "mock", "--boots", "4", "--most-boots", "4", "--mock-delay", "0.02", "--output", str(output)]
    argv = [sys.executable, "-m", "sevkit", "bench", "run", *options, "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, env=environment) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            records = output / store.RECORDS
            if records.exists() and records.read_bytes().count(b"\n") > 25:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = store.load(output)
    assert len(before.samples) > 0
    assert not before.of_kind("stop")
    done = subprocess.run(argv, capture_output=True, env=environment, timeout=120, check=True)
    resumed = json.loads(done.stdout)["data"]
    kept = [s for s in store.load(output).samples if not s.warmup]
    first = [s for s in before.samples if not s.warmup]
    assert kept[: len(first)] == first
    assert len({(s.workload, s.storage, s.arm, s.boot, s.iteration) for s in kept}) == len(kept)
    whole = [*argv[:-2], str(tmp_path / "whole"), "--json"]
    undisturbed = json.loads(
        subprocess.run(whole, capture_output=True, env=environment, timeout=120, check=True).stdout
    )
    key = ("workload", "storage", "mode", "control", "ratio", "interval", "verdict", "boots", "samples")
    told = [{k: c[k] for k in key} for c in resumed["comparisons"]]
    assert told == [{k: c[k] for k in key} for c in undisturbed["data"]["comparisons"]]


class Jumping:
    """A wall clock that jumps an hour ahead after some readings."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> float:
        self.left -= 1
        return 3600.0 if self.left < 0 else 0.0


def test_a_clock_that_jumps_is_written_down_and_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_clock_offset", Jumping(20))
    outcome = campaign.measure(prepared(), tmp_path / "r")
    clocks = store.load(tmp_path / "r").of_kind("clock")
    assert [c["seconds"] for c in clocks] == [3600.0]
    assert outcome.reason == "boots"


def test_a_full_disk_ends_the_campaign_and_it_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = store.Store.append
    count = 0

    def append(self: store.Store, *records: Mapping[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == 30:
            raise NoSpaceError("the disk is full", hint="free some space")
        real(self, *records)

    monkeypatch.setattr(store.Store, "append", append)
    with pytest.raises(NoSpaceError):
        campaign.measure(prepared(), tmp_path / "r")
    outcome = campaign.measure(prepared(), tmp_path / "r")
    kept = [s for s in outcome.samples if not s.warmup]
    assert len({(s.workload, s.arm, s.boot, s.iteration) for s in kept}) == len(kept) == 3 * 5 * 2 * 2


def test_co_located_guests_each_give_a_sample(tmp_path: Path) -> None:
    profile = suite.changed(SMALL, guests=(3,), workloads=("sha256",))
    outcome = campaign.measure(prepared(profile), tmp_path / "r")
    assert len([s for s in outcome.samples if not s.warmup]) == 3 * 5 * 2 * 3


def test_a_mode_that_was_asked_for_and_cannot_run_is_an_error() -> None:
    with pytest.raises(UnsupportedModeError, match="sev-snp"):
        campaign.prepare(Wish(SMALL, where="host", modes=(Mode.NOSEV, Mode.SEV_SNP)))


def test_as_published_takes_the_study_s_commands() -> None:
    profile = suite.changed(suite.profile("paper"), as_published=True)
    made = campaign.prepare(Wish(profile, where="mock")).plan
    workloads = {w.name: w for c in made.configs for w in c.workloads}
    assert "ioengine" not in workloads["bw_read"].command
    assert workloads["iops_randread"].parse == "fio-first"
    assert "--rw=randread" in workloads["iops_mixread"].command
    assert {c.cache for c in made.configs} == {"writeback"}
    assert {(c.vcpus, c.memory_mib) for c in made.configs} == {(16, 16384)}


def test_failures_are_not_measured_again_on_resumption() -> None:
    done = Done(failed={("c0.b0.sev", "w")})
    made = prepared().plan
    slot = next(s for s in made.block(made.configs[0], 0) if s.arm.name == "sev")
    other = suite.Workload("w", "w", "f", "true")
    assert done.left(slot, other, 3) == []


def test_the_host_measures_itself(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'family = "mine"\n[workload.short]\ncommand = "dd if=/dev/zero of=/dev/null bs=64k count=100 2>/dev/null"\n'
        '[workload.lost]\ncommand = "true"\nneeds = ["no-such-program-here"]\n'
        '[workload.number]\ncommand = "echo value 41.5"\nparse = "number"\npattern = "value ([0-9.]+)"\nunit = "x"\n'
    )
    profile = suite.changed(SMALL, workloads=("short", "lost", "number"), modes=(Mode.NOSEV,))
    wish = Wish(profile, where="host", suite_file=tmp_path / "own.toml")
    outcome = campaign.measure(campaign.prepare(wish), tmp_path / "r")
    assert outcome.failures == []
    assert {s["workload"] for s in outcome.skipped} == {"lost"}
    assert {str(s.at.provenance) for s in outcome.samples} == {"hardware"}
    assert {s.value for s in outcome.samples if s.workload == "number"} == {41.5}
    raws = [s.extra["raw"] for s in outcome.samples if s.workload == "number"]
    assert (tmp_path / "r" / raws[0]).read_text() == "value 41.5\n"
    times = [s.value for s in outcome.samples if s.workload == "short"]
    assert all(0 < t < 10 for t in times)


def test_the_environment_reads_what_programs_print() -> None:
    text = "Memory Device\n\tSize: 64 GB\n\tManufacturer: Hynix\n\tPart Number: X1\n\tSpeed: 3200 MT/s\n"
    empty = "Memory Device\n\tSize: No Module Installed\n"
    assert environment.dimms_from(f"{text}\n{text}\n{empty}") == "2 x Hynix X1 64 GB 3200 MT/s"
    assert environment.of_guest("guest CPU=QEMU\nguest clock=\nx") == {"guest CPU": "QEMU"}
    assert environment.cpu_info("model name\t: AMD EPYC\nflags\t: a b\n\nmodel name: other")["model name"] == "AMD EPYC"


def test_the_firmware_is_named_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "OVMF.fd").write_bytes(b"firmware")
    named = environment.firmware(["qemu", "-bios", str(tmp_path / "OVMF.fd")])
    flash = f"if=pflash,unit=0,format=raw,readonly=on,file={tmp_path / 'OVMF.fd'}"
    assert named == environment.firmware(["qemu", "-drive", flash])
    assert named.startswith("OVMF.fd ")
    assert environment.firmware(["qemu"]) == "SeaBIOS"
