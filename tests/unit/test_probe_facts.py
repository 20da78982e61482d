"""Saved hosts: the same verdict anywhere, and nothing believed that sevkit would not have written."""

import json
from pathlib import Path
from typing import Any

import pytest

from sevkit.errors import BadInputError
from sevkit.probe.facts import live, parse, save
from sevkit.probe.report import report
from sevkit.probe.shape import READINGS
from sevkit.probe.sources import read_source
from tests.unit import probe_samples as sample


def test_a_saved_host_gives_the_same_verdict(tmp_path: Path) -> None:
    facts = live()
    path = str(tmp_path / "host.json")
    save(facts, path)
    one, other = report(facts), report(read_source(path))
    assert one.pop("source")["kind"] == "live"
    assert other.pop("source")["kind"] == "snapshot"
    assert one == other
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_a_saved_dump_is_still_a_dump(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text("CPU:\n   0x8000001f 0x00: eax=0x0001000f ebx=0x0000016f ecx=0x000001fd edx=0x00000001\n")
    facts = read_source(str(dump))
    save(facts, str(tmp_path / "saved"))
    again = report(read_source(str(tmp_path / "saved")))
    assert again["source"]["recorded"] == "cpuid-r"
    assert again["checks"] == report(facts)["checks"]


def test_saving_where_nobody_may_write() -> None:
    with pytest.raises(BadInputError, match="cannot write"):
        save(sample.facts(sample.ready()), "/proc/nowhere/host.json")


@pytest.mark.parametrize("path", ["/nonexistent", "/sys/class/tty", "/proc/self/mem"])
def test_files_that_cannot_be_read(path: str) -> None:
    with pytest.raises(BadInputError):
        read_source(path)


def test_an_endless_file() -> None:
    with pytest.raises(BadInputError, match="larger than"):
        read_source("/dev/zero")


def mutations() -> list[Any]:
    """The sample with one value after another replaced by something else."""
    found = []

    def walk(node: Any, path: tuple[Any, ...]) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            found.append((*path, key))
            walk(node[key], (*path, key))

    walk(sample.ready(1), ())
    return found


TEXT = json.dumps(sample.ready(1))
GONE = object()
NASTY = [None, True, -1, 1 << 70, 1.5, "", "\x1b[31m\ud800", [], {}, [None], {"x": None}, "Y" * 5000]


@pytest.mark.parametrize("path", mutations(), ids=lambda p: "/".join(map(str, p)))
def test_a_hostile_snapshot_is_refused_or_judged_never_a_crash(path: tuple[Any, ...]) -> None:
    for nasty in (*NASTY, GONE):
        raw = json.loads(TEXT)
        node: Any = raw
        for key in path[:-1]:
            node = node[key]
        if nasty is GONE:
            del node[path[-1]]
        else:
            node[path[-1]] = nasty
        try:
            data = report(parse(json.dumps(raw).encode(), "x"))
        except BadInputError as error:
            words = error.message
            assert "line " in words
            continue
        json.dumps(data, ensure_ascii=False).encode()
        assert "\x1b" not in json.dumps(data, ensure_ascii=False).replace("\\u001b", "\x1b")


def test_the_message_names_the_line() -> None:
    raw = sample.ready(1)
    raw["readings"]["kvm.api_version"]["value"] = "twelve"
    text = json.dumps(raw, indent=1, sort_keys=True)
    line = next(n for n, row in enumerate(text.splitlines(), 1) if '"kvm.api_version"' in row)
    with pytest.raises(BadInputError, match=f"line {line}: readings/kvm.api_version: not of type int"):
        parse(text.encode(), "x")


def test_what_the_collector_records_has_the_shape_that_is_checked() -> None:
    recorded = set(live().raw["readings"])
    assert set(READINGS) - {"guest.modes"} <= recorded  # which only other programs tell


def test_control_characters_do_not_reach_the_terminal() -> None:
    raw = sample.ready(1)
    raw["source"]["host"] = "a\x1b]0;owned\x07b"
    assert report(parse(json.dumps(raw).encode(), "x"))["source"]["host"] == "a\ufffd]0;owned\ufffdb"
