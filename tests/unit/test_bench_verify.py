"""`bench verify`: values that do not follow from the raw outputs are found, also where the chain was written anew."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevkit.bench import store as stores
from sevkit.bench import suite
from sevkit.bench.campaign import block, directory, run
from sevkit.bench.imports import files, parse, write
from sevkit.bench.model import Boot, Sample
from sevkit.bench.suite import Profile
from sevkit.bench.verify import Finding, verify
from sevkit.vocabulary import Mode, Provenance

FIO = Path(__file__).parent.parent / "golden/bench/fio"
AT = Boot("c0.b0.sev.a0", Provenance.EMULATED)


def measured(path: Path) -> Path:
    """A campaign with one sample of each kind: parsed from a program's output, and timed by sevkit."""
    profile = Profile("t", "t", ("exit-cpuid", "sha256", "disk-read"), modes=(Mode.NOSEV, Mode.SEV))
    plan = directory.prepare(directory.Wish(profile, where="mock")).plan
    store, campaign = run.open_store(path, plan, {})
    known = suite.workloads()
    with store:
        recorder = run.Recorder(store, campaign)
        recorder.append(AT.record())
        for name, output in (("exit-cpuid", b"value 1200.5\n"), ("sha256", b""), ("disk-read", b"")):
            [(metric, value)] = parse.read(known[name], output, 0.75)
            sample = Sample(name, "", metric, Mode.SEV, value, boot=0, at=AT, extra={"seconds": 0.75})
            recorder.append(sample.record() | ({block.RAW: output.decode()} if output else {}))
    return path


def imported(path: Path) -> Path:
    given = files.Given(Mode.SEV, None, None)
    write.imported(path, files.read_folder(FIO, given), folder=FIO, given=given)
    return path


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first sample and write the whole chain anew, as a careful forger would."""
    lines = [json.loads(line) for line in (path / stores.RECORDS).read_text().splitlines()]
    records = [{key: value for key, value in line.items() if key != "chain"} for line in lines]
    change(next(record for record in records if record["kind"] == "sample"))
    (path / stores.RECORDS).unlink()
    with stores.Store.resume(path) as store:
        store.append(*records)
    assert stores.load(path).damage == []


@pytest.mark.parametrize("make", [measured, imported])
def test_what_was_written_is_intact(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    found = verify(make(tmp_path / "r"))
    assert (found.finding, found.reasons) == (Finding.INTACT, [])
    assert found.parsed + found.timed == found.samples > 0
    assert found.parsed > 0


@pytest.mark.parametrize("make", [measured, imported])
def test_a_forged_value_is_found_although_the_chain_is_whole(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "r")
    rewritten(path, lambda record: record.update(value=record["value"] * 1.01))
    found = verify(path)
    assert found.finding is Finding.CHANGED
    assert "is recorded" in found.reasons[0]


@pytest.mark.parametrize("make", [measured, imported])
def test_a_changed_raw_output_is_found(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "r")
    raw = next(p for p in sorted((path / stores.RAW).rglob("*")) if p.is_file())
    raw.write_bytes(raw.read_bytes().replace(b"2", b"3"))
    assert verify(path).finding is Finding.CHANGED


@pytest.mark.parametrize("name", ["/dev/zero", "../../outside.json", "link.json", "pipe.json"])
def test_only_files_of_the_directory_are_read(tmp_path: Path, name: str) -> None:
    path = imported(tmp_path / "r")
    (tmp_path / "outside.json").write_text("{}")
    (path / stores.RAW / "link.json").symlink_to("/dev/zero")
    os.mkfifo(path / stores.RAW / "pipe.json")
    header = json.loads((path / stores.HEADER).read_text())
    header["sources"] = {name: stores.digest(b"{}")}
    (path / stores.HEADER).write_text(json.dumps(header))
    assert any(name in reason for reason in verify(path).reasons)


def test_a_timed_value_must_be_the_time(tmp_path: Path) -> None:
    path = measured(tmp_path / "r")
    rewritten(path, lambda record: record.update(workload="sha256", value=0.5, extra={"seconds": 0.75}))
    assert any("sha256" in reason for reason in verify(path).reasons)


def test_an_edited_header_is_found(tmp_path: Path) -> None:
    path = measured(tmp_path / "r")
    header = path / stores.HEADER
    header.write_text(header.read_text().replace('"where": "mock"', '"where": "guest"'))
    assert verify(path).finding is Finding.CHANGED


def test_a_sample_without_raw_output_is_inconclusive(tmp_path: Path) -> None:
    path = measured(tmp_path / "r")
    rewritten(path, lambda record: record["extra"].pop("raw"))
    assert verify(path).finding is Finding.INCONCLUSIVE


def test_directories_of_older_versions_are_read_and_inconclusive(tmp_path: Path) -> None:
    path = measured(tmp_path / "r")
    header = json.loads((path / stores.HEADER).read_text())
    records = (path / stores.RECORDS).read_text().splitlines()
    (path / stores.HEADER).write_text(json.dumps({k: v for k, v in header.items() if k != "chained"}))
    (path / stores.RECORDS).write_text("".join(line[: line.rindex(',"chain"')] + "}\n" for line in records))
    assert stores.load(path).damage == []
    assert verify(path).finding is Finding.INCONCLUSIVE
