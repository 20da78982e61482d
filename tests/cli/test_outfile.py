"""Files that commands write at their end: in every locale, refused early, and never at the cost of the result."""

import html
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sevkit import attacks, evidence
from sevkit.attacks import runner
from sevkit.cli import outfile
from sevkit.errors import NotPermittedError
from tests.cli.conftest import Run, RunJson

REPLAY = ("attack", "run", "replay", "--level", "model", "--modes", "sev")
OPERATOR = "J\u00f6rg \u2014 \u201cme\u201d"
WRITERS = [(*REPLAY, "--operator", OPERATOR, "--report"), ("attack", "matrix", "replay", "--html")]


@pytest.mark.parametrize("words", WRITERS)
def test_pages_are_utf_8_in_a_locale_that_is_not(words: tuple[str, ...], tmp_path: Path) -> None:
    """The pages have quotation marks that ASCII and Latin-1 lack: writing them failed after the run."""
    page = tmp_path / "page.html"
    page.write_text("of an earlier run")
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    line = [sys.executable, "-X", "utf8=0", "-m", "sevkit", *words, str(page)]
    done = subprocess.run(line, env={**os.environ, **ascii_only}, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    text = page.read_bytes().decode()
    assert "earlier" not in text
    assert not text.isascii()
    if OPERATOR in words:
        assert html.escape(OPERATOR, quote=False) in text
        assert evidence.check(page)["sound"]


@pytest.mark.parametrize("words", WRITERS)
def test_a_page_that_cannot_be_written_does_not_cost_the_result(
    words: tuple[str, ...], sevkit: Run, sevkit_json: RunJson
) -> None:
    status, out, err = sevkit(*words, "/dev/full")
    assert (status, "no-integrity" in out, "/dev/full" in err) == (4, True, True)
    status, envelope = sevkit_json(*words, "/dev/full")
    assert (status, envelope["status"]) == (4, "partial")
    assert envelope["data"]
    assert "/dev/full" in envelope["errors"][0]["message"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_refused_at_once(tmp_path: Path) -> None:
    old = tmp_path / "old.html"
    old.write_text("x")
    old.chmod(0o400)
    tmp_path.chmod(0o500)
    for path in (old, tmp_path / "new.html"):
        with pytest.raises(NotPermittedError, match="cannot be written"):
            outfile.checked(path, "--report")


def test_a_signature_that_cannot_be_written_is_refused_at_once(sevkit: Run, tmp_path: Path) -> None:
    key, page = tmp_path / "key", tmp_path / "r.html"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    (tmp_path / f"r.html{evidence.SIGNATURE}").mkdir()
    status, _, err = sevkit(*REPLAY, "--report", str(page), "--sign", str(key))
    assert (status, page.exists()) == (2, False), err


def test_a_run_is_dated_by_its_start() -> None:
    """Not by its end: ten minutes of guests lie between them."""
    began = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert runner.as_data(attacks.find("replay"), [], began, 600.0)["started"] == "2026-01-02T03:04:05+00:00"
