"""What the suite does with a test that does not end, whatever it catches."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """\
from tests.support import watchdog
watchdog.GRACE = 0.5
def pytest_configure(config):
    config.pluginmanager.register(watchdog.Watchdog())
"""
STUCK = """\
import signal, time, pytest
@pytest.mark.timeout(0.5)
def test_that_hears_nothing():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    time.sleep(600)
"""


@pytest.mark.parametrize("limit", ["mark", "option"])
def test_a_test_that_hears_nothing_ends_the_run_and_is_named(tmp_path: Path, limit: str) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_stuck.py").write_text(
        STUCK if limit == "mark" else STUCK.replace("@pytest.mark.timeout(0.5)", "")
    )
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    words = ["-n1", "--max-worker-restart=0", "-pno:sevkit", *(["--timeout=0.5"] if limit == "option" else [])]
    argv = [sys.executable, "-m", "pytest", *words]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 1
    assert "crashed while running 'test_stuck.py::test_that_hears_nothing'" in done.stdout
    assert "test_that_hears_nothing" in done.stderr  # where it stood
