"""Percentiles of fio's: exact where they can be read or added up, and absent where jobs or directions have their own."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from sevkit.bench import results, suite
from sevkit.bench import store as stores
from sevkit.bench.analysis import published
from sevkit.bench.campaign import block, directory, run
from sevkit.bench.imports import files, fio, fio_text, parse, write
from sevkit.bench.lint.answer import lint
from sevkit.bench.model import LATENCY_P50, LATENCY_P99, Boot, Sample
from sevkit.bench.suite import Profile
from sevkit.bench.verify import Finding, verify
from sevkit.vocabulary import Mode, Provenance

REAL = Path(__file__).parent.parent / "golden/bench/mixed-json-plus.json"  # fio 3.33, unified_rw_reporting=both
PATH = Path("x.json")
AT = Boot("c0.b0.sev.a0", Provenance.EMULATED)
histograms = some.dictionaries(some.integers(1, 10**9), some.integers(1, 50), min_size=1, max_size=20)


def quantile(bins: dict[int, int], which: float) -> float:
    """As fio defines it: the first value up to which a share of ``which`` percent lies."""
    values = sorted(value for value, count in bins.items() for _ in range(count))
    return next(value for place, value in enumerate(values, 1) if place >= which / 100 * len(values))


def side(bins: dict[int, int], *, plus: bool) -> dict[str, Any]:
    ios = sum(bins.values())
    shares = {f"{which:f}": quantile(bins, which) for which in (50, 99)}
    clat = {"mean": 1e6, "stddev": 1.0, "percentile": shares, **({"bins": bins} if plus else {})}
    rates = {"iops": ios / 60, "bw_bytes": ios / 60 * 4096, "total_ios": ios, "runtime": 60000}
    return json.loads(json.dumps(rates | {"clat_ns": clat}))


def document(*jobs: dict[str, Any], key: str = "jobs") -> dict[str, Any]:
    known = {"groupid": 0, "error": 0, "job options": {"rw": "randrw"}}
    return {"fio version": "fio-3.36", key: [{"jobname": "j"} | known | job for job in jobs]}


def shown(found: dict[str, Any]) -> dict[str, float]:
    return {m.name: v for m, v in fio.parse(found, PATH).metrics() if m in (LATENCY_P50, LATENCY_P99)}


FAST, SLOW = {1000: 90, 2000: 10}, {5000: 50, 9000: 50}
BOTH = {1000: 90, 2000: 10, 5000: 50, 9000: 50}


@given(some.lists(histograms, min_size=1, max_size=5), some.sampled_from([50.0, 99.0]))
def test_histograms_add_up_to_the_percentile_of_all_requests(parts: list[dict[int, int]], which: float) -> None:
    together: dict[int, int] = {}
    for part in parts:
        together = {value: together.get(value, 0) + part.get(value, 0) for value in {*together, *part}}
    jobs = [{"read" if number % 2 else "write": side(part, plus=True)} for number, part in enumerate(parts)]
    assert fio.parse(document(*jobs), PATH).percentile(which) == quantile(together, which)


def test_the_sum_of_a_real_runs_histograms_is_fios_own() -> None:
    found = fio.parse(json.loads(REAL.read_text()), PATH)
    (job,) = found.jobs
    assert [s.name for s in job.sides] == ["read", "write"]
    assert job.mixed is not None
    summed = replace(found, jobs=(replace(job, mixed=None),))
    for which, value in job.mixed.percentiles.items():
        assert summed.percentile(which) == found.percentile(which) == value
    assert summed.percentile(50.0) not in {s.percentiles[50.0] for s in job.sides}


ONE, TWO = {"read": side(FAST, plus=False)}, {"write": side(SLOW, plus=False)}
EXACT: dict[str, tuple[dict[str, Any], dict[int, int]]] = {
    "one job, one direction": (document(ONE), FAST),
    "the other job moved nothing": (document(ONE, {"read": {"total_ios": 0}}), FAST),
    "one direction of all clients": (
        document(
            ONE,
            {"read": side(SLOW, plus=False)},
            {"jobname": "All clients", "read": side(BOTH, plus=False)},
            key="client_stats",
        ),
        BOTH,
    ),
    "fio's sum of the directions": (document(ONE | TWO | {"mixed": side(BOTH, plus=False)}), BOTH),
    "histograms": (document({"read": side(FAST, plus=True)}, {"write": side(SLOW, plus=True)}), BOTH),
}
WRONG = side(FAST, plus=True)
WRONG["clat_ns"]["bins"] = {"7000": 100}
FIO_2 = side(FAST, plus=True)
FIO_2["clat_ns"]["bins"] = {"FIO_IO_U_PLAT_BITS": 6, "17": 100}
NONE = {
    "two directions": document(ONE | TWO),
    "two jobs": document(ONE, {"read": side(SLOW, plus=False)}),
    "two directions of all clients": document(ONE, TWO, {"jobname": "All clients", **ONE, **TWO}, key="client_stats"),
    "a histogram of one of them": document({"read": side(FAST, plus=True)} | TWO),
    "histograms that contradict the percentiles": document({"read": WRONG, "write": side(SLOW, plus=True)}),
    "bins that are numbered": document({"read": FIO_2, "write": side(SLOW, plus=True)}),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str) -> None:
    found, bins = EXACT[name]
    assert shown(found) == {"latency_p50": quantile(bins, 50), "latency_p99": quantile(bins, 99)}
    assert not fio.parse(found, PATH).mean_percentiles()


@pytest.mark.parametrize("name", NONE)
def test_no_figure_stands_where_there_is_no_percentile(name: str, tmp_path: Path) -> None:
    assert shown(NONE[name]) == {}
    (tmp_path / "randrw-sev.json").write_text(json.dumps(NONE[name]))
    found = files.read_folder(tmp_path, files.Given())
    assert {s.metric.name for s in found.samples} == {"iops", "bandwidth", "latency_mean"}
    assert found.skipped == [("randrw-sev.json", files.NO_PERCENTILE)]
    assert "json+" in files.NO_PERCENTILE


def test_the_first_job_as_published_has_its_own_percentiles() -> None:
    output = json.dumps(document(ONE, {"read": side(SLOW, plus=False)})).encode()
    workload = replace(suite.workloads()["iops_randread"], parse="fio-first")
    assert {m.name: v for m, v in parse.read(workload, output, 1.0)}["latency_p50"] == 1000


TEXT = """j: (groupid=0, jobs=2): err= 0: pid=7: Thu Nov 26 17:31:03 2026
  read: IOPS=1000, BW=3906KiB/s (4000kB/s)(229MiB/60000msec)
    clat percentiles (usec):
     | 50.00th=[   80], 99.00th=[  240]
  write: IOPS=1000, BW=3906KiB/s (4000kB/s)(229MiB/60000msec)
    clat percentiles (usec):
     | 50.00th=[  400], 99.00th=[  900]
{mixed}  issued rwts: total=60000,60000,0,0 short=0,0,0,0 dropped=0,0,0,0
"""
MIXED = """  mixed: IOPS=0, BW=0 (0)(0B/60000msec)
    clat percentiles (usec):
     | 50.00th=[  120], 99.00th=[  700]
