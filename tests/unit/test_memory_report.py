"""The HTML report of a leak run: whole, escaped, honest about what is missing; and a browser can show it."""

import re
import shutil
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevkit import processes
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.layout import GuestRange
from sevkit.memory.guest_ram.picture import GuestPages, Picture, draw
from sevkit.render import leak_report
from sevkit.render.memory_map import COLOURS


def experiment(mode: str = "nosev", verdict: str = "leaked", **changes: Any) -> dict[str, Any]:
    hit = {"address": 0x7F0000001000, "gpa": 0x1000, "region": "guest RAM (ram0)", "secret": "file"}
    return {
        "mode": mode,
        "provenance": "emulated",
        "verdict": verdict,
        "evidence": "plaintext" if verdict == "leaked" else "ciphertext",
        "predicted": "leaked" if mode == "nosev" else "protected",
        "reasons": ["because <it> was seen"],
        "hits": [hit] if verdict == "leaked" else [],
        "coverage": {
            "guest_ram_bytes": 1 << 29,
            "read_bytes": 1 << 28,
            "unreadable_bytes": 0,
            "unpopulated_bytes": 1 << 28,
        },
        "controls": {"positive": True, "negative": True, "secret_alive": True},
        "pages": {"plaintext": 900, "ciphertext": 10, "zero": 50, "hole": 40, "unread": 0},
        "seconds": 4.2,
        "phases": {"boot": 3.0, "capture": 1.2},
        "details": {
            "hypervisor": "qemu",
            "accel": "tcg",
            "command_line": ["qemu-system-x86_64", "-m", "512M", "-append", "console=ttyS0 quiet"],
            "capture": {"command": "gcore 42", "dump_bytes": 1 << 30},
            "controls": {"secret_alive": {"file": True, "kernel-log": False}},
            "dump_coverage": {"mapped_bytes": 7, "read_bytes": 6, "unreadable": {"beyond the end of the file": 1}},
            "notes": ["<script>alert(1)</script>"],
            "confounds": [],
            "nonce": "00ff",
        },
    } | changes


def picture(title: str) -> Picture:
    classes = np.array(list(PageClass) * 200, dtype=np.uint8)
    return draw(GuestPages((GuestRange("ram0", 0, 1000 * 4096, None),), classes), title, "", [(4096, "file")])


def run(*experiments: dict[str, Any], as_predicted: bool = True) -> dict[str, Any]:
    return {"attack": "leak", "as_predicted": as_predicted, "experiments": list(experiments)}


def text(page: str) -> str:
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_report_says_what_each_verdict_rests_on() -> None:
    page = leak_report.render(run(experiment(), experiment("sev", "protected")), [picture("nosev"), picture("sev")])
    words = text(page)
    for expected in (
        "The outcome is as predicted.",
        "leaked (plaintext)",
        "protected (ciphertext)",
        "1 times, 1 of them in guest RAM",
        "0x1000",
        "gcore 42",
        "console=ttyS0 quiet",
        "never populated, so not there to read 268,435,456 50.0 %",
        "unreadable: beyond the end of the file 1",
        "secret alive: kernel-log no",
    ):
        assert expected in words, expected
    assert page.count("data:image/png;base64,") == 2


def test_nothing_from_the_run_is_taken_for_markup_and_nothing_is_loaded_from_elsewhere() -> None:
    page = leak_report.render(run(experiment()))
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "because &lt;it&gt; was seen" in page
    assert not re.search(r"https?://|<link|@import|url\(", page)


def test_an_inconclusive_side_makes_the_report_inconclusive_whatever_was_predicted() -> None:
    lost = experiment(
        "sev", "inconclusive", evidence=None, controls=dict.fromkeys(("positive", "negative", "secret_alive"), False)
    )
    words = text(leak_report.render(run(experiment(), lost)))
    assert "The run is inconclusive." in words
    assert "FAILED" in words
    assert "as predicted." not in words


def test_what_did_not_come_out_as_predicted_is_said_first() -> None:
    words = text(leak_report.render(run(experiment("sev", "leaked"), as_predicted=False)))
    assert "The outcome is not as predicted." in words


def test_sides_of_different_provenance_carry_a_warning() -> None:
    page = leak_report.render(run(experiment(provenance="hardware"), experiment("sev", "protected", provenance="mock")))
    assert "different provenance" in page
    assert "proves nothing about hardware" in page


def test_a_result_with_only_the_promised_fields_is_shown_too() -> None:
    promised = ("mode", "provenance", "verdict", "evidence", "hits", "coverage", "controls", "seconds")
    bare = {key: value for key, value in experiment().items() if key in promised}
    bare["hits"] = [{"address": 1, "gpa": None, "region": None}]
    assert "What the host can read" in leak_report.render(run(bare))


def test_maps_in_the_data_are_drawn() -> None:
    page = leak_report.render(run(experiment(map=picture("nosev").as_dict())))
    assert page.count("data:image/png;base64,") == 1


def test_a_browser_shows_the_report_with_its_maps(tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed")
    page = tmp_path / "report.html"
    page.write_text(leak_report.render(run(experiment(), experiment("sev", "protected")), [picture("a"), picture("b")]))
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path}/profile"]
    argv = [browser, *flags, "--window-size=1100,1400", f"--screenshot={shot}", page.as_uri()]
    processes.run(argv, timeout=120)
    colours = {tuple(pixel) for pixel in _pixels(shot)[::7]}
    for colour in (COLOURS[PageClass.PLAINTEXT], COLOURS[PageClass.CIPHERTEXT]):
        assert tuple(bytes.fromhex(colour[1:])) in colours


def _pixels(path: Path) -> Any:
    import matplotlib.image

    assert zlib.crc32(path.read_bytes()[:8]) == zlib.crc32(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">I", path.read_bytes()[16:20])[0] == 1100
    return (matplotlib.image.imread(path)[:, :, :3] * 255).round().astype(int).reshape(-1, 3)
