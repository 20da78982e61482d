"""Importing: names, fio, hyperfine, pyperf, the study's tables."""

import json
import shutil
from pathlib import Path, PurePath

import pytest

from sevkit.bench import names, store
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Ruling
from sevkit.bench.imports import files as imports
from sevkit.bench.imports import fio, write
from sevkit.bench.model import Direction
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode, Provenance

FIO = Path(__file__).parent.parent / "golden/bench/fio"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("iops_randread-nvme-sev.json", ("iops_randread", "nvme", Mode.SEV, None)),
        ("iops_randread-nvme-sev-snp.json", ("iops_randread", "nvme", Mode.SEV_SNP, None)),
        ("al_read-blk-nosev-3.json", ("al_read", "blk", Mode.NOSEV, 3)),
        ("bw_write-virtio-scsi-sev_es.run2.json", ("bw_write", "virtio-scsi", Mode.SEV_ES, 2)),
        ("tb-nosev/linux.csv", ("linux", "", Mode.NOSEV, None)),
        ("nvme/snp/run4/bw_read.json", ("bw_read", "nvme", Mode.SEV_SNP, 4)),
        ("sevenths.json", ("sevenths", "", None, None)),
        ("iops-no_sev-2.json", ("iops", "", Mode.NOSEV, 2)),
        ("iops-non-sev.json", ("iops", "", Mode.NOSEV, None)),
        ("sev off/iops.json", ("iops", "", Mode.NOSEV, None)),
        ("without-SEV/iops-0.json", ("iops", "", Mode.NOSEV, 0)),
        ("SEV=0/iops.json", ("iops", "", Mode.NOSEV, None)),
        ("iops-sev-0.json", ("iops", "", Mode.SEV, 0)),
        ("iops-no-snp.json", ("iops", "", None, None)),  # perhaps with SEV
        ("sev/iops-no-snp.json", ("iops", "", None, None)),
    ],
)
def test_names_say_workload_storage_mode_and_run(name: str, expected: tuple[object, ...]) -> None:
    found = names.from_path(PurePath(name))
    assert (found.workload, found.storage, found.mode, found.run) == expected


def test_a_name_of_two_modes_says_none(tmp_path: Path) -> None:
    (tmp_path / "sev-vs-nosev.json").write_text('{"results": [{"command": "x", "times": [1.0, 2.0]}]}')
    with pytest.raises(BadInputError) as caught:
        imports.read_folder(tmp_path, imports.Given())
    assert "its name says several modes (sev, nosev); give --mode" in str(caught.value.detail)


def hyperfine(*commands: str) -> str:
    results = [{"command": c, "times": [1 + i / 7, 2 + i / 7]} for i, c in enumerate(commands)]
    return json.dumps({"results": results})


def phoronix(*systems: str, value: str = "5") -> str:
    entries = "".join(f"<Entry><Identifier>{system}</Identifier><Value>{value}</Value></Entry>" for system in systems)
    result = f"<Result><Title>T</Title><Scale>MB/s</Scale><Proportion>HIB</Proportion><Data>{entries}</Data></Result>"
    return f"<PhoronixTestSuite>{result}</PhoronixTestSuite>"


def pytest_json(*names: str) -> str:
    return json.dumps({"benchmarks": [{"name": n, "stats": {"mean": 1 + i / 7}} for i, n in enumerate(names)]})


@pytest.mark.parametrize(
    ("files", "modes"),
    [
        ({"sev-vs-nosev.json": hyperfine("run nosev", "run sev")}, {"nosev": 2, "sev": 2}),
        ({"x-sev.json": hyperfine("run nosev", "run sev")}, {"nosev": 2, "sev": 2}),
        ({"x-nosev.json": hyperfine("sev-tool", "other")}, {"nosev": 4}),
        ({"a.json": pytest_json("test_x[nosev]", "test_x[sev]")}, {"nosev": 1, "sev": 1}),
        ({"a-nosev.json": pytest_json("test_sev_launch", "test_other[4]")}, {"nosev": 2}),
        ({"a.xml": phoronix("SEV off", "SEV on")}, {"nosev": 1, "sev": 1}),
        ({"sev/a.xml": phoronix("plain guest", "sev guest")}, {}),  # both would be sev
        ({"a.xml": phoronix("one", "two", "nosev", "sev")}, {"nosev": 1, "sev": 1}),
        ({"sev/a.xml": phoronix("nosev")}, {}),  # a contradiction
        ({"sev-eval/native/a.xml": phoronix("x"), "sev-eval/sev/a.xml": phoronix("x", value="7")}, {"sev": 1}),
        ({"tb-sev/a.xml": phoronix("x"), "tb-nosev/a.xml": phoronix("x", value="7")}, {"nosev": 1, "sev": 1}),
    ],
)
def test_the_mode_is_whose_it_is(tmp_path: Path, files: dict[str, str], modes: dict[str, int]) -> None:
    for name, text in {**files, "own-sev-es.json": hyperfine("make")}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = imports.read_folder(tmp_path, imports.Given())
    counts = {str(mode): sum(s.mode is mode for s in found.samples) for mode in Mode}
    assert {mode: count for mode, count in counts.items() if count} == {**modes, "sev-es": 2}
    assert bool(found.skipped) == (sum(modes.values()) < sum(text.count("<Value>") for text in files.values()))


