"""`sevkit bench` as users call it: every command for people and in JSON, and what goes wrong."""

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevkit.cli import main
from tests.cli.conftest import check_against_schema
from tests.support.bench_campaign import FACTS, campaign, rewritten, unchained
from tests.support.container import not_in_the_container

FIO = Path(__file__).parent.parent / "golden/bench/fio"
MODES = [word for mode in ("nosev", "sev", "sev-es", "sev-snp") for word in ("--mode", mode)]
FOUR_BOOTS = ["--where", "mock", *MODES, "--boots", "4", "--most-boots", "4"]
Capture = pytest.CaptureFixture[str]


def call(capsys: Capture, *argv: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["bench", *map(str, argv)])
    status = ended.value.code
    assert isinstance(status, int)
    out = capsys.readouterr()
    return status, out.out, out.err


def envelope(capsys: Capture, *argv: str | Path) -> dict[str, Any]:
    status, out, err = call(capsys, *argv, "--json")
    data: dict[str, Any] = json.loads(out)
    assert data["exit_code"] == status
    assert err == ""
    check_against_schema(data, ["bench"])
    return data


@pytest.fixture
def results(tmp_path: Path, capsys: Capture) -> Path:
    output = tmp_path / "mock"
    assert call(capsys, "run", *FOUR_BOOTS, "--output", output)[0] == 0
    return output


def test_run_says_what_it_found(tmp_path: Path, capsys: Capture) -> None:
    data = envelope(capsys, "run", "--where", "mock", *MODES, "--profile", "smoke", "--output", tmp_path / "r")["data"]
    assert data["provenance"] == ["mock"]
    assert {c["mode"] for c in data["comparisons"]} == {"nosev", "sev", "sev-es", "sev-snp"}
    controls = [c for c in data["comparisons"] if c["control"]]
    assert "unequal" not in {c["verdict"] for c in controls}
    assert all(c["equivalence"]["p"] < 0.05 for c in controls if c["verdict"] == "equal")
    assert all("could hide" in c["reason"] for c in controls if c["verdict"] == "inconclusive")


def test_run_for_people(results: Path, capsys: Capture) -> None:
    status, out, _ = call(capsys, "run", *FOUR_BOOTS, "--output", results)
    assert status == 0
    assert "provenance: mock" in out
    assert "95 % interval" in out
    sentences = [line for line in out.splitlines() if " against nosev (mock: says nothing of hardware): " in line]
    assert [line.split()[0] for line in sentences] == ["sev", "sev-es", "sev-snp"]


def test_the_usual_run_compares_nosev_with_the_strongest_mode(tmp_path: Path, capsys: Capture) -> None:
    data = envelope(capsys, "run", "--where", "mock", "--output", tmp_path / "r", "--dry-run")["data"]
    assert data["arms"] == ["nosev", "nosev#again", "sev-snp"]


def test_dry_run_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    data = envelope(capsys, "run", "--where", "mock", "--output", tmp_path / "r", "--dry-run")["data"]
    assert data["order"][0] == "c0.b0.nosev"
    assert data["estimated_seconds"] >= 0
    assert not (tmp_path / "r").exists()


