"""The results store: torn lines, damage, locks, full disks."""

import errno
import gc
import json
import os
from pathlib import Path

import pytest

from sevkit.bench import store as stores
from sevkit.bench.model import TIME, Boot, Sample
from sevkit.bench.store import RECORDS, Store, load
from sevkit.errors import BadInputError, NoSpaceError, UsageError
from sevkit.vocabulary import Mode, Provenance

AT = Boot("b0", Provenance.MOCK, {"kernel": "6.1"}, ("x",), {"load": [0.1]})


def sample(value: float, order: int = 0) -> Sample:
    return Sample("w", "nvme", TIME, Mode.SEV, value, boot=0, order=order, at=AT, conditions=(("vcpus", "2"),))


def filled(path: Path, count: int = 3) -> Path:
    with Store.create(path, {"title": "t"}) as store:
        store.append(AT.record())
        for i in range(count):
            store.append(sample(1.0 + i, i).record())
    return path


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    campaign = load(filled(tmp_path / "r"))
    assert [s.value for s in campaign.samples] == [1.0, 2.0, 3.0]
    assert campaign.samples[0] == sample(1.0)
    assert campaign.boots == {"b0": AT}


@pytest.mark.parametrize("cut", [1, 5, 40, 100])
def test_a_torn_last_line_costs_that_line_only(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path / "r")
    data = (path / RECORDS).read_bytes()
    (path / RECORDS).write_bytes(data[:-cut])
    campaign = load(path)
    assert [s.value for s in campaign.samples] == [1.0, 2.0]
    assert campaign.damage == []
    with Store.resume(path) as store:
        store.append(sample(9.0, 2).record())
    assert [s.value for s in load(path).samples] == [1.0, 2.0, 9.0]


def test_any_cut_of_the_file_gives_a_prefix_of_the_samples(tmp_path: Path) -> None:
    path = filled(tmp_path / "r", 4)
    data = (path / RECORDS).read_bytes()
    for cut in range(len(data)):
        (path / RECORDS).write_bytes(data[:cut])
        campaign = load(path)
        assert campaign.damage == []
        assert [s.value for s in campaign.samples] == [1.0, 2.0, 3.0, 4.0][: len(campaign.samples)]


def test_damaged_lines_are_set_aside_with_their_number(tmp_path: Path) -> None:
    path = filled(tmp_path / "r")
    lines = (path / RECORDS).read_bytes().splitlines(keepends=True)
    lines[2] = b'{"kind": "sample", "value": "fast"}\n'
    lines.insert(3, b"\x00\xff garbage\n")
    (path / RECORDS).write_bytes(b"".join(lines))
    campaign = load(path)
    assert [s.value for s in campaign.samples] == [1.0, 3.0]
    assert [text.split(":")[0] for text in campaign.damage] == [f"{RECORDS} line 3", f"{RECORDS} line 4"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), True, "1", None])
def test_values_that_no_measurement_gives_are_damage(tmp_path: Path, value: object) -> None:
    path = filled(tmp_path / "r", 1)
    line = json.dumps(sample(1.0).record() | {"value": value})
    with (path / RECORDS).open("a") as stream:
        stream.write(line + "\n")
    campaign = load(path)
    assert len(campaign.samples) == 1
    assert len(campaign.damage) == 1


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = filled(tmp_path / "r")
    with Store.resume(path), pytest.raises(UsageError, match=f"process {os.getpid()}"):
        Store.resume(path)
    Store.resume(path).close()


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    path = filled(tmp_path / "r")
    with pytest.raises(UsageError, match="already holds results"):
        Store.create(path, {})


@pytest.mark.parametrize(
    "header", ["", "[]", '{"format": "other"}', '{"format": "sevkit-bench", "format_version": 99}']
)
def test_foreign_headers_are_refused(tmp_path: Path, header: str) -> None:
    (tmp_path / stores.HEADER).write_text(header)
    with pytest.raises(BadInputError):
        load(tmp_path)


def test_a_full_disk_is_told_and_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "r")
    real = os.write
    with Store.resume(path) as store:

        def full(handle: int, data: bytes) -> int:
            if len(data) > 20:
                return real(handle, bytes(data)[:20])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(NoSpaceError, match="disk is full"):
            store.append(sample(7.0).record())
        monkeypatch.undo()
        store.append(sample(8.0).record())
    assert [s.value for s in load(path).samples] == [1.0, 2.0, 3.0, 8.0]


def _edited(lines: list[bytes], how: str) -> list[bytes]:
    if how == "value":
        return [line.replace(b'"value":2.0', b'"value":1.5') for line in lines]
    if how == "removed":
        return [*lines[:2], *lines[3:]]
    if how == "swapped":
        return [lines[0], lines[2], lines[1], *lines[3:]]
    return [*lines[:2], sample(7.0).record().__repr__().replace("'", '"').encode() + b"\n", *lines[2:]]


@pytest.mark.parametrize("how", ["value", "removed", "swapped", "added"])
def test_an_edit_of_the_records_shows(tmp_path: Path, how: str) -> None:
    path = filled(tmp_path / "r", 4)
    lines = (path / RECORDS).read_bytes().splitlines(keepends=True)
    (path / RECORDS).write_bytes(b"".join(_edited(lines, how)))
    assert any("was changed after it was written" in text for text in load(path).damage)


def test_the_chain_goes_on_after_a_resumption(tmp_path: Path) -> None:
    path = filled(tmp_path / "r")
    for value in (4.0, 5.0):
        with Store.resume(path) as store:
            store.append(sample(value, 9).record())
    campaign = load(path)
    assert campaign.damage == []
    assert [s.value for s in campaign.samples] == [1.0, 2.0, 3.0, 4.0, 5.0]


def test_an_edit_of_a_raw_output_shows(tmp_path: Path) -> None:
    path = filled(tmp_path / "r", 1)
    with Store.resume(path) as store:
        kept = {"raw": store.keep_raw("1.txt", b"value 2"), "raw_sha256": stores.digest(b"value 2")}
        store.append({**sample(2.0, 1).record(), "extra": kept})
    assert stores.changed_raw(load(path)) == []
    (path / "raw" / "1.txt").write_bytes(b"value 3")
    assert stores.changed_raw(load(path)) == ["raw/1.txt"]
    (path / "raw" / "1.txt").unlink()
    assert stores.changed_raw(load(path)) == ["raw/1.txt"]


@pytest.mark.parametrize("enabled", [True, False])
def test_reading_leaves_the_garbage_collector_as_it_was(tmp_path: Path, enabled: bool) -> None:
    Store.create(tmp_path / "r", {}).close()
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        load(tmp_path / "r")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
