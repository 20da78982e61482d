"""The study, reproduced: every row is there, each beside the right number, and what cannot fit is refused."""

import csv
import math
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import pytest

from sevkit.bench import report as reports
from sevkit.bench import reproduce, suite
from sevkit.bench.analysis import published
from sevkit.bench.analysis.comparison import Rules
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign import estimate, plan, room
from sevkit.bench.campaign.directory import Wish
from sevkit.errors import NoSpaceError, UsageError
from sevkit.qemu import overlay
from sevkit.render import bench_html
from sevkit.vocabulary import Mode

MODES = [Mode.NOSEV, Mode.SEV_SNP]


def laid_out(name: str, *, emulated: bool = False, **changes: object) -> plan.Plan:
    profile = suite.changed(suite.profile(name), **changes)
    return plan.make(profile, suite.chosen(profile, suite.workloads()), MODES, where="guest", seed=0, emulated=emulated)


def named(made: plan.Plan, name: str) -> suite.Workload:
    return next(w for config in made.configs for w in config.workloads if w.name == name)


def answered_by(made: plan.Plan) -> set[tuple[str, str, str]]:
    storages = ((c.storage.removeprefix("virtio-"), w) for c in made.configs for w in c.workloads)
    return {(w.study_row[0], storage if w.disk else "", w.study_row[1]) for storage, w in storages}


def test_the_profile_has_a_workload_for_every_row_of_the_study() -> None:
    assert primary_rows() <= answered_by(laid_out(reproduce.PROFILES[False]))


def test_the_small_profile_has_every_family_on_every_storage_and_the_other_rows_can_be_named() -> None:
    small = suite.profile(reproduce.PROFILES[True])
    families = {(s.workload, s.storage, s.metric.name): (s.family, s.storage) for s in published.samples()}
    answered = answered_by(laid_out(small.name)) & primary_rows()
    assert {families[row] for row in answered} == {families[row] for row in primary_rows()}
    rest = {workload for workload, *_ in primary_rows() - answered}
    assert {"bw_write", "al_read"} <= rest
    assert set(reproduce.narrowed(small, sorted(rest))) == rest


def primary_rows() -> set[tuple[str, str, str]]:
    return {(s.workload, s.storage, s.metric.name) for s in published.samples() if s.metric.primary}


def test_what_a_workload_answers_to_is_a_row_of_the_study() -> None:
    rows = {(workload, metric) for workload, _, metric in primary_rows()}
    for workload in suite.workloads().values():
        if workload.study:
            assert workload.study_row in rows, workload.name


def test_every_row_stands_beside_the_studys_number(tmp_path: Path) -> None:
    prepared = campaign.prepare(Wish(suite.profile("paper-small"), where="mock"))
    outcome = campaign.measure(prepared, tmp_path / "r")
    report = reports.of_directory(tmp_path / "r", Rules())
    rows = reproduce.rows(prepared.plan, report.comparisons, outcome.failures, outcome.skipped)
    assert {row.key for row in rows} == primary_rows()
    measured = answered_by(prepared.plan)
    for row in rows:
        if row.key in measured:
            assert row.here is not None
            assert row.here.ratio is not None
            assert row.reason == ""
        else:
            assert row.here is None
            assert row.reason == f"not in this campaign (--workload {row.key[0]} measures it)"
    by_key = {row.key: row for row in rows}
    linux = by_key["linux", "", "time"]
    assert linux.study is not None
    assert math.isclose(linux.study, 1.026, abs_tol=0.001)
    assert linux.here is not None
    assert linux.here.series.workload == "linux-small"
    assert "three files" in linux.differs
    assert by_key["bw_read", "blk", "bandwidth"].article == pytest.approx(0.400772)
    assert by_key["memset", "", "copy_rate"].here is not None
    # The mock is not hardware: whether the study's ratio lies in its interval says nothing.
    assert {row.study_in_interval for row in rows} == {None}
    shown = reproduce.with_study(report, prepared.plan, rows)
    compared = next(c.as_dict() for c in report.comparisons if c.series.workload == "linux-small")
    assert reports.study_ratio(shown, compared) == linux.study
    assert any(note.startswith("memcpy: sevkit's membench stands in") for note in shown.mistakes)
    told = bench_html.render(shown, [row.as_dict() for row in rows])
    table = told.partition("row by row")[2].partition("</table>")[0]
    assert table.count("<tr>") == 1 + len(rows)
    assert "--workload bw_write measures it" in table
    assert "row by row" not in bench_html.render(shown)


