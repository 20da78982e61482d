"""The study's small variant in a real guest: sources compiled, disks read, and the same command again does nothing."""

import json
import os
from pathlib import Path

import pytest

from sevkit.bench import store
from sevkit.cli import main

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("qemu"),
    # Not "if the image is there": a cache must not decide what a test run does.
    pytest.mark.skipif(not os.environ.get("SEVKIT_TEST_STUDY"), reason="takes minutes: set SEVKIT_TEST_STUDY=1"),
]
COMPILED = ("linux-small", "llvm-small", "godot-small", "imagemagick-small")


def test_a_few_rows_of_the_study_in_a_guest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workloads = [word for name in (*COMPILED, "bw_read", "mbw-memcpy") for word in ("--workload", name)]
    where = ["--hypervisor", "qemu", "--mode", "nosev", "--sweep", "storage=nvme"]
    command = ["bench", "reproduce", "study", "--small", *where, *workloads, "-o", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--html", str(tmp_path / "r.html"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, answer["errors"]
    campaign = store.load(tmp_path / "r")
    assert {s.workload for s in campaign.samples if s.family == "compilation"} == set(COMPILED)
    assert all(s.value > 0 for s in campaign.samples)
    (boot,) = campaign.boots.values()
    assert boot.facts["image"] == "study-small"
    assert boot.facts["disk"] == "filled"
    assert "linux_6.1" in boot.environment["sources"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--json"])
    assert json.loads(capsys.readouterr().out)["data"]["samples"] == answer["data"]["samples"]
    assert len(store.load(tmp_path / "r").boots) == 1