def test_a_failing_workload_is_a_partial_success(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "own.toml").write_text('[workload.it-fails]\ncommand = "false"\n[workload.good]\ncommand = "true"\n')
    options = ["--suite", tmp_path / "own.toml", "--workload", "it-fails", "--workload", "good"]
    found = envelope(capsys, "run", "--where", "mock", *MODES, *options, "--output", tmp_path / "r")
    assert found["status"] == "partial"
    assert found["exit_code"] == 5
    assert all("/it-fails" in error["message"] for error in found["errors"])


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["run", "--where", "mock"], "--output is missing"),
        (["run", "--profile", "nope", "--output", "x"], "no profile"),
        (["run", "--where", "mock", "--workload", "nope", "--output", "x"], "no workload"),
        (["run", "--where", "mock", "--sweep", "x=1", "--output", "x"], "makes no sense"),
        (["run", "--where", "mock", "--boots", "0", "--output", "x"], "0"),
        (["compare"], "RESULTS or --published"),
        (["compare", "/nonexistent"], "not a results directory"),
        (["report", "/nonexistent"], "not a results directory"),
        (["lint"], "Missing argument"),
        (["lint", "/nonexistent"], "is not a directory"),
        (["import", "/nonexistent", "--output", "x", "--provenance", "published"], "is not a directory"),
    ],
)
def test_usage_errors_have_words_and_status_2(
    argv: list[str], text: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = call(capsys, *argv)
    assert status == 2
    assert out == ""
    assert text in err
    found = envelope(capsys, *argv)
    assert found["status"] == "error"
    assert found["exit_code"] == 2
    assert text in found["errors"][0]["message"]


def another_run(source: str, target: Path) -> None:
    """A fixture as a run of its own: at another time."""
    document = json.loads((FIO / source).read_text())
    document["timestamp"] += len(list(target.parent.iterdir()))
    target.write_text(json.dumps(document))


def test_import_compare_lint(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for mode in ("nosev", "sev"):
        another_run("iops_mixread-nvme-sev.json", folder / f"iops_mixread-nvme-{mode}.json")
    imported = envelope(capsys, "import", folder, "--provenance", "published", "--output", tmp_path / "r")["data"]
    assert imported["modes"] == ["nosev", "sev"]
    (found,) = envelope(capsys, "compare", tmp_path / "r")["data"]["comparisons"]
    shape = {"workload", "storage", "metric", "unit", "direction", "baseline_mode", "mode", "ratio", "interval"}
    assert shape | {"verdict", "warnings"} <= set(found)
    assert (found["workload"], found["storage"], found["baseline_mode"], found["mode"]) == (
        "iops_mixread",
        "nvme",
        "nosev",
        "sev",
    )
    assert found["ratio"] == 1
    assert found["interval"] is None
    assert found["verdict"] == "refused"
    linted = envelope(capsys, "lint", folder)
    assert linted["exit_code"] == 1
    rules = {f["rule"] for f in linted["data"]["findings"]}
    assert {
        "engine-without-depth",
        "queue-depth",
        "short-run",
        "not-mixed",
        "jobs-dropped",
        "single-repetition",
    } <= rules


def test_lint_for_people(tmp_path: Path, capsys: Capture) -> None:
    shutil.copy(FIO / "bw_read-nvme-sev.json", tmp_path)
    status, out, _ = call(capsys, "lint", tmp_path)
    assert status == 1
    assert "engine-without-depth" in out
    assert "change:" in out
    assert "error" in call(capsys, "lint", "--rules")[1]


def test_lint_of_own_results(results: Path, capsys: Capture) -> None:
    found = envelope(capsys, "lint", results)
    assert found["exit_code"] == 0
    assert [f["rule"] for f in found["data"]["findings"] if f["severity"] != "note"] == []


def test_results_of_different_provenance_are_compared_only_on_request(tmp_path: Path, capsys: Capture) -> None:
    def on_hardware(records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["kind"] == "boot" and ".sev." in record["id"]:
                record["provenance"] = "hardware"

    mixed = campaign(tmp_path / "mixed")
    rewritten(mixed, on_hardware)
    found = envelope(capsys, "compare", mixed)["data"]["comparisons"]
    refused = [c for c in found if c["mode"] == "sev"]
    assert {c["verdict"] for c in refused} == {"refused"}
    assert all("mixed provenance: emulated and hardware" in c["reason"] for c in refused)
    assert all(c["ratio"] is None for c in refused)
    assert {c["verdict"] for c in found if c["control"]} != {"refused"}
    allowed = envelope(capsys, "compare", mixed, "--mixed-provenance")["data"]["comparisons"]
    assert all(c["ratio"] is not None for c in allowed)


def test_damage_is_told_and_the_rest_compared(results: Path, capsys: Capture) -> None:
    path = results / "samples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[10] = b"{broken\n"
    path.write_bytes(b"".join(lines))
    found = envelope(capsys, "compare", results)
    assert found["status"] == "partial"
    assert "line 11" in found["errors"][0]["message"]
    assert found["data"]["comparisons"]


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "latex"])
def test_tables_of_the_study_in_every_format(form: str, capsys: Capture, golden: Callable[[str, str], None]) -> None:
    status, out, _ = call(capsys, "compare", "--published", "--first-job-only", "--format", form)
    assert status == 0
    golden(f"bench/study.{form}.txt", out)


def test_compare_writes_a_file(results: Path, tmp_path: Path, capsys: Capture) -> None:
    assert call(capsys, "compare", results, "--format", "markdown", "--output", tmp_path / "t.md")[0] == 0
    assert (tmp_path / "t.md").read_text().startswith("| workload |")


def test_report_as_json_and_html(results: Path, tmp_path: Path, capsys: Capture) -> None:
    data = envelope(capsys, "report", results, "--html", tmp_path / "r.html")["data"]
    assert data["summary"]
    page = (tmp_path / "r.html").read_text()
    assert "no measurement at all" in page
    assert not re.search(r"""(src|href)=["']?(http|//|/)""", page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ET.fromstring(drawing)


def test_the_report_on_the_study_shows_the_article_s_ratios(tmp_path: Path, capsys: Capture) -> None:
    data = envelope(capsys, "report", "--published", "--html", tmp_path / "r.html")["data"]
    found = {(c["workload"], c["storage"]): c["article_ratio"] for c in data["comparisons"]}
    assert found["bw_read", "blk"] == 0.400772
    assert found["iops_randread", "blk"] == 0.780862
    page = (tmp_path / "r.html").read_text()
    assert all(ratio in page for ratio in ("0.401", "0.277", "0.781", "1.210"))


def test_text_from_results_is_escaped_in_html(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for mode in ("nosev", "sev"):
        another_run("bw_read-nvme-sev.json", folder / f"x-nvme-{mode}.json")
    evil = "<script>alert(1)</script>&\"'"
    call(capsys, "import", folder, "--provenance", "published", "--workload", evil, "--output", tmp_path / "r")
    assert call(capsys, "report", tmp_path / "r", "--html", tmp_path / "r.html")[0] == 0
    assert "<script>" not in (tmp_path / "r.html").read_text()


def test_list_and_published(capsys: Capture) -> None:
    names = {w["name"] for w in envelope(capsys, "list")["data"]["workloads"]}
    assert {"bw_read", "linux", "redis-get", "exit-cpuid", "lz4-compress-cold", "iperf3-loopback"} <= names
    assert "profiles:" in call(capsys, "list")[1]
    assert len(envelope(capsys, "published")["data"]["tables"]) == 30
    assert "known mistakes" in call(capsys, "published")[1]


def test_the_study_as_a_results_directory(tmp_path: Path, capsys: Capture) -> None:
    assert envelope(capsys, "published", "--output", tmp_path / "r")["data"]["samples"] > 400
    found = envelope(capsys, "compare", tmp_path / "r", "--accept-confounds")["data"]["comparisons"]
    assert next(c["ratio"] for c in found if c["workload"] == "godot") == pytest.approx(1.0318, abs=1e-4)


def test_selftest_says_what_the_statistics_did(capsys: Capture) -> None:
    data = envelope(capsys, "selftest", "--trials", "100")["data"]
    assert len(data["shapes"]) >= 8
    assert {"shape", "coverage", "family_wise_error", "power", "power_printed"} <= set(data["shapes"][0])


def test_figures_are_files_in_a_stable_order(results: Path, tmp_path: Path, capsys: Capture) -> None:
    data = envelope(capsys, "report", results, "--figures", tmp_path / "f")["data"]
    assert data["figures"]
    for name in data["figures"]:
        if name.endswith(".svg"):
            root = ET.parse(name).getroot()  # noqa: S314 - our own file
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            assert "var(" not in Path(name).read_text()
    assert envelope(capsys, "report", results, "--figures", tmp_path / "f")["data"]["figures"] == data["figures"]
    rows = [(c["family"], c["workload"], c["storage"] or "") for c in data["comparisons"]]
    assert rows == sorted(rows)


def test_csv_tells_rows_apart(tmp_path: Path, capsys: Capture) -> None:
    options = ["--where", "mock", "--mode", "nosev", "--mode", "sev", "--workload", "sha256", "--boots", "3"]
    argv = ["run", *options, "--most-boots", "3", "--sweep", "vcpus=1,16,2", "--output", tmp_path / "r"]
    assert call(capsys, *argv)[0] == 0
    rows = list(csv.DictReader(io.StringIO(call(capsys, "compare", tmp_path / "r", "--format", "csv")[1])))
    keys = [(r["workload"], r["mode"], r["control"], r["conditions"]) for r in rows]
    assert len(set(keys)) == len(keys) == 6
    assert [r["conditions"] for r in rows if r["control"] == "no"] == ["vcpus=1", "vcpus=2", "vcpus=16"]
    assert {r["provenance"] for r in rows} == {"mock"}
    assert {r["boots"] for r in rows} == {"3"}


def test_results_of_several_hosts_are_summarised(results: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other"
    assert call(capsys, "run", *FOUR_BOOTS, "--seed", "5", "--output", other)[0] == 0
    rows = envelope(capsys, "merge", results, other)["data"]["rows"]
    assert all(len(row["hosts"]) == 2 and row["left_out"] == {} for row in rows)
    assert all(row["interval"][0] < row["ratio"] < row["interval"][1] for row in rows)
    assert "over 2 hosts" in call(capsys, "merge", results, other)[1]
    assert call(capsys, "merge", results)[0] == 2
    assert call(capsys, "merge", results, results)[0] == 2


@not_in_the_container("the container has no room and no package lists for the image of the study")
def test_reproduce_shows_what_it_would_fetch_build_and_measure(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEVKIT_CACHE_DIR", str(tmp_path / "cache"))  # so that nothing is there yet
    options = ["study", "--small", "--hypervisor", "qemu", "--mode", "nosev", "--output", tmp_path / "r", "--dry-run"]
    data = envelope(capsys, "reproduce", *options)["data"]
    assert data["order"] == ["c0.b0.nosev", "c1.b0.nosev", "c2.b0.nosev"]
    assert data["to_build"] == ["study-small"]
    assert {source["file"].split("_")[0] for source in data["to_fetch"]} == {
        "linux",
        "llvm-toolchain-16",
        "godot",
        "imagemagick",
    }
    assert 0 < data["estimated_seconds"] < 600
    assert any("tinymembench" in note for note in data["notes"])
    assert not (tmp_path / "r").exists()
    status, out, _ = call(capsys, "reproduce", *options)
    assert status == 0
    assert "fetch linux_6.1" in out
    assert "three files of Linux" in out
    written = ["--timeout", "100000", "--sweep", "vcpus=1", "--sweep", "memory_mib=1024", "--workload", "imagemagick"]
    data = envelope(capsys, "reproduce", "study", *options[2:], *written)["data"]
    assert data["written_mib"] == 500
    assert data["written_to"]
    twice = envelope(capsys, "reproduce", *options, "--control")["data"]
    assert twice["order"][:2] == ["c0.b0.nosev", "c0.b0.nosev#again"]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["study", "--small", "--as-published", "--output", "r"], "exclude each other"),
        (["study", "--as-published", "--boots", "3", "--dry-run"], "--boots has no effect"),
        (["study", "--as-published", "--control", "--dry-run"], "--control has no effect"),
        (["study", "--small", "--mode", "nosev", "--hypervisor", "qemu"], "--output is missing"),
        (["another"], "'another' is not 'study'"),
        (
            ["study", "--small", "--mode", "nosev", "--hypervisor", "qemu", "--budget", "5", "--dry-run"],
            "the budget is",
        ),
    ],
)
def test_reproduce_refuses_what_makes_no_sense(capsys: Capture, options: list[str], word: str) -> None:
    status, _, err = call(capsys, "reproduce", *options)
    assert status == 2
    assert word in err


@pytest.mark.parametrize("option", ["--boots 6", "--most-boots 6", "--iterations 3", "--control", "--sweep cache=none"])
def test_options_that_as_published_would_not_honour_are_refused(capsys: Capture, option: str) -> None:
    status, _, err = call(capsys, "run", "--profile", "paper", "--as-published", "--dry-run", *option.split())
    assert status == 2
    assert f"{option.partition('=')[0].rstrip(' 0123456789')} has no effect" in err


def test_attribution_and_curves_as_called_by_a_user(capsys: Capture, tmp_path: Path) -> None:
    out, charts = tmp_path / "r", tmp_path / "charts"
    options = ["--where", "mock", "--boots", "4", "--most-boots", "4", "--workload", "disk-read", "--factor", "bounce"]
    options += [
        "--sweep",
        "vcpus=1,2,4",
        "--sweep",
        "storage=nvme",
        "--mode",
        "nosev",
        "--mode",
        "sev",
        "--budget",
        "9999",
    ]
    plan = envelope(capsys, "run", *options, "--dry-run")["data"]
    assert any("bounce" in config["label"] for config in plan["configs"])
    envelope(capsys, "run", *options, "--output", out)
    rows = envelope(capsys, "attribute", out, "--figures", charts)["data"]["rows"]
    assert [row["conditions"].get("vcpus") for row in rows] == ["1", "2", "4", None]  # the last is their mean
    assert {step["title"] for row in rows for step in row["steps"]} == {"bounce buffers", "memory encryption"}
    curves = envelope(capsys, "curves", out, "--figures", charts)["data"]["curves"]
    assert [curve["axis"] for curve in curves] == ["vcpus"]
    assert len(list(charts.glob("*.svg"))) == 5
    assert "bounce buffers" in call(capsys, "attribute", out)[1]
    assert "per doubling" in call(capsys, "curves", out)[1]


def test_what_was_not_measured_for_it_has_no_parts_and_no_curves(capsys: Capture, tmp_path: Path) -> None:
    call(capsys, "published", "--output", tmp_path / "study")
    for command in ("attribute", "curves"):
        status, _, err = call(capsys, command, tmp_path / "study")
        assert status == 2
        assert "rounds" in err


def test_verify_exits_by_its_answer(capsys: Capture, tmp_path: Path) -> None:
    call(capsys, "import", FIO, "--provenance", "published", "--output", tmp_path / "r")
    assert envelope(capsys, "verify", tmp_path / "r")["exit_code"] == 0
    raw = next((tmp_path / "r/raw").iterdir())
    raw.write_text(raw.read_text().replace("1", "2", 1))
    found = envelope(capsys, "verify", tmp_path / "r")
    assert (found["exit_code"], found["data"]["verdict"]) == (1, "changed")
    call(capsys, "published", "--output", tmp_path / "study")
    assert envelope(capsys, "verify", tmp_path / "study")["exit_code"] == 3


def test_import_says_what_it_takes_results_for(tmp_path: Path, capsys: Capture) -> None:
    status, out, _ = call(capsys, "import", FIO, "--output", tmp_path / "r")
    assert status == 0
    assert "(provenance: published)" in out
    assert "note: taken as published by others" in out
    assert "note:" not in call(capsys, "import", FIO, "--output", tmp_path / "s", "--provenance", "emulated")[1]


def raised_values(path: Path) -> None:
    def raised(records: list[dict[str, Any]]) -> None:
        for record in records:
            if record["kind"] == "sample":
                record["value"] *= 1.1

    rewritten(path, raised)


def without_its_end(path: Path) -> None:
    records = path / "samples.jsonl"
    records.write_text("".join(records.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("forge", [unchained, raised_values, without_its_end])
def test_no_command_gives_a_verdict_on_results_that_cannot_be_trusted(
    tmp_path: Path, capsys: Capture, forge: Callable[[Path], None]
) -> None:
    path = campaign(tmp_path / "r")
    assert "worse" in {c["verdict"] for c in envelope(capsys, "compare", path)["data"]["comparisons"]}
    forge(path)
    for command in ("compare", "report"):
        found = envelope(capsys, command, path)["data"]["comparisons"]
        assert {c["verdict"] for c in found} == {"refused"}
        assert all(c["ratio"] is not None and c["reason"] for c in found)
    (row,) = {json.dumps(row["total"]["verdict"]) for row in envelope(capsys, "attribute", path)["data"]["rows"]}
    assert row == '"refused"'
    other = campaign(tmp_path / "other", noise=0.006, of=lambda arm, boot: {**FACTS, "host": "another"})
    for row in envelope(capsys, "merge", path, other)["data"]["rows"]:
        assert row["ratio"] is None
        assert str(path) in row["left_out"]
