"""The output gate: text from foreign files is text wherever it is shown."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit import cleantext as clean
from sevkit.render import bench_tables
from sevkit.render.page import linked
from tests.unit.elf import Load, core, nt_file

HOSTILE = "\x1b]0;PWNED\x07\u202eevil\nerror: forged\r\x9b2J"
WRITERS = (clean.line, clean.csv_cell, clean.markdown_cell, clean.tex)


@given(st.text())
def test_no_control_reaches_a_line(text: str) -> None:
    for write in WRITERS:
        assert write(text).isprintable()
    assert all(c.isprintable() or c in "\n\t" for c in clean.text(text))
    clean.text(text).encode()


@given(st.text(st.sampled_from("\x1b[]0;1m8PW\x07\n abc")))
def test_only_colours_pass_where_colours_may(text: str) -> None:
    shown = clean.coloured(text)
    assert "\x1b" not in clean.text(shown.replace("\x1b[0m", "")) or "\x1b" not in text
    for part in shown.split("\x1b")[1:]:
        assert part.startswith("[")
        assert part.lstrip("[0123456789;").startswith("m")


@pytest.mark.parametrize("formula", ["=cmd|'/c calc'!A0", "+1+1", "-2+3", "@SUM(A1)", " =1", "\t=1", "-x"])
def test_no_cell_is_a_formula(formula: str) -> None:
    assert not clean.csv_cell(formula).lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("number", ["-1.5", "+3", "1e-9", "-0"])
def test_numbers_stay_numbers(number: str) -> None:
    assert clean.csv_cell(number) == number


def test_tables_of_foreign_results_hold_their_form() -> None:
    comparison = {
        "workload": f"{HOSTILE}|x](javascript:1)<script>",
        "storage": "=1+1",
        "metric": HOSTILE,
        "unit": HOSTILE,
        "direction": "higher is better",
        "baseline_mode": "nosev",
        "mode": "=cmd",
        "control": False,
        "conditions": {HOSTILE: HOSTILE},
        "provenance": [HOSTILE],
        "boots": [3, 3],
        "samples": [9, 9],
        "baseline_value": 1.0,
        "value": 2.0,
        "ratio": 2.0,
        "interval": None,
        "confidence": 0.95,
        "p_holm": None,
        "family": HOSTILE,
        "p_value": None,
        "noise_floor": None,
        "equivalence": None,
        "smallest_detectable": None,
        "boots_for_margin": None,
        "design": "blocks",
        "verdict": HOSTILE,
        "reason": HOSTILE,
        "warnings": [HOSTILE],
    }
    for name, write in bench_tables.FORMATS.items():
        shown = write([comparison])
        assert all(c.isprintable() or c == "\n" for c in shown), name
        assert "\nerror: forged" not in shown
    assert "<script>" not in bench_tables.markdown([comparison])
    rows = list(csv.reader(io.StringIO(bench_tables.as_csv([comparison]))))
    assert len(rows) == 2
    assert not any(cell.startswith(("=", "@")) for cell in rows[1])


def test_names_in_a_core_do_not_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(core([Load(0x1000, b"secret".ljust(4096))], nt_file([(0x1000, 0x2000, 0, HOSTILE)])))
    argv = [sys.executable, "-m", "sevkit", "scan", "--core", str(path), "--secret", "secret"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    assert not any(line.startswith("error:") for line in done.stdout.splitlines())
    envelope = subprocess.run([*argv, "--json"], capture_output=True, text=True, check=False, timeout=60).stdout
    assert "\x1b" not in envelope
    assert json.loads(envelope)["data"]["hits"][0]["region"]


def test_names_of_files_in_messages_do_not_either(tmp_path: Path) -> None:
    path = tmp_path / "\x1b]0;PWNED\x07"
    argv = [sys.executable, "-m", "sevkit", "scan", "--core", str(path), "--secret", "secret"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "\x1b" not in done.stderr
    assert "cannot open" in done.stderr


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Paper <https://a.b/c?d=1&e=2>.", 'Paper <a href="https://a.b/c?d=1&amp;e=2">https://a.b/c?d=1&amp;e=2</a>.'),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ('<https://a" onclick="x>', "&lt;https://a&#34; onclick=&#34;x&gt;"),
        ("<javascript:alert(1)>", "&lt;javascript:alert(1)&gt;"),
    ],
)
def test_links_in_pages_are_addresses_and_nothing_else(text: str, html: str) -> None:
    assert str(linked(text)) == html
