"""Results as people have them: fio in all its forms, other programs, and failed runs that are no measurements."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sevkit.bench.imports import documents, parse
from sevkit.bench.imports import files as imports
from sevkit.bench.lint.answer import lint
from sevkit.bench.model import Direction, Sample
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode

GIVEN = imports.Given(Mode.NOSEV)


def side(iops: float, **more: Any) -> dict[str, Any]:
    clat = {"mean": 1e6, "stddev": 1.0, "percentile": {"50.000000": 900000, "99.000000": 2000000}}
    base = {"iops": iops, "bw_bytes": iops * 4096, "total_ios": int(iops * 60), "runtime": 60000, "clat_ns": clat}
    return base | more


def job(iops: float = 1000.0, direction: str = "read", **more: Any) -> dict[str, Any]:
    options = {"rw": "randread", "ioengine": "libaio", "direct": "1", "time_based": "1", "ramp_time": "5"}
    return {"jobname": "j", "groupid": 0, "error": 0, "job options": options, direction: side(iops)} | more


def fio(*jobs: dict[str, Any], **more: Any) -> str:
    return json.dumps({"fio version": "fio-3.36", "global options": {}, "jobs": list(jobs)} | more, indent=2)


def samples(folder: Path, name: str, content: str | bytes, given: imports.Given = GIVEN) -> list[Sample]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return imports.read_folder(folder, given).samples


def iops(folder: Path, content: str | bytes, name: str = "randread.json") -> float:
    return next(s.value for s in samples(folder, name, content) if s.metric.name == "iops")


def rules(folder: Path) -> dict[str, str]:
    return {finding.rule: finding.message for finding in lint(folder).findings}


NOTE = "note: both iodepth >= 1 and synchronous I/O engine are selected, queue depth will be capped at 1\n"
DRESSED = {
    "as it is": (fio(job()), "a.json"),
    "fio's note before": (NOTE + fio(job()), "a.json"),
    "text after": (fio(job()) + "\nDisk stats (read/write):\n  sda: ios=1/0\n", "a.json"),
    "in a log": ("+ fio x.fio\n" + fio(job()) + "\ndone {}\n", "a.log"),
    "byte order mark": (b"\xef\xbb\xbf" + fio(job()).encode(), "a.json"),
    "UTF-16": (fio(job()).encode("utf-16"), "a.json"),
    "gzip": (gzip.compress(fio(job()).encode()), "a.json.gz"),
    "several reports": (fio(job(500.0, eta=30)) + "\n" + fio(job()), "a.json"),
    "client": (fio(client_stats=[job(400.0), job(600.0), job(jobname="All clients")]), "a.json"),
    "client, the sum alone": (fio(client_stats=[job(jobname="All clients")]), "a.json"),
    "unified": (fio(job(direction="mixed")), "a.json"),
    "nan beside": (fio(job()).replace('"stddev": 1.0', '"stddev": -nan'), "a.json"),
}


@pytest.mark.parametrize("name", DRESSED)
def test_fio_in_all_its_forms(tmp_path: Path, name: str) -> None:
    content, file = DRESSED[name]
    assert iops(tmp_path, content, file) == 1000.0
    found = rules(tmp_path)
    assert not {"damaged", "not-mixed", "page-cache"} & set(found)


def test_a_run_that_did_not_end_is_named(tmp_path: Path) -> None:
    assert iops(tmp_path, fio(job(eta=30))) == 1000.0
    assert "unfinished-run" in rules(tmp_path)


@pytest.mark.parametrize("name", ["as it is", "client"])
def test_a_job_with_an_error_is_no_measurement(tmp_path: Path, name: str) -> None:
    content = DRESSED[name][0]
    assert isinstance(content, str)
    with pytest.raises(BadInputError) as caught:
        iops(tmp_path, content.replace('"error": 0', '"error": 5', 1))
    assert "fio reports error 5 in 1 of" in str(caught.value.detail)
    assert "job-error" in rules(tmp_path)


def test_nan_where_a_figure_must_be(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        iops(tmp_path, fio(job()).replace("1000.0", "nan"))
    assert "nan" in str(caught.value.detail)


def test_options_that_are_not_in_the_file_are_unknown_not_unset(tmp_path: Path) -> None:
    old = job()
    del old["job options"]
    (tmp_path / "a-sev.json").write_text(fio(old))
    assert not {"page-cache", "no-ramp", "not-time-based", "engine-without-depth"} & set(rules(tmp_path))


def test_requests_that_the_block_layer_merged_reached_the_device(tmp_path: Path) -> None:
    disk = {"name": "sda", "read_ios": 3000, "read_merges": 57000, "write_ios": 0, "write_merges": 0}
    (tmp_path / "a-sev.json").write_text(fio(job(), disk_util=[disk]))
    assert "no-device-io" not in rules(tmp_path)
    (tmp_path / "a-sev.json").write_text(fio(job(), disk_util=[disk | {"read_merges": 0}]))
    assert "no-device-io" in rules(tmp_path)


def terse(version: int) -> str:
    block = "240000;4000;1000;60000;1;2;1.5;0.1;100;900;250.5;3.5;"
    block += ";".join(["1.000000%=80", "50.000000%=240", "99.000000%=800", *["0%=0"] * 17])
    block += ";101;902;252.0;3.6;3900;4100;100.0%;4000.0;5.0" + (";12;900;1100;1000.0;1.0;12" if version == 5 else "")
    nothing = ";".join(["0"] * (47 if version == 5 else 41))
    sides = [block, nothing, *([nothing] if version > 3 else [])]
    return f"{version};fio-3.36;job;0;0;{';'.join(sides)};5.0%;20.0%;1;0;12\n"


@pytest.mark.parametrize("version", [3, 4, 5])
@pytest.mark.parametrize("file", ["a.csv", "a.txt", "a.json"])
def test_terse(tmp_path: Path, version: int, file: str) -> None:
    found = {s.metric.name: s.value for s in samples(tmp_path, file, "fio: a message\n" + terse(version))}
    expected = {"iops": 1000.0, "bandwidth": 4000 * 1024, "latency_mean": 250500.0}
    assert found == expected | {"latency_p50": 240000.0, "latency_p99": 800000.0}
    assert not {"damaged", "columns", "page-cache"} & set(rules(tmp_path))


@pytest.mark.parametrize("text", [terse(3)[:200], "2;job;0;0;1;2;3\n"])
def test_terse_that_is_not_read_names_the_way_on(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInputError) as caught:
        samples(tmp_path, "a.csv", text)
    assert "terse output" in str(caught.value.detail)
    assert "damaged" in rules(tmp_path)


@pytest.mark.parametrize("version", [3, 4, 5])
def test_terse_lines_of_one_name_may_be_runs_or_jobs(tmp_path: Path, version: int) -> None:
    with pytest.raises(BadInputError) as caught:
        samples(tmp_path, "a.csv", terse(version) * 2)
    assert "several runs, or of several jobs" in str(caught.value.detail)


CONTRADICTIONS = {
    "100 times the IOPS": (fio(job(read=side(1000.0, total_ios=600))), "IOPS is 1000 per second"),
    "a rate in no time": (fio(job(read=side(1000.0, runtime=0))), "IOPS is 1000 per second"),
    "bandwidth": (fio(job(read=side(1000.0, io_bytes=1 << 20, io_kbytes=1 << 10))), "bandwidth is"),
    "terse bandwidth": (terse(3).replace("240000;4000", "240000;400000"), "bandwidth in KiB is 400000"),
    "a boolean": (fio(job(read=side(True))), "True is not a number"),
    "a boolean count": (fio(job(read=side(1000.0, total_ios=True))), "True is not a number"),
    "a boolean percentile": (fio(job()).replace("900000", "true"), "True is not a number"),
    "a key twice": (fio(job()).replace('"runtime"', '"iops": 5000.0, "runtime"'), "the key 'iops' stands twice"),
    "short transfers": (fio(job(read=side(1000.0, short_ios=3))), "3 of fio's transfers were short or dropped"),
    "dropped transfers": (fio(job(read=side(1000.0, drop_ios=2))), "2 of fio's transfers were short or dropped"),
}


@pytest.mark.parametrize(("text", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_result_that_contradicts_itself_is_refused_and_found(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        samples(tmp_path, "a.txt" if text[:2] == "3;" else "a.json", text)
    assert reason in str(caught.value.detail)
    assert {"damaged", "job-error"} & set(rules(tmp_path))


def test_what_fio_rounds_or_repeats_is_no_contradiction(tmp_path: Path) -> None:
    """IOPS of old versions are whole numbers; fio 2 writes an empty percentile several times; an option can be given twice."""
    assert iops(tmp_path, fio(job()).replace('"rw"', '"rw": "read", "rw"')) == 1000.0
    assert iops(tmp_path, fio(job(read=side(1049.0, total_ios=60000)))) == 1049.0
    assert samples(tmp_path, "b.json", fio(job(read=side(0, total_ios=40))))
    assert iops(tmp_path, fio(job()).replace('"50.000000"', '"0.00": 0, "0.00": 0, "50.000000"')) == 1000.0


@pytest.mark.parametrize("value", ["true", "null", '"x"', "[1]"])
def test_what_is_no_number_is_none_in_any_program(tmp_path: Path, value: str) -> None:
    text = f'{{"results": [{{"command": "a", "mean": 1.0, "times": [1.0, {value}]}}]}}'
    with pytest.raises(BadInputError):
        samples(tmp_path, "a.json", text)


def test_fio_in_a_campaign_is_judged_as_an_imported_one() -> None:
    workload = SimpleNamespace(name="w", parse="fio", metric="iops")
    for text, _ in (case for name, case in CONTRADICTIONS.items() if "terse" not in name):
        with pytest.raises(BadInputError):
            parse.read(workload, text.encode(), 1.0)  # type: ignore[arg-type]
    assert parse.read(workload, fio(job()).encode(), 1.0)  # type: ignore[arg-type]


TEXT = """read: (g=0): rw=randread, bs=(R) 4096B-4096B, (W) 4096B-4096B, ioengine=libaio, iodepth=4
fio-3.36
Starting 1 process