def test_what_the_user_gives_fills_in_and_does_not_overrule(tmp_path: Path) -> None:
    for name in ("iops-nosev.json", "iops-sev.json", "iops.json", "iops-nvme.json"):
        (tmp_path / name).write_text(hyperfine("make"))
    found = imports.read_folder(tmp_path, imports.Given(mode=Mode.SEV, storage="blk"))
    assert found.files == ["iops-sev.json", "iops.json"]
    assert found.skipped == [
        ("iops-nosev.json", "iops: its name says nosev, and --mode sev: rename it, or leave --mode out"),
        ("iops-nvme.json", "iops: its name says nvme, and --storage blk: rename it, or leave --storage out"),
    ]


def test_one_result_that_failed_takes_nothing_from_the_others(tmp_path: Path) -> None:
    text = phoronix("nosev", "sev").replace("<Value>5</Value></Entry></Data>", "<Value></Value></Entry></Data>")
    (tmp_path / "a.xml").write_text("+ phoronix-test-suite\n" + text + "\ndone\n")
    found = imports.read_folder(tmp_path, imports.Given())
    assert [(str(s.mode), s.value) for s in found.samples] == [("nosev", 5.0)]
    assert found.skipped == [("a.xml", "T (sev): no value")]


def test_a_given_workload_names_all_figures_and_pools_none(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(phoronix("sev"))
    (tmp_path / "b.json").write_text(pytest_json("test_x[sev]", "test_y[nosev]"))
    found = imports.read_folder(tmp_path, imports.Given(workload="w"))
    assert [s.workload for s in found.samples] == ["w", "w/test_x", "w/test_y"]


def test_jobs_of_one_name_that_ran_one_after_the_other_do_not_add_up(tmp_path: Path) -> None:
    document = json.loads((FIO / "iops_mixread-nvme-sev.json").read_text())
    first = document["jobs"][0]
    document["jobs"] = [first, {**first, "groupid": 1}]
    (tmp_path / "iops-sev.json").write_text(json.dumps(document))
    found = [s for s in imports.read_folder(tmp_path, imports.Given()).samples if s.metric.name == "iops"]
    assert [s.workload for s in found] == [f"iops/{first['jobname']} (group {n})" for n in (0, 1)]
    assert found[0].value == found[1].value


MBW = "0\tMethod: MEMCPY\tElapsed: 0.05\tMiB: {}.00000\tCopy: 5{}.123 MiB/s\n"
SYSBENCH = "sysbench 1.0.20\nNumber of threads: {}\nPrime numbers limit: 20000\n events per second: 1{}.123\n"
IPERF = '{{"start": {{"test_start": {{"protocol": "TCP", "num_streams": {}}}}}, "end": {{"sum": {{"bits_per_second": 9{}}}}}}}'
PYPERF = '{{"benchmarks": [{{"metadata": {{"python_version": "3.{}"}}, "runs": [{{"values": [0.{}]}}]}}]}}'


@pytest.mark.parametrize(
    ("text", "file", "fact"),
    [
        (MBW, "w-{}-boot{}.txt", "mbw array differs (16 MiB against 64 MiB)"),
        (SYSBENCH, "w-{}-boot{}.txt", "sysbench number of threads differs (16 against 64)"),
        (IPERF, "w-{}-boot{}.json", "iperf3 num_streams differs (16 against 64)"),
        (PYPERF, "w-{}-boot{}.json", "pyperf python_version differs (3.16 against 3.64)"),
    ],
)
def test_other_settings_of_a_test_are_a_confound(tmp_path: Path, text: str, file: str, fact: str) -> None:
    for mode, setting in (("nosev", 16), ("sev", 64)):
        for boot in range(3):
            (tmp_path / file.format(mode, boot)).write_text(text.format(setting, f"{setting}{boot}"))
    [found] = compare(imports.read_folder(tmp_path, imports.Given()).samples)
    assert f"confounded: {fact}" in found.reason


def test_times_in_a_table_are_of_the_workload_without_the_mode(tmp_path: Path) -> None:
    for mode in ("nosev", "sev"):
        (tmp_path / f"linux-{mode}.csv").write_text(f"timestamp,completion_time_ms\n1,{len(mode)}\n")
    [found] = compare(imports.read_folder(tmp_path, imports.Given()).samples)
    assert (found.series.workload, found.ratio) == ("linux", pytest.approx(3 / 5))


def test_means_in_hyperfines_table_add_nothing_to_its_runs(tmp_path: Path) -> None:
    (tmp_path / "h.json").write_text(hyperfine("run sev", "run nosev"))
    (tmp_path / "h.csv").write_text("command,mean,stddev,median,user\nrun sev,1.5,0,1,1\nrun nosev,1.6,0,1,1\n")
    found = imports.read_folder(tmp_path, imports.Given())
    assert len(found.samples) == 4
    assert found.skipped == [("h.csv", "2 values are already there from the raw files")]


def test_a_run_that_was_appended_again_counts_once(tmp_path: Path) -> None:
    document = json.loads((FIO / "iops_mixread-nvme-sev.json").read_text())
    one, two, three = (json.dumps(document | {"timestamp": t, "timestamp_ms": 1000 * t}) for t in (1e9, 2e9, 3e9))
    (tmp_path / "iops-sev-boot1.json").write_text(one)
    (tmp_path / "iops-sev-boot2.json").write_text(one + two)
    (tmp_path / "iops-sev-boot3.json").write_text(two + two + three)
    found = imports.read_folder(tmp_path, imports.Given())
    assert found.files == ["iops-sev-boot1.json", "iops-sev-boot3.json"]
    assert "a copy of iops-sev-boot1.json" in dict(found.skipped)["iops-sev-boot2.json"]
    assert len({s.at.identity for s in found.samples}) == 3


def test_boots_can_be_named() -> None:
    assert names.from_name("bw_read-nvme-sev-boot3-2").boot == 3


def scaled(source: str, target: Path, factor: float) -> None:
    document = json.loads((FIO / source).read_text())
    for job in document["jobs"]:
        for side in ("read", "write"):
            job[side]["iops"] *= factor
            job[side]["total_ios"] *= factor
    target.write_text(json.dumps(document))


def test_ratios_are_over_all_jobs_of_a_run(tmp_path: Path) -> None:
    document = json.loads((FIO / "iops_mixread-nvme-sev.json").read_text())
    for index, rate in enumerate((1000.0, 2000.0, 3000.0, 4000.0)):
        side = document["jobs"][index]["read"]
        side |= {"iops": rate, "total_ios": rate * side["runtime"] / 1000}
    (tmp_path / "iops_randread-nvme-nosev.json").write_text(json.dumps(document))
    for job in document["jobs"][1:]:
        job["read"]["total_ios"] /= 2
        job["read"]["iops"] /= 2  # the first job is as fast as before: whoever reads jobs[0] sees no difference
    (tmp_path / "iops_randread-nvme-sev.json").write_text(json.dumps(document))
    (found,) = compare(imports.read_folder(tmp_path, imports.Given()).samples)
    data = found.as_dict()
    assert data["ratio"] == pytest.approx(5500 / 10000)
    assert (data["workload"], data["storage"], data["metric"], data["unit"]) == ("iops_randread", "nvme", "iops", "1/s")
    assert data["direction"] == Direction.HIGHER
    assert data["interval"] is None
    assert any("no interval" in text for text in data["warnings"])
    assert data["verdict"] == "refused"
    assert "too few" in data["reason"]


def test_several_runs_have_an_interval(tmp_path: Path) -> None:
    for index, wobble in enumerate((0.99, 1.0, 1.01, 1.005, 0.995)):
        scaled("good.json", tmp_path / f"iops_x-nvme-nosev-{index}.json", wobble)
        scaled("good.json", tmp_path / f"iops_x-nvme-sev-{index}.json", 0.8 * wobble)
    (found,) = compare(imports.read_folder(tmp_path, imports.Given()).samples)
    assert found.interval is not None
    assert found.interval[0] < 0.8 < found.interval[1]
    assert found.outcome is Ruling.REFUSED
    assert "boots are not known" in found.reason


def test_percentiles_of_fio_are_secondary(tmp_path: Path) -> None:
    shutil.copy(FIO / "al_read-scsi-sev.json", tmp_path)
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert [s.metric.name for s in samples if s.metric.primary] == ["latency_mean"]
    assert {"latency_p50", "latency_p99"} < {s.metric.name for s in samples}


def test_files_without_a_mode_are_left_out_with_the_reason(tmp_path: Path) -> None:
    shutil.copy(FIO / "good.json", tmp_path / "good.json")
    shutil.copy(FIO / "good.json", tmp_path / "good-sev.json")
    found = imports.read_folder(tmp_path, imports.Given())
    left_out = {name for name, why in found.skipped if why != imports.NO_PERCENTILE}
    assert left_out == {"good.json"}
    given = imports.Given(mode=Mode.NOSEV, storage="nvme", workload="w", provenance=Provenance.HARDWARE)
    samples = imports.read_folder(tmp_path, given).samples
    assert {(s.mode, s.storage, s.workload, s.at.provenance) for s in samples} == {
        (Mode.NOSEV, "nvme", "w", Provenance.HARDWARE)
    }


def test_hyperfine(tmp_path: Path) -> None:
    document = {"results": [{"command": "lz4 x", "mean": 1.0, "times": [1.0, 1.1, 0.9]}]}
    (tmp_path / "lz4-sev.json").write_text(json.dumps(document))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert [(s.workload, s.value, s.mode) for s in samples] == [("lz4", v, Mode.SEV) for v in (1.0, 1.1, 0.9)]


def test_hyperfine_with_the_mode_as_a_parameter(tmp_path: Path) -> None:
    results = [{"command": f"x-{m}", "times": [1.0, 2.0], "parameters": {"mode": m}} for m in ("nosev", "sev-es")]
    (tmp_path / "all.json").write_text(json.dumps({"results": results}))
    samples = imports.read_folder(tmp_path, imports.Given(workload="x")).samples
    assert {s.mode for s in samples} == {Mode.NOSEV, Mode.SEV_ES}


def test_processes_of_pyperf_are_no_boots(tmp_path: Path) -> None:
    runs = [{"metadata": {}, "values": [0.1, 0.11]}, {"warmups": [[1, 0.2]], "values": [0.12, 0.13]}]
    document = {
        "version": "1.0",
        "metadata": {"unit": "second"},
        "benchmarks": [{"metadata": {"name": "b"}, "runs": runs}],
    }
    (tmp_path / "b-snp.json").write_text(json.dumps(document))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert [(s.boot, s.value) for s in samples] == [(None, v) for v in (0.1, 0.11, 0.12, 0.13)]
    assert {s.mode for s in samples} == {Mode.SEV_SNP}


@pytest.mark.parametrize("unit", [None, "integer", "byte"])
def test_what_pyperf_measured_keeps_its_unit(tmp_path: Path, unit: str | None) -> None:
    metadata = {"name": "b"} | ({"unit": unit} if unit else {})
    document = {"version": "1.0", "benchmarks": [{"metadata": metadata, "runs": [{"values": [5]}]}]}
    (tmp_path / "b-snp.json").write_text(json.dumps(document))
    (sample,) = imports.read_folder(tmp_path, imports.Given()).samples
    assert sample.metric.unit == {None: "s", "integer": "1", "byte": "B"}[unit]
    assert (sample.metric.name == "time") is (unit is None)


@pytest.mark.parametrize(
    "commands",
    [("lz4 -1", "lz4 -9"), ("x" * 90 + " 1", "x" * 90 + " 2"), ("make -j 1", "make -j 8")],
    ids=["level", "long", "jobs"],
)
@pytest.mark.parametrize("kind", ["json", "csv"])
def test_two_commands_of_hyperfine_are_two_workloads(tmp_path: Path, commands: tuple[str, str], kind: str) -> None:
    if kind == "json":
        rows = [{"command": command, "times": [1.0 + i]} for i, command in enumerate(commands)]
        (tmp_path / "all-sev.json").write_text(json.dumps({"results": rows}))
    else:
        lines = ["command,mean,stddev,median,user,system,min,max", *(f"{c},1.5,0,1,1,1,1,1" for c in commands)]
        (tmp_path / "all-sev.csv").write_text("\n".join(lines))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert len({s.workload for s in samples}) == 2


def test_two_parameters_of_a_test_are_two_workloads(tmp_path: Path) -> None:
    rows = [{"name": f"test_sort_{n}", "stats": {"mean": n / 1000}} for n in (100, 1000)]
    (tmp_path / "b-sev.json").write_text(json.dumps({"benchmarks": rows}))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert {s.workload for s in samples} == {"test_sort_100", "test_sort_1000"}


SYSBENCH = """sysbench 1.0.20 (using system LuaJIT 2.1.0-beta3)
Number of threads: {threads}
Throughput:
    read, MiB/s:                  {read}
    written, MiB/s:               70.67
"""


def test_sysbench_that_only_writes_has_no_rate_of_reads(tmp_path: Path) -> None:
    (tmp_path / "w-sev.txt").write_text(SYSBENCH.format(threads=1, read="0.00"))
    (tmp_path / "rw-sev.txt").write_text(SYSBENCH.format(threads=1, read="50.5"))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    found = {(s.workload, s.metric.name): s.value for s in samples}
    assert found == {("w", "written"): 70.67, ("rw", "read"): 50.5, ("rw", "written"): 70.67}


def test_sysbench_runs_with_other_threads_are_no_repetitions(tmp_path: Path) -> None:
    (tmp_path / "w-sev.txt").write_text("".join(SYSBENCH.format(threads=n, read="0.00") for n in (1, 8)))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert sorted(s.workload for s in samples) == ["w, 1 threads", "w, 8 threads"]


@pytest.mark.parametrize(
    ("unit", "proportion", "direction"),
    [
        ("Seconds", "", "lower is better"),
        ("MB/s", "", "higher is better"),
        ("Seconds", "LIB", "lower is better"),
        ("Points", "HIB", "higher is better"),
        ("Points", "LIB", "lower is better"),
        ("Seconds", "HIB", None),
        ("Points", "", None),
    ],
)
def test_phoronix_says_whether_more_is_better_or_is_left_out(
    tmp_path: Path, unit: str, proportion: str, direction: str | None
) -> None:
    result = {"title": "t", "scale": unit, "proportion": proportion, "results": {"sev": {"value": 3.5}}}
    (tmp_path / "p.json").write_text(json.dumps({"results": {"a": result}}))
    text = f"<Title>t</Title><Scale>{unit}</Scale><Proportion>{proportion}</Proportion>"
    entry = "<Data><Entry><Identifier>sev</Identifier><Value>3.5</Value></Entry></Data>"
    (tmp_path / "p.xml").write_text(f"<PhoronixTestSuite><Result>{text}{entry}</Result></PhoronixTestSuite>")
    if direction is None:
        with pytest.raises(BadInputError):
            imports.read_folder(tmp_path, imports.Given())
        return
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert [(str(s.metric.direction), s.metric.unit) for s in samples] == [(direction, unit)] * 2


def test_tables_add_nothing_to_the_files_they_were_made_from(tmp_path: Path) -> None:
    shutil.copy(FIO / "bw_read-nvme-sev.json", tmp_path)
    (tmp_path / "bw-ratios.csv").write_text(
        "group,name,nosev,sev,result\nread,nvme,2e9,1e9,0.5\nread,blk,2e9,1e9,0.5\n"
    )
    found = imports.read_folder(tmp_path, imports.Given())
    values = [(s.storage, s.mode, s.value) for s in found.samples if s.metric.primary and s.storage == "blk"]
    assert values == [("blk", Mode.NOSEV, 2e9), ("blk", Mode.SEV, 1e9)]
    assert any("already there" in why for _, why in found.skipped)


@pytest.mark.parametrize("value", ["nan", "inf", "-", "1e999"])
def test_tables_with_values_that_are_none_are_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "t.csv").write_text(f"group,name,result\nlinux,sev,{value}\n")
    with pytest.raises(BadInputError):
        imports.read_folder(tmp_path, imports.Given())


def test_what_is_imported_comes_back_from_the_store(tmp_path: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(FIO / "bw_read-nvme-sev.json", folder)
    found = imports.read_folder(folder, imports.Given())
    write.imported(output, found, folder=folder, given=imports.Given())
    campaign = store.load(output)
    assert [s.record() for s in campaign.samples] == [s.record() for s in found.samples]
    assert campaign.damage == []


def test_effective_values_of_a_real_run() -> None:
    run = fio.read(FIO / "iops_mixread-nvme-sev.json")
    assert len(run.jobs) == 4
    rates = [side.iops for job in run.jobs for side in job.sides]
    assert run.total("iops") == pytest.approx(sum(rates))
    assert min(rates) <= run.total("iops") / 4 <= max(rates)


@pytest.mark.parametrize(
    ("text", "size"), [("4K", 4096), ("128k", 131072), ("1G", 1 << 30), ("77", 77), ("1MiB", 1 << 20), ("", 5)]
)
def test_sizes_as_fio_writes_them(text: str, size: int) -> None:
    assert fio.size(text, 5) == size
