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
    assert [name for name, _ in found.skipped] == ["good.json"]
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


def test_pyperf_keeps_processes_apart(tmp_path: Path) -> None:
    runs = [{"metadata": {}, "values": [0.1, 0.11]}, {"warmups": [[1, 0.2]], "values": [0.12, 0.13]}]
    document = {
        "version": "1.0",
        "metadata": {"unit": "second"},
        "benchmarks": [{"metadata": {"name": "b"}, "runs": runs}],
    }
    (tmp_path / "b-snp.json").write_text(json.dumps(document))
    samples = imports.read_folder(tmp_path, imports.Given()).samples
    assert [(s.boot, s.value) for s in samples] == [(0, 0.1), (0, 0.11), (1, 0.12), (1, 0.13)]
    assert {s.mode for s in samples} == {Mode.SEV_SNP}


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