def test_a_row_without_a_measurement_says_why(tmp_path: Path) -> None:
    profile = suite.changed(suite.profile("paper-small"), workloads=("memcpy",))
    prepared = campaign.prepare(Wish(profile, where="mock"))
    outcome = campaign.measure(prepared, tmp_path / "r")
    report = reports.of_directory(tmp_path / "r", Rules())
    rows = reproduce.rows(prepared.plan, report.comparisons, outcome.failures, outcome.skipped)
    reasons = {row.key[0]: row.reason for row in rows}
    assert reasons["memcpy"] == ""
    assert reasons["linux"] == "not in this campaign (--workload linux-small measures it)"


def test_a_compilation_that_cannot_end_is_refused_before_it_starts() -> None:
    with pytest.raises(UsageError, match=r"one sample of .* its limit is") as caught:
        estimate.check_budget(laid_out("paper", emulated=True, budget=1e9, vcpus=(1,)))
    assert "paper-small" in str(caught.value.hint)
    lifted = re.search(r"--timeout (\d+)", str(caught.value.hint))
    assert lifted is not None
    profile = suite.changed(suite.profile("paper"), budget=1e9, vcpus=(1,))
    patient = campaign.prepare(Wish(profile, where="mock", timeout=1e6)).plan
    estimate.check_budget(replace(patient, where="guest", emulated=True))
    estimate.check_budget(laid_out("paper-small", emulated=True))


class Untried:
    """An executor on a host whose KVM makes VMs in which no guest runs."""

    emulated = False

    def tried(self) -> bool | None:
        return False if self.emulated else None

    def settle(self) -> None:
        self.emulated = True


def test_kvm_is_tried_before_hours_are_spent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(room, "check", lambda _: None)
    monkeypatch.setenv("SEVKIT_STATE_DIR", str(tmp_path / "state"))
    made = laid_out("paper", workloads=("llvm",), vcpus=(1,), budget=1e9)
    made = replace(made, configs=tuple(with_limit(c, 1.5 * 16 * 742) for c in made.configs))
    estimate.check_budget(made)
    prepared = replace(campaign.prepare(Wish(suite.profile("paper"), where="mock")), plan=made, executor=Untried())
    with pytest.raises(UsageError, match="one sample of llvm"):
        campaign.measure(prepared, tmp_path / "r")
    assert prepared.executor.emulated
    assert not (tmp_path / "r").exists()


def with_limit(config: plan.Config, seconds: float) -> plan.Config:
    return replace(config, workloads=tuple(replace(w, timeout=seconds) for w in config.workloads))


def test_guests_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path))
    made = laid_out("paper-small")
    room.check(replace(made, where="mock", configs=tuple(replace(c, memory_mib=1 << 40) for c in made.configs)))
    with pytest.raises(NoSpaceError, match="do not fit this host"):
        room.check(replace(made, configs=tuple(replace(c, memory_mib=1 << 40) for c in made.configs)))
    with pytest.raises(NoSpaceError, match="the disks of one boot"):
        room.check(replace(made, configs=tuple(replace(c, disk_mib=1 << 40) for c in made.configs)))


def test_what_guests_write_is_looked_for_where_qemu_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path))
    free = {Path("/dev/shm"): 400 << 20}  # noqa: S108
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free.get(Path(folder), 1 << 50)))
    made = laid_out("paper", workloads=("imagemagick",), vcpus=(1,), memory_mib=(1024,))
    room.check(made)
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    with pytest.raises(NoSpaceError, match=r"take 500 MiB, 400 MiB are free at /dev/shm"):
        room.check(made)
    monkeypatch.setenv("TMPDIR", "/tmp")  # noqa: S108
    assert overlay.folder() == Path("/var/tmp")  # noqa: S108
    monkeypatch.delenv("TMPDIR")
    assert overlay.folder() == Path("/var/tmp")  # noqa: S108


def test_each_sample_takes_new_space_up_to_the_size_of_the_disk() -> None:
    def written(*, emulated: bool = False, **changes: object) -> int:
        made = laid_out("paper", emulated=emulated, **changes)
        return room.written_mib(made, made.configs[0])

    one = written(workloads=("imagemagick",))
    assert one > 0
    assert written(workloads=("imagemagick",), iterations=3) == 3 * one
    assert written(iterations=1000) == 40 << 10
    files = ("lz4-compress",)
    assert written(workloads=files, memory_mib=(1100,)) == written(workloads=files, memory_mib=(17600,)) / 16
    assert written(workloads=files, emulated=True) == 0  # 32 MiB under TCG
    assert written(workloads=("memcpy",)) == 0


def test_a_sample_that_fills_the_root_disk_is_refused() -> None:
    def decompressed(memory_mib: int) -> plan.Plan:
        return laid_out("quick", workloads=("lz4-decompress",), image="bench", memory_mib=(memory_mib,))

    made = decompressed(8192)
    with pytest.raises(NoSpaceError, match=r"lz4-decompress writes .* the disk of the image bench has") as caught:
        room._check_root(made, made.configs[0])
    fits = re.search(r"memory_mib=(\d+)", str(caught.value.hint))
    assert fits is not None
    made = decompressed(int(fits[1]))
    assert int(fits[1]) >= 2048
    room._check_root(made, made.configs[0])
    for name in suite.profiles():
        made = laid_out(name)
        for config in made.configs:
            room._check_root(made, config)