read: (groupid=0, jobs=1): err= {error}: pid={pid}: Thu Nov 26 17:31:03 2026
  read: IOPS=998, BW=3906KiB/s (4000kB/s)(229MiB/60000msec)
    slat (nsec): min=1000, max=9000, avg=1500.00, stdev=10.00
    clat (usec): min=22, max=7149, avg=250.50, stdev= 3.50
     lat (usec): min=22, max=7149, avg=252.00, stdev= 3.60
    clat percentiles (usec):
     |  1.00th=[   80], 50.00th=[  240],
     | 99.00th=[  800]
  cpu          : usr=0.00%, sys=21.95%, ctx=1023, majf=0, minf=11
     issued rwts: total=60000,0,0,0 short=0,0,0,0 dropped=0,0,0,0

Run status group 0 (all jobs):
   READ: bw=3906KiB/s (4000kB/s), 3906KiB/s-3906KiB/s (4000kB/s-4000kB/s), io=229MiB (240MB), run=60000-60000msec
"""
TEXT_2 = """read: (groupid=0, jobs=1): err= 0: pid=2024: Mon Feb  1 10:00:00 2016
  read : io=234375KB, bw=3906.3KB/s, iops=1000, runtime= 60000msec
    clat (usec): min=100, max=2000, avg=250.50, stdev= 3.50
    clat percentiles (usec):
     |  1.00th=[   80], 50.00th=[  240], 99.00th=[  800]
  issued    : total=r=60000/w=0/d=0, short=r=0/w=0/d=0, drop=r=0/w=0/d=0
