"""The order of test files."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support import order
from tests.unit.test_ci import ROOT


def test_what_is_recorded_is_there() -> None:
    assert [name for name in order.recorded() if not (ROOT / name).is_file()] == []


def test_the_longest_file_comes_first_and_its_tests_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "recorded", lambda: {"a.py": 3.0, "b.py": 9.5})
    names = ["new.py::1", "a.py::2", "a.py::1", "b.py::x[::]", "new.py::2"]
    items = [SimpleNamespace(nodeid=name) for name in names]
    order.longest_first(items)  # type: ignore[arg-type]
    assert [item.nodeid for item in items] == ["b.py::x[::]", "a.py::2", "a.py::1", "new.py::1", "new.py::2"]


def test_what_a_file_takes_is_written_down(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(order, "SECONDS", tmp_path / "seconds.json")
    recorder = order.Recorder()
    for nodeid, duration in (("a.py::1", 1.5), ("b.py::1", 1.9), ("a.py::2", 1.0)):
        recorder.pytest_runtest_logreport(SimpleNamespace(nodeid=nodeid, duration=duration))  # type: ignore[arg-type]
    recorder.pytest_sessionfinish()
    assert order.recorded() == {"a.py": 2.5}