def test_an_estimate_counts_with_the_jobs_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    ours, published = laid_out("paper"), laid_out("paper", as_published=True)
    whole, four = (estimate.sample_seconds(named(made, "linux"), made, made.configs[0]) for made in (ours, published))
    assert four == pytest.approx(whole * 16 / 4)  # the study gave make four jobs, whatever the guest had
    counts = {w.name: estimate.jobs(w, published.configs[0]) for w in published.configs[0].workloads}
    assert (counts["linux"], counts["imagemagick"], counts["godot"]) == (4, 32, 16)


def test_without_kvm_compilers_are_slowed_down_more_than_other_programs() -> None:
    def slower(name: str) -> float:
        with_kvm, without = (laid_out("paper", emulated=emulated) for emulated in (False, True))
        each = [estimate.sample_seconds(named(made, name), made, made.configs[0]) for made in (without, with_kvm)]
        return each[0] / each[1]

    assert slower("imagemagick") == slower("llvm") > 1.5 * slower("mbw-memcpy")


def test_the_estimate_of_the_studys_fio_rows_is_what_they_took_there() -> None:
    made = laid_out("paper", as_published=True)
    table = resources.files("sevkit") / "bench/data/published/study-fio.csv"
    for row in csv.DictReader(table.read_text().splitlines()):
        seconds = estimate.sample_seconds(named(made, row["workload"]), made, made.configs[0])
        assert 0.5 < float(row["seconds"]) / seconds < 2, row["workload"]


def test_jobs_that_need_more_memory_than_the_guest_has_are_refused() -> None:
    with pytest.raises(NoSpaceError, match="llvm with 16 jobs takes up to") as caught:
        room.check(laid_out("paper", workloads=("llvm",), memory_mib=(1024,)))
    assert "--sweep memory_mib=" in str(caught.value.hint)
    for made in (laid_out("paper"), laid_out("paper", as_published=True), laid_out("paper-small")):
        for config in made.configs:
            room._check_jobs(config)


def test_the_largest_job_counts_once_and_alone_too() -> None:
    llvm = suite.workloads()["llvm"]
    assert llvm.largest_job_mib > llvm.job_memory_mib
    for jobs in (1, 8):
        wanted = 256 + (jobs - 1) * llvm.job_memory_mib + llvm.largest_job_mib
        room._check_jobs(laid_out("paper", workloads=("llvm",), vcpus=(jobs,), memory_mib=(wanted,)).configs[0])
        with pytest.raises(NoSpaceError, match=f"{jobs} jobs takes up to {wanted} MiB"):
            room._check_jobs(laid_out("paper", workloads=("llvm",), vcpus=(jobs,), memory_mib=(wanted - 1,)).configs[0])


def test_small_and_whole_variants_need_two_campaigns() -> None:
    with pytest.raises(UsageError, match="study-small"):
        laid_out("paper", workloads=("linux", "linux-small"))
    assert {c.image for c in laid_out("quick", workloads=("linux", "redis-get")).configs} == {"study"}
    assert {c.image for c in laid_out("smoke").configs} == {"mini"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["linux"], ("linux-small",)),
        (["linux-small", "linux"], ("linux-small",)),
        (["@compilation"], ("linux-small", "llvm-small", "godot-small", "imagemagick-small")),
        (["redis-get", "linux"], ("redis-get", "linux-small")),
        ([], suite.profile("paper-small").workloads),
    ],
)
def test_workloads_are_named_as_the_study_names_them(wanted: list[str], expected: tuple[str, ...]) -> None:
    assert reproduce.narrowed(suite.profile("paper-small"), wanted) == expected


def test_a_workload_that_is_not_the_studys_is_refused() -> None:
    for name in ("gzip", "@vmexit", "", "llvm-smal"):
        with pytest.raises(UsageError, match="no workload of the study"):
            reproduce.narrowed(suite.profile("paper-small"), [name])


def test_the_small_studys_estimate_rests_on_measured_durations() -> None:
    made = laid_out("paper-small", emulated=True)
    for workload in {w.name: w for c in made.configs for w in c.workloads}.values():
        fio = "$SECONDS_EACH" in workload.command
        assert fio or workload.emulated > 0, workload.name
        # The ramp and the start of fio count as well.
        assert not fio or estimate.sample_seconds(workload, made, made.configs[0]) > 3 * made.profile.seconds
    assert 180 < estimate.seconds(made, 1) < made.profile.budget / 2
