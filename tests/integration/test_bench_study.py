"""The whole image of the study: each compilation really starts in a guest, starts again after it, and one runs whole."""

import json
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit.bench import store, suite
from sevkit.cli import main
from sevkit.guest import image
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.protocols import Guest
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor

pytestmark = [
    pytest.mark.guest,
    pytest.mark.timeout(7200),
    pytest.mark.usefixtures("qemu"),
    # Not "if the image is there": a cache must not make a test run hours longer.
    pytest.mark.skipif(
        os.environ.get("SEVKIT_TEST_STUDY") != "whole", reason="takes hours, and 9 GB: set SEVKIT_TEST_STUDY=whole"
    ),
]
COMPILED = ("linux", "llvm", "godot", "imagemagick")
CPUS = min(4, len(os.sched_getaffinity(0)))
PATIENCE = 3600.0  # for what comes before a sample without KVM: all sources are read
MOST = 1200.0  # seconds after which a compilation that has made hardly any object is given up
FEW = 5


@pytest.fixture(scope="module")
def builder(qemu: QemuHypervisor) -> Iterator[Guest]:
    """A guest of the image, with the variables of a campaign."""
    image.get("study")
    guest = qemu.launch(GuestSpec(name="study", image="study", vcpus=CPUS, memory_mib=4096), timeout=300)
    yield guest
    guest.stop()


def objects(guest: Guest, tree: str) -> int:
    """The object files in the places that a compilation fills."""
    # Tools of the build, which stay; what configuring tried; and objects that LLVM's own tests read.
    other = ("scripts", "tools", ".sconf_temp", "llvm/test", "llvm/unittests")
    keep = " -o ".join(f"-path '*/{folder}/*'" for folder in other)
    find = f"find /root/sources/{tree} -name '*.o' ! \\( {keep} \\) | wc -l"
    return int(guest.run(find, timeout=PATIENCE).text)


@pytest.mark.parametrize("name", COMPILED)
def test_a_compilation_starts_and_the_next_sample_compiles_again(name: str, builder: Guest) -> None:
    workload = suite.workloads()[name]
    setup = f"export VCPUS={CPUS}; "
    missing = "; ".join(f"command -v {program} >/dev/null || echo {program}" for program in workload.needs)
    assert builder.run(missing, timeout=60).text == ""
    for _ in range(2):
        before = builder.run(setup + workload.before, timeout=PATIENCE)
        assert before.status == 0, before.stderr[-2000:]
        assert objects(builder, name) < FEW  # one that was cut off in the middle may stay
        # The suite's own command, ended when the first objects are there.
        start = f"{setup}setsid sh -c {shlex.quote(workload.command)} </dev/null >/tmp/out 2>&1 & echo $!"
        group = builder.run(start, timeout=60).text.strip()
        deadline = time.monotonic() + MOST
        while objects(builder, name) < FEW and time.monotonic() < deadline:
            time.sleep(5)
        builder.run(f"kill -TERM -- -{group}; sleep 5; kill -KILL -- -{group}; true", timeout=60)
        told = builder.run("tail -n 20 /tmp/out", timeout=60).text
        assert objects(builder, name) >= FEW, told


@pytest.mark.timeout(6 * 3600)  # without KVM about an hour on two CPUs with nothing else to do
def test_imagemagick_is_compiled_whole_and_stands_beside_the_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guests = ["--hypervisor", "qemu", "--mode", "nosev", "--sweep", f"vcpus={CPUS}", "--sweep", "memory_mib=4096"]
    few = ["--boots", "1", "--most-boots", "1", "--no-control", "--workload", "imagemagick"]
    command = ["bench", "reproduce", "study", *guests, *few, "--timeout", "18000", "-o", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--html", str(tmp_path / "r.html"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0, answer["errors"]
    samples = [s for s in store.load(tmp_path / "r").samples if s.family == "compilation"]
    assert {s.workload for s in samples} == {"imagemagick"}
    rows = {row["workload"]: row for row in answer["data"]["rows"]}
    assert rows["imagemagick"]["reason"] == "measured in mode nosev only"
    assert "imagemagick_6.9.11" in store.load(tmp_path / "r").boots[samples[0].at.identity].environment["sources"]