"""


@pytest.mark.parametrize(("mixed", "expected"), [("", {}), (MIXED, {"latency_p50": 120e3, "latency_p99": 700e3})])
def test_output_for_people_has_the_sum_without_rates(mixed: str, expected: dict[str, float]) -> None:
    (found,) = fio_text.parse(TEXT.format(mixed=mixed), PATH)
    values = {metric.name: value for metric, value in found.metrics()}
    assert {name: value for name, value in values.items() if name.startswith("latency_p")} == expected
    assert values["iops"] == 2000


def test_rows_of_two_directions_print_what_their_percentiles_are_read_from() -> None:
    rows = [w for w in suite.workloads().values() if w.parse == "fio" and "--rw=randrw" in w.command]
    assert [w.name for w in rows] == ["iops_mixread", "iops_mixwrite"]
    assert all(w.command.endswith("--output-format=json+") for w in rows)
    several = [w for w in suite.workloads().values() if w.parse == "fio" and "--numjobs=1" not in w.command]
    assert all("--group_reporting" in w.command for w in several)


def test_the_study_has_percentiles_of_single_jobs_only() -> None:
    names = {s.workload for s in published.samples() if s.metric == replace(LATENCY_P99, primary=False)}
    assert "al_read" in names
    assert not any(name.startswith("iops") for name in names)


def measured(path: Path, change: float = 1.0) -> Path:
    """A campaign as older versions recorded it: the mean of two percentiles as one."""
    profile = Profile("t", "t", ("iops_mixread",), modes=(Mode.NOSEV, Mode.SEV))
    plan = directory.prepare(directory.Wish(profile, where="mock")).plan
    output = json.dumps(document(ONE | TWO))
    store, campaign = run.open_store(path, plan, {})
    with store:
        recorder = run.Recorder(store, campaign)
        recorder.append(AT.record())
        workload = suite.workloads()["iops_mixread"]
        values = [*parse.read(workload, output.encode(), 1.0), (LATENCY_P50, change * (1000 + 5000) / 2)]
        for metric, value in values:
            made = Sample("iops_mixread", "virtio-blk", metric, Mode.SEV, value, boot=0, at=AT, extra={"seconds": 1.0})
            recorder.append(made.record() | ({block.RAW: output} if metric.primary else {}))
    return path


def imported(path: Path, change: float = 1.0) -> Path:
    """An import of older versions: what they took for percentiles stands among the samples."""
    folder = path.parent / "files"
    folder.mkdir()
    (folder / "iops_mixread-nvme-sev.json").write_text(json.dumps(document(ONE | TWO)))
    found = files.read_folder(folder, files.Given())
    found.samples += [replace(s, value=s.value * change) for s in found.means]
    write.imported(path, found, folder=folder, given=files.Given())
    return path


@pytest.mark.parametrize("make", [measured, imported])
def test_older_results_stay_intact_and_what_is_no_percentile_is_left_aside(tmp_path: Path, make: Any) -> None:
    path = make(tmp_path / "r")
    found = verify(path)
    assert (found.finding, found.reasons) == (Finding.INTACT, [])
    assert "no percentiles (iops_mixread (latency_p50)" in found.notes[0]
    assert any(s.metric.name == "latency_p50" for s in stores.load(path).samples)
    read = results.read(path)
    assert {s.metric.name for s in read.samples} == {"iops", "bandwidth", "latency_mean"}
    assert not any(at.standing.doubt for at in read.boots.values())
    assert "no-percentile" in {finding.rule for finding in lint(path).findings}


@pytest.mark.parametrize("make", [measured, imported])
def test_a_forged_mean_is_no_older_version(tmp_path: Path, make: Any) -> None:
    assert verify(make(tmp_path / "r", 1.01)).finding is Finding.CHANGED