"""


@pytest.mark.parametrize("text", [TEXT.format(error=0, pid=7), TEXT_2, "<host1> " + TEXT_2], ids=["3", "2", "client"])
@pytest.mark.parametrize("file", ["a.txt", "a.log", "a.json"])
def test_fios_output_for_people(tmp_path: Path, text: str, file: str) -> None:
    found = {s.metric.name: round(s.value) for s in samples(tmp_path, file, "$ fio x.fio\n" + text)}
    assert found.pop("bandwidth") in (3906 * 1024, round(3906.3 * 1024))
    assert found == {"iops": 1000, "latency_mean": 250500, "latency_p50": 240000, "latency_p99": 800000}
    assert not {"damaged", "page-cache", "no-device-io", "short-run"} & set(rules(tmp_path))


def test_fio_that_counts_in_thousands_is_read_in_thousands(tmp_path: Path) -> None:
    text = TEXT.format(error=0, pid=7)
    for bandwidth, expected in (
        ("4.50MB/s (4.29MiB/s)", 4.5e6),
        ("900kB/s (879KiB/s)", 9e5),
        ("2.00GiB/s (2147MB/s)", 2 << 30),
    ):
        changed = text.replace("3906KiB/s (4000kB/s)", bandwidth, 1)
        found = {s.metric.name: s.value for s in samples(tmp_path, "a.txt", changed)}
        assert found["bandwidth"] == pytest.approx(expected)


def test_fios_output_for_people_says_when_a_job_failed(tmp_path: Path) -> None:
    with pytest.raises(BadInputError) as caught:
        samples(tmp_path, "a.txt", TEXT.format(error="5 (file:io_u.c:1896, func=io_u error)", pid=7))
    assert "fio reports error 5 in 1 of" in str(caught.value.detail)
    assert "job-error" in rules(tmp_path)


APPENDED = {
    "text": TEXT.format(error=0, pid=7) + TEXT.format(error=0, pid=9),
    "JSON": fio(job(), timestamp_ms=100_000) + fio(job(), timestamp_ms=161_000),
    "JSON without times, the second run was slower": fio(job(1000.0)) + fio(job(999.0)),
}


@pytest.mark.parametrize("form", APPENDED)
def test_runs_that_were_appended_are_repetitions(tmp_path: Path, form: str) -> None:
    found = [s for s in samples(tmp_path, "a.json", APPENDED[form]) if s.metric.name == "iops"]
    assert [round(s.value, -1) for s in found] == [1000, 1000]
    assert len({s.at.identity for s in found if s.at}) == 2


def test_reports_on_one_run_are_not_repetitions(tmp_path: Path) -> None:
    first = job(direction="read")
    first["read"] |= {"runtime": 30000, "total_ios": 30000}
    text = fio(first, timestamp_ms=130_000) + fio(job(), timestamp_ms=160_000)
    assert len([s for s in samples(tmp_path, "a.json", text) if s.metric.name == "iops"]) == 1
    assert (
        iops(tmp_path, TEXT.format(error=0, pid=7) + TEXT.format(error=0, pid=7).partition("process\n")[2], "b.txt")
        == 1000.0
    )


def test_an_unknown_end_is_not_an_unfinished_run(tmp_path: Path) -> None:
    assert iops(tmp_path, fio(job(eta=2**31 - 1))) == 1000.0
    assert "unfinished-run" not in rules(tmp_path)


def test_unified_both_counts_once(tmp_path: Path) -> None:
    assert iops(tmp_path, fio(job(400.0, write=side(600.0), mixed=side(1000.0)))) == 1000.0


def hyperfine(*codes: int | None) -> str:
    return json.dumps({"results": [{"command": "make", "mean": 2.0, "times": [2.0] * len(codes), "exit_codes": codes}]})


@pytest.mark.parametrize("codes", [(2, 2, 2), (0, 2, 0), (0, None, 0)])
def test_hyperfine_runs_that_failed_are_no_measurements(tmp_path: Path, codes: tuple[int | None, ...]) -> None:
    assert len(samples(tmp_path, "make.json", hyperfine(0, 0, 0))) == 3
    with pytest.raises(BadInputError) as caught:
        samples(tmp_path, "make.json", hyperfine(*codes))
    assert "a run that failed is no measurement" in str(caught.value.detail)
    assert "failed-runs" in rules(tmp_path)


MBW = "".join(f"{n}\tMethod: MEMCPY\tElapsed: 0.05\tMiB: 256.00000\tCopy: {5000 + n}.0 MiB/s\n" for n in range(3))
MBW += "AVG\tMethod: MEMCPY\tElapsed: 0.05\tMiB: 256.00000\tCopy: 5001.0 MiB/s\n"
TINY = "tinymembench v0.4.9 (simple benchmark)\n\n C copy backwards           :   7521.7 MB/s (0.4%)\n C copy  :  7600.0 MB/s\n"
PERF = """
Analyze events for all VMs, all VCPUs:

             VM-EXIT    Samples  Samples%     Time%    Min Time    Max Time         Avg time

                 npf     170599    12.30%     0.53%      0.60us   3334.13us      2.57us ( +-   0.86% )
                 msr         10     0.01%     0.01%      0.50us      9.00us      1.25us ( +-  10.00% )

