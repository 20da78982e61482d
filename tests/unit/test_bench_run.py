"""Plans, the runner and its stopping rule, on the mock: interleaving, failures, clocks, resumption."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sevkit import procfs
from sevkit.bench import store, suite
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import FEWEST_BOOTS, Ruling
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign import disk, environment, estimate, hostlock, place, plan, run
from sevkit.bench.campaign.block import Done
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.campaign.mock import MockExecutor
from sevkit.bench.lint.answer import lint
from sevkit.bench.lint.fio import duration
from sevkit.bench.records import ClockJump, Discarded, SlotEnd, Stop
from sevkit.bench.suite import Profile
from sevkit.errors import DeadlineError, GuestError, NoSpaceError, UnsupportedModeError, UsageError
from sevkit.guest.result import CommandResult
from sevkit.vocabulary import Mode
from tests.support.waiting import until

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
        for index, arm in enumerate(plan.arm_order(arms, boot)):
            places[arm.name] += index
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
    assert loaded.of_kind(Stop)[-1].reason == "boots"


def test_the_control_is_equal_and_costs_are_found(tmp_path: Path) -> None:
    profile = suite.changed(SMALL, boots=6, most_boots=6)
    found = compare(campaign.measure(prepared(profile), tmp_path / "r").samples)
    assert {c.outcome for c in found if c.control} == {Ruling.EQUAL}
    snp = next(c for c in found if c.series.workload == "disk-read" and c.other.mode is Mode.SEV_SNP)
    assert snp.outcome is Ruling.WORSE
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
    profile = suite.changed(SMALL, boots=1, most_boots=500, budget=0.5)
    outcome = campaign.measure(prepared(profile, mock_delay=0.01), tmp_path / "r")
    assert outcome.reason == "budget"
    assert outcome.rounds < 100


def test_the_budget_is_looked_at_before_each_boot(tmp_path: Path) -> None:
    """With 0.4 s per boot and 0.5 s in all, a block of five boots is left after two."""
    profile = suite.changed(SMALL, boots=1, most_boots=3, budget=0.5, iterations=1, warmups=1, workloads=("sha256",))
    ready = prepared(profile, mock_delay=0.2)
    slow = replace(ready, plan=replace(ready.plan, mock_delay=0.0))  # an estimate that was too hopeful
    outcome = campaign.measure(slow, tmp_path / "r")
    assert outcome.reason == "budget"
    assert 1 <= len({s.arm for s in outcome.samples}) < 5


def laid_out(profile: Profile, *, emulated: bool = False) -> plan.Plan:
    """A profile as it runs where the strongest mode is SEV-SNP: three arms, or five where it names all modes."""
    modes = [Mode.NOSEV, Mode.SEV_SNP] if profile.strongest else list(profile.modes)
    where = "host" if profile.name == "host" else "guest"
    chosen = suite.chosen(profile, suite.workloads())
    return plan.make(profile, chosen, modes, where=where, seed=0, emulated=emulated)


class SlowBoots:
    """An executor whose boots take a second each, on a clock of its own."""

    name = "slow"
    emulated = False

    def __init__(self) -> None:
        self.now = 0.0
        self.mock = MockExecutor(seed=0)

    def monotonic(self) -> float:
        return self.now

    def open(self, slot: Any, identity: Any, *, steady: bool) -> Any:
        self.now += 1.0
        return self.mock.open(slot, identity, steady=steady)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mock, name)


@pytest.mark.parametrize(("budget", "rounds"), [(4.0, 1), (5.0, 1), (9.9, 1), (10.0, 2), (27.5, 5)])
def test_a_round_that_cannot_end_within_the_budget_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: float, rounds: int
) -> None:
    """Five arms, a second each: half a round would be boots that no comparison can use."""
    slow = SlowBoots()
    monkeypatch.setattr(time, "monotonic", slow.monotonic)
    profile = suite.changed(SMALL, boots=1, most_boots=9, budget=budget, workloads=("sha256",), iterations=1)
    ready = replace(prepared(profile), executor=slow)
    outcome = campaign.measure(ready, tmp_path / "r")
    boots = store.load(tmp_path / "r").boots
    assert outcome.reason == "budget"
    assert outcome.rounds >= rounds
    assert len(boots) == 5 * rounds
    again = campaign.measure(ready, tmp_path / "r")
    assert again.reason == "budget"
    assert store.load(tmp_path / "r").boots == boots


@pytest.mark.parametrize("emulated", [False, True])
@pytest.mark.parametrize("name", sorted(suite.profiles()))
def test_every_profile_fits_its_budget_or_says_what_does(
    name: str, emulated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two CPUs, with KVM and without."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    made = laid_out(suite.profile(name), emulated=emulated)
    if (name, emulated) == ("paper", True):
        with pytest.raises(UsageError) as refused:
            estimate.check_budget(made)
        fitting = re.findall(r"--profile (\S+?)`", str(refused.value.hint))
        assert fitting == ["paper-small"]
        made = laid_out(suite.profile(fitting[0]), emulated=emulated)
    estimate.check_budget(made)
    assert estimate.seconds(made, made.profile.boots) > 0


def test_the_profile_for_half_an_hour_ends_in_half_an_hour_with_every_storage() -> None:
    for emulated in (False, True):
        made = laid_out(suite.profile("quick"), emulated=emulated)
        assert made.profile.budget <= 1800
        assert made.profile.boots >= FEWEST_BOOTS
        assert made.profile.control
        assert {c.storage for c in made.configs} == {"virtio-blk", "virtio-scsi", "nvme"}
        assert all(any(w.disk for w in c.workloads) for c in made.configs)
        # A sixth of the time is left for a machine that is not as quick as the one of the estimate.
        assert estimate.seconds(made, made.profile.boots) < made.profile.budget * 5 / 6


def test_without_kvm_the_time_of_each_workload_of_the_short_profiles_was_measured() -> None:
    for name in ("quick", "paper-small"):
        for workload in suite.chosen(suite.profile(name), suite.workloads()):
            assert workload.emulated > 0 or workload.parse == "fio", workload.name


def test_what_cannot_fit_is_refused_with_what_would() -> None:
    profile = suite.changed(suite.profile("quick"), seconds=15.0)
    made = plan.make(profile, suite.chosen(profile, suite.workloads()), list(Mode), where="guest", seed=0)
    with pytest.raises(UsageError, match="the budget is 30 minutes") as refused:
        estimate.check_budget(made)
    assert refused.value.hint is not None
    needed = float(refused.value.hint.split("--budget ")[1].split(",")[0])
    estimate.check_budget(replace(made, profile=suite.changed(profile, budget=needed)))
    boots = int(refused.value.hint.split("--boots ")[1].split(" ")[0])
    assert f"(a verdict needs {FEWEST_BOOTS})" in refused.value.hint
    estimate.check_budget(replace(made, profile=suite.changed(profile, boots=boots)))


def test_without_kvm_the_estimate_is_longer() -> None:
    profile = suite.profile("quick")
    chosen = suite.chosen(profile, suite.workloads())
    modes = [Mode.NOSEV, Mode.SEV_SNP]
    one, two = (plan.make(profile, chosen, modes, where="guest", seed=0, emulated=e) for e in (False, True))
    assert estimate.seconds(two, 3) > estimate.seconds(one, 3)
    assert one.fingerprint() == two.fingerprint()


def test_the_order_that_is_printed_is_the_order_that_runs(tmp_path: Path) -> None:
    ready = prepared(suite.changed(SMALL, storage=("virtio-blk", "nvme")))
    campaign.measure(ready, tmp_path / "r")
    ran = [end.slot for end in store.load(tmp_path / "r").of_kind(SlotEnd)]
    assert ran == [str(slot.identity) for slot in estimate.slots(ready.plan, 3)]
    assert [name.split(".")[1] for name in ran] == ["b0"] * 10 + ["b1"] * 10 + ["b2"] * 10


def test_two_campaigns_do_not_measure_on_one_host_at_once() -> None:
    refused = pytest.raises(UsageError, match=rf"another campaign \(process {os.getpid()}\)")
    with hostlock.alone(600), refused, hostlock.alone(0):
        pass
    with hostlock.alone(600):
        pass


def test_a_disk_is_full_of_data_and_a_hole_is_told(tmp_path: Path) -> None:
    disk.fill(tmp_path / "full", 20)
    assert (tmp_path / "full").stat().st_size == 20 << 20
    assert disk.allocated(tmp_path / "full") == "filled"
    assert len(set((tmp_path / "full").read_bytes()[: 1 << 16])) == 256
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(20 << 20)
    assert disk.allocated(tmp_path / "hole") == "0% allocated, the rest are holes"


class Unsteady:
    """An executor whose boots come up unlike the others until they are taken as they are."""

    name = "unsteady"
    emulated = False

    def __init__(self, bad: int) -> None:
        self.left = bad
        self.mock = MockExecutor(seed=0)

    def open(self, slot: Any, identity: Any, *, steady: bool) -> Any:
        if steady and self.left:
            self.left -= 1
            raise place.UnsteadyBootError("the guest's clock fell back to hpet")
        return self.mock.open(slot, identity, steady=steady)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.mock, name)


@pytest.mark.parametrize("bad", [1, 100])
def test_a_boot_unlike_its_neighbours_is_taken_again(tmp_path: Path, bad: int) -> None:
    ready = replace(prepared(), executor=Unsteady(bad))
    outcome = campaign.measure(ready, tmp_path / "r")
    assert outcome.failures == []
    loaded = store.load(tmp_path / "r")
    discarded = loaded.of_kind(Discarded)
    assert "hpet" in discarded[0].reason
    assert len(discarded) == (1 if bad == 1 else 2 * 15)
    assert "c0.b0.nosev.a1" in loaded.boots or "c0.b0.nosev.a2" in loaded.boots


def test_daemons_of_a_workload_are_ended_on_the_host(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'family = "mine"\n[workload.daemon]\nprepare = "sleep 300 >/dev/null 2>&1 & echo $! > $WORK/pid"\n'
        f'command = "cp $WORK/pid {tmp_path}/pid"\nafter = "kill $(cat $WORK/pid)"\n'
    )
    profile = suite.changed(SMALL, workloads=("daemon",), modes=(Mode.NOSEV,), boots=1, most_boots=1)
    wish = Wish(profile, where="host", suite_file=tmp_path / "own.toml")
    assert campaign.measure(campaign.prepare(wish), tmp_path / "r").failures == []
    pid = int((tmp_path / "pid").read_text())
    until(lambda: procfs.thread_state(pid, pid) in ("", "Z", "X"), "the daemon still runs")


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
    assert {f.arm for f in outcome.failures} == {"sev"}
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
        records = output / store.RECORDS
        until(lambda: records.exists() and records.read_bytes().count(b"\n") > 25, "nothing is recorded")
        process.send_signal(signal.SIGKILL)
    before = store.load(output)
    assert len(before.samples) > 0
    assert not before.of_kind(Stop)
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
    clocks = store.load(tmp_path / "r").of_kind(ClockJump)
    assert [c.seconds for c in clocks] == [3600.0]
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


def shell(command: str, timeout: float) -> CommandResult:
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, timeout=timeout, check=False)
    return CommandResult(done.returncode, done.stdout, done.stderr)


def test_bash_tells_the_time_where_there_is_one() -> None:
    assert place.find_clock(shell) == place.CLOCKS["bash"]

    def bare(command: str, timeout: float) -> CommandResult:
        return CommandResult(127, b"", b"not found") if "bash" in command else shell(command, timeout)

    assert place.find_clock(bare) == place.CLOCKS["date"]


@pytest.mark.parametrize("name", ["bash", "date", "uptime"])
def test_each_clock_times_a_command_and_keeps_its_status_and_output(name: str) -> None:
    clock = place.CLOCKS[name]
    setup = "export WORD='it''s a \"word\"'; "
    good = suite.Workload("w", "w", "f", 'printf "%s\\n" "$WORD"; sleep 0.1', parse="time")
    measured = place.run_timed(shell, clock, setup, good)
    assert 0.08 < measured.seconds <= measured.host_seconds + 0.02
    assert measured.raw == b'its a "word"\n'
    with pytest.raises(GuestError, match="failed with status 3"):
        place.run_timed(shell, clock, setup, replace(good, command="(exit 3)"))
    assert place.command_seconds(shell, clock) >= 0


def test_a_limit_that_ends_a_workload_is_told_by_its_name_with_what_raises_it() -> None:
    def stuck(command: str, timeout: float) -> CommandResult:
        raise DeadlineError(f"the guest did not finish `{command[:20]}...` within {timeout:g} s")

    workload = suite.Workload("linux", "w", "f", "make", parse="time", timeout=3600)
    with pytest.raises(DeadlineError) as caught:
        place.run_timed(stuck, place.CLOCKS["bash"], "export A=1; ", workload)
    assert caught.value.message == "a sample of linux did not end within 3600 s; --timeout gives it longer"
    with pytest.raises(DeadlineError) as caught:
        place.run_untimed(stuck, "export A=1; ", "what comes before linux", "make clean", 30)
    assert caught.value.message == "what comes before linux did not end within 120 s; --timeout gives it longer"


def test_the_cpu_time_of_others_is_that_of_all_without_the_campaign_s(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(0.0, 100.0, 10.0), (10.0, 115.0, 20.0), (20.0, 130.0, 36.0), (20.0, 130.0, 36.0)])
    monkeypatch.setattr(environment.Others, "_read", staticmethod(lambda: next(readings)))
    others = environment.Others()
    assert [others.cpus() for _ in range(3)] == [0.5, 0.0, None]


def test_the_cpu_time_of_a_child_is_the_campaign_s_own_while_it_runs_and_after() -> None:
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    _, _, before = environment.Others._read()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        _, _, during = environment.Others._read()
        child.communicate(b"\n")
    _, _, after = environment.Others._read()
    assert before + 0.25 < during <= after


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
    assert {s.workload for s in outcome.skipped} == {"lost"}
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


def test_short_samples_are_told(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        'family = "mine"\n[workload.short]\ncommand = ":"\n[workload.long]\ncommand = "sleep 1"\n'
    )
    profile = suite.changed(SMALL, workloads=("short", "long"), modes=(Mode.NOSEV,), boots=1, most_boots=1)
    wish = Wish(profile, where="host", suite_file=tmp_path / "own.toml")
    campaign.measure(campaign.prepare(wish), tmp_path / "r")
    findings = [f for f in lint(tmp_path / "r").findings if f.rule == "short-sample"]
    assert "short" in {f.file for f in findings}


@pytest.mark.parametrize(
    ("seconds", "word", "ramp"),
    [(0.5, "500ms", "500ms"), (60, "60000ms", "1000ms"), (1.2345, "1234ms", "1000ms")],
)
def test_fio_is_given_milliseconds_since_it_takes_a_fraction_for_no_limit(seconds: float, word: str, ramp: str) -> None:
    slot = prepared().plan.block(prepared().plan.configs[0], 0)[0]
    set_ = place.variables(slot, disk="/dev/vda", work="/tmp", seconds=seconds, scale=1)
    assert f"SECONDS_EACH={word} " in set_
    assert f"RAMP_EACH={ramp} " in set_
    assert duration(word) == pytest.approx(seconds, abs=1e-3)
