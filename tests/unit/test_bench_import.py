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
    ],
)
def test_names_say_workload_storage_mode_and_run(name: str, expected: tuple[object, ...]) -> None:
    found = names.from_path(PurePath(name))
    assert (found.workload, found.storage, found.mode, found.run) == expected


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