Total Samples:170609, Total events handled time:438451.93us.
"""
IPERF = """[ ID] Interval           Transfer     Bitrate         Retr
[  5]   0.00-1.00   sec   819 MBytes  6.87 Gbits/sec   11             sender
[  5]   0.00-1.00   sec   813 MBytes  6.82 Gbits/sec                  receiver
"""
XML = """<?xml version="1.0"?>
<?xml-stylesheet type="text/xsl" href="x.xsl"?>
<PhoronixTestSuite><Result><Title>Flexible IO</Title><Scale>{}</Scale><Proportion>{}</Proportion><Data>
<Entry><Identifier>guest</Identifier><Value>85</Value><RawString>84:85:86</RawString></Entry></Data></Result></PhoronixTestSuite>"""
PTS = {
    "title": "IO",
    "scale": "IOPS",
    "proportion": "HIB",
    "results": {"guest": {"value": 85, "all_results": [84, 85, 86]}},
}
OTHERS: dict[str, tuple[str, str, str, list[float], Direction]] = {
    "pytest-benchmark": ("a.json", json.dumps({"benchmarks": [{"name": "t", "stats": {"mean": 1.1, "data": [1.0, 1.2]}}]}), "t", [1.0, 1.2], Direction.LOWER),
    "iperf3": ("net.json", json.dumps({"start": {}, "end": {"sum_received": {"bits_per_second": 9e9}}}), "net", [9e9], Direction.HIGHER),
    "phoronix xml": ("composite.xml", XML.format("IOPS", "HIB"), "Flexible IO", [84, 85, 86], Direction.HIGHER),
    "phoronix xml, lower": ("composite.xml", XML.format("Seconds", "LIB"), "Flexible IO", [84, 85, 86], Direction.LOWER),
    "phoronix json": ("pts.json", json.dumps({"results": {"h": PTS}}), "IO", [84, 85, 86], Direction.HIGHER),
    "hyperfine csv": ("h.csv", "command,mean,stddev,median,user,system,min,max\nmake,2.5,0.1,2.5,1,1,2,3\n", "make", [2.5], Direction.LOWER),
    "sysbench": ("cpu.txt", "sysbench 1.0.20 (using LuaJIT)\n\nCPU speed:\n    events per second:  1234.56\n", "cpu", [1234.56], Direction.HIGHER),
    "sysbench, counted": ("threads.txt", "sysbench 1.0.20\n    total time:     2.0s\n    total number of events:    900\n", "threads", [450.0], Direction.HIGHER),
    "iperf3 text": ("net.log", IPERF, "net", [6.82e9], Direction.HIGHER),
    "iperf3 text, parallel": ("net.log", IPERF + "[SUM]   0.00-1.00   sec  9 GBytes  80.0 Gbits/sec     receiver\n", "net", [8e10], Direction.HIGHER),
    "perf kvm stat": ("exits.txt", PERF, "exit-npf", [2.57], Direction.LOWER),
    "mbw": ("mbw.txt", MBW, "mbw_memcpy", [5000, 5001, 5002], Direction.HIGHER),
    "tinymembench": ("tinymembench.txt", TINY, "tinymembench_c_copy_backwards", [7521.7], Direction.HIGHER),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_other_programs(tmp_path: Path, name: str) -> None:
    file, text, workload, values, direction = OTHERS[name]
    found = [s for s in samples(tmp_path, file, text) if s.workload == workload and s.metric.primary]
    assert [s.value for s in found] == pytest.approx(values)
    assert found[0].metric.direction is direction


def test_exits_have_their_extremes_and_counts_beside_the_mean(tmp_path: Path) -> None:
    found = {s.metric.name: s.value for s in samples(tmp_path, "e.txt", PERF) if s.workload == "exit-msr"}
    assert found == {"exit_cost": 1.25, "exit_cost_min": 0.5, "exit_cost_max": 9.0, "exits": 10.0}


def test_hyperfine_names_its_commands_in_csv_too(tmp_path: Path) -> None:
    text = "command,mean,stddev,median,user,system,min,max\nnosev,2.5,0.1,2.5,1,1,2,3\nsev,2.6,0.1,2.6,1,1,2,3\n"
    (tmp_path / "h.csv").write_text(text)
    found = imports.read_folder(tmp_path, imports.Given()).samples
    assert [(str(s.mode), s.value) for s in found] == [("nosev", 2.5), ("sev", 2.6)]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("a.json", '{"start": {}, "end": {}, "error": "unable to connect"}', "iperf3 reports: unable to connect"),
        ("a.txt", "sysbench 1.0.20\nFATAL: cannot open\n events per second: 3\n", "sysbench reports an error"),
        (
            "a.txt",
            IPERF.replace("receiver", "sender") + "iperf3: error - control socket has closed\n",
            "socket has closed",
        ),
        ("a.txt", IPERF.replace("receiver", ""), "without the receiver's rate"),
        ("a.log", "10, 5251, 0, 4096, 0, 0\n20, 5300, 0, 4096, 0, 0\n", "single requests"),
        ("a.json", '{"what": "is this"}', "program that is known here (fio, hyperfine"),
        ("a.xml", "<!DOCTYPE x [<!ENTITY a 'b'>]>\n<PhoronixTestSuite/>", "declarations of its own"),
        ("a.xml", "<PhoronixTestSuite><!ENTITY", "declarations of its own"),
        ("a.xml", "<PhoronixTestSuite><Result>", "damaged XML"),
    ],
)
def test_what_is_left_out_is_listed_with_the_reason(tmp_path: Path, file: str, text: str, words: str) -> None:
    with pytest.raises(BadInputError) as caught:
        samples(tmp_path, file, text)
    assert words in str(caught.value.detail)


def test_notes_beside_results_are_no_findings(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("measured on a Tuesday\n")
    assert iops(tmp_path, fio(job())) == 1000.0
    assert imports.read_folder(tmp_path, GIVEN).skipped == []
    assert "damaged" not in rules(tmp_path)


@pytest.mark.parametrize("text", ["", "no", "[" * 100_000, "{", '{"a": 1}{"b"'])
def test_no_document_is_an_error(text: str) -> None:
    with pytest.raises(BadInputError):
        documents.split(text, Path("x"))
