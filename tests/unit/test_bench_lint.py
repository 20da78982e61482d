"""The linter finds each of the published study's mistakes in real fio output, and nothing in a sound result."""

import json
import shutil
from pathlib import Path

import pytest

from sevkit.bench.imports import files, write
from sevkit.bench.lint import fio as lint_fio
from sevkit.bench.lint.answer import lint
from sevkit.bench.lint.rules import RULES, Report, Severity
from sevkit.errors import BadInputError, UsageError

FIO = Path(__file__).parent.parent / "golden/bench/fio"


def rules_of(report: Report, *, least: Severity = Severity.NOTE) -> set[str]:
    rank = list(Severity)
    return {f.rule for f in report.findings if rank.index(f.severity) <= rank.index(least)}


def place(folder: Path, source: str, name: str, **changes: object) -> None:
    """Copy a fixture, with options of its jobs changed (None removes one)."""
    document = json.loads((FIO / source).read_text())
    for key, value in changes.items():
        if key == "timestamp":
            document["timestamp"] = value
            continue
        for job in document["jobs"]:
            if value is None:
                job["job options"].pop(key, None)
            else:
                job["job options"][key] = value
    (folder / name).write_text(json.dumps(document))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Five interleaved runs of each mode, measured as they should be."""
    for index in range(5):
        for turn, mode in enumerate(("nosev", "sev") if index % 2 == 0 else ("sev", "nosev")):
            place(tmp_path, "good.json", f"mix-nvme-{mode}-{index}.json", timestamp=1000 + 40 * index + 20 * turn)
    return tmp_path


def test_a_sound_directory_has_nothing_worse_than_notes(sound: Path) -> None:
    report = lint(sound)
    assert report.clean, [(f.rule, f.message) for f in report.findings]
    assert rules_of(report) <= {"host-cache", "ruled-by-tail"}


@pytest.mark.parametrize(
    ("source", "rule", "evidence"),
    [
        ("bw_read-nvme-sev.json", "engine-without-depth", {"iodepth": 128, "ioengine": None}),
        ("bw_read-nvme-sev.json", "queue-depth", {"asked": 128}),
        ("bw_read-nvme-sev.json", "short-run", {"time_based": False}),
        ("iops_mixread-nvme-sev.json", "not-mixed", {"rw": "randread"}),
        ("iops_mixread-nvme-sev.json", "jobs-dropped", {"jobs": 4}),
        ("iops_randread-blk-sev.json", "page-cache", {"direct": None}),
        ("al_read-scsi-sev.json", "missing-space", {"filename": "/mnt/a--iodepth=1--rw=read"}),
    ],
)
def test_each_mistake_is_found_with_its_evidence(
    tmp_path: Path, source: str, rule: str, evidence: dict[str, object]
) -> None:
    shutil.copy(FIO / source, tmp_path)
    found = [f for f in lint(tmp_path).findings if f.rule == rule and f.file == source]
    assert len(found) == 1
    assert found[0].severity in {Severity.ERROR, Severity.WARNING}
    assert evidence.items() <= found[0].evidence.items()
    assert found[0].fix


def test_a_single_run_of_each_mode_is_one_repetition(tmp_path: Path) -> None:
    for mode, when in (("nosev", 1e9), ("sev", 2e9)):
        place(tmp_path, "good.json", f"mix-nvme-{mode}.json", timestamp=when)
    assert "single-repetition" in rules_of(lint(tmp_path), least=Severity.ERROR)


def test_options_that_differ_between_modes_are_found(sound: Path) -> None:
    for index in range(5):
        place(sound, "good.json", f"mix-nvme-sev-{index}.json", bs="8K", timestamp=1000 + 40 * index)
    found = next(f for f in lint(sound).findings if f.rule == "options-differ")
    assert "bs" in found.message


def test_one_mode_after_the_other_is_not_interleaved(tmp_path: Path) -> None:
    for index in range(3):
        place(tmp_path, "good.json", f"mix-nvme-nosev-{index}.json", timestamp=1000 + 20 * index)
        place(tmp_path, "good.json", f"mix-nvme-sev-{index}.json", timestamp=2000 + 20 * index)
    assert "not-interleaved" in rules_of(lint(tmp_path))


def test_two_modes_at_the_same_time_overlap(tmp_path: Path) -> None:
    place(tmp_path, "good.json", "mix-nvme-nosev.json", timestamp=1000)
    place(tmp_path, "good.json", "mix-nvme-sev.json", timestamp=1005)
    assert "overlap" in rules_of(lint(tmp_path), least=Severity.ERROR)


def test_a_table_of_first_jobs_is_found(tmp_path: Path) -> None:
    shutil.copy(FIO / "iops_mixread-nvme-sev.json", tmp_path)
    first = json.loads((FIO / "iops_mixread-nvme-sev.json").read_text())["jobs"][0]["read"]["iops"]
    (tmp_path / "iops_results.csv").write_text(f"group,name,result\nmixread,nvme-sev,{first}\n")
    found = next(f for f in lint(tmp_path).findings if f.rule == "jobs-dropped" and f.severity is Severity.ERROR)
    assert found.file == "iops_results.csv"
    assert found.evidence["all_jobs"] > 3 * first


def test_columns_named_alike_are_found(tmp_path: Path) -> None:
    (tmp_path / "redis.csv").write_text("group,name,results,result\nSET,nosev,112000,0.23\nSET,sev,99000,0.25\n")
    assert "columns" in rules_of(lint(tmp_path))


def test_scripts_are_read(tmp_path: Path) -> None:
    shutil.copy(FIO / "bw_read-nvme-sev.json", tmp_path)
    (tmp_path / "sev.sh").write_text(
        'if [ "$1"=="nvme" ]; then X=1; fi\n'
        "qemu-system-x86_64 -object sev-snp-guest,id=sev0 -object memory-backend-memfd-private,id=ram1,size=16G \\\n"
        "  -drive file=sev.img,if=none,id=disk0,format=raw\n"
        'fio --name="al" --filename="/mnt/a"--iodepth="1"--rw="read"\n'
        "make -j4\n"
    )
    (tmp_path / "nosev.sh").write_text("qemu-system-x86_64 -drive file=a.img,if=none,id=d,cache=none\n")
    report = lint(tmp_path)
    assert {"shell-test", "host-cache", "missing-space", "parallelism", "backing-differs"} <= rules_of(report)
    cached = [f for f in report.findings if f.rule == "host-cache"]
    assert [f.file.partition(":")[0] for f in cached] == ["sev.sh"]


def test_a_first_run_out_of_line_is_found_in_both_directions(tmp_path: Path) -> None:
    rows = ["group,name,result", *(f"job,nosev,{v}" for v in (50, 59, 59.2, 58.9, 59.1))]
    rows += [f"job,sev,{v}" for v in (80, 60.1, 60, 60.2, 59.9)]
    (tmp_path / "x.csv").write_text("\n".join(rows) + "\n")
    told = [f.message for f in lint(tmp_path).findings if f.rule == "first-run"]
    assert any("-15%" in text for text in told)
    assert any("+33%" in text for text in told)


def test_a_damaged_file_is_a_finding_and_the_others_are_read(sound: Path) -> None:
    (sound / "mix-nvme-sev-9.json").write_text((FIO / "good.json").read_text()[:3000])
    report = lint(sound)
    damaged = [f for f in report.findings if f.rule == "damaged"]
    assert [f.file for f in damaged] == ["mix-nvme-sev-9.json"]
    assert report.files == 11


@pytest.mark.parametrize("content", ["", '{"fio version": 3, "jobs": 7}', '{"fio version":"x","jobs":[{"read":5}]}'])
def test_damaged_json_becomes_a_finding(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert [(f.rule, f.file) for f in lint(tmp_path).findings if f.rule == "damaged"] == [("damaged", "x.json")]


def test_foreign_json_alone_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"name": "something else"}')
    with pytest.raises(BadInputError):
        lint(tmp_path)


def test_a_directory_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="holds no results"):
        lint(tmp_path)
    with pytest.raises(UsageError):
        lint(tmp_path / "missing")


def test_every_rule_that_is_used_is_listed(tmp_path: Path) -> None:
    for path in FIO.glob("*.json"):
        shutil.copy(path, tmp_path)
    assert rules_of(lint(tmp_path)) <= set(RULES)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60.0), ("90s", 90.0), ("2m", 120.0), ("500ms", 0.5), ("1h", 3600.0), ("x", None)]
)
def test_durations_as_fio_writes_them(text: str, seconds: float | None) -> None:
    assert lint_fio.duration(text) == seconds


def test_every_rule_has_its_line_in_the_documentation() -> None:
    text = (Path(__file__).parent.parent.parent / "docs/bench.md").read_text()
    for rule, about in RULES.items():
        assert f"| `{rule}` | {about} |" in text


@pytest.mark.parametrize(("mode", "expected"), [("nosev", "sev, sev-es, sev-snp"), ("sev", "the baseline (nosev)")])
def test_what_is_missing_is_named_and_not_what_is_there(tmp_path: Path, mode: str, expected: str) -> None:
    shutil.copy(FIO / "al_read-scsi-sev.json", tmp_path / f"al_read-scsi-{mode}.json")
    (found,) = [finding for finding in lint(tmp_path).findings if finding.rule == "missing-arm"]
    assert f"measured in mode {mode} only" in found.message
    assert expected in found.fix


def test_imported_results_are_not_told_to_give_an_option_of_run(tmp_path: Path) -> None:
    shutil.copy(FIO / "al_read-scsi-sev.json", tmp_path)
    write.imported(tmp_path / "r", files.read_folder(tmp_path, files.Given()), folder=tmp_path, given=files.Given())
    (found,) = [finding for finding in lint(tmp_path / "r").findings if finding.rule == "single-repetition"]
    assert "--boots" not in found.fix
