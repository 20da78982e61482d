"""A small campaign on real guests: boots, disks, phases, and the same mode measured twice."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevkit.bench import store
from sevkit.bench.analysis import load
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Ruling
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign.directory import Wish
from sevkit.bench.lint.answer import lint
from sevkit.bench.records import SlotEnd
from sevkit.bench.suite import Profile, changed
from sevkit.vocabulary import Mode

DISK = """
[defaults]
disk = true
parse = "number"
pattern = "([0-9]+)"
metric = "size"
unit = "B"
direction = "higher is better"
[workload.bytes]
command = "wc -c < $DISK"
[workload.not-zero]
command = "tr -d '\\\\0' < $DISK | wc -c"
"""
pytestmark = [pytest.mark.guest, pytest.mark.timeout(600), pytest.mark.usefixtures("qemu")]

OWN = """
family = "mine"
[workload.fails]
command = "exit 3"
[workload.gone]
command = "echo b > /proc/sysrq-trigger; sleep 60"
"""


def profile(*workloads: str, boots: int = 3, storage: tuple[str, ...] = ("virtio-blk",)) -> Profile:
    return Profile(
        *("t", "t", workloads, (Mode.NOSEV,)),
        boots=boots,
        most_boots=boots,
        iterations=1,
        warmups=1,
        target=1e-9,
        memory_mib=(256,),
        disk_mib=64,
        storage=storage,
    )


def test_the_same_mode_measured_twice_in_real_guests_comes_out_equal(tmp_path: Path) -> None:
    prepared = campaign.prepare(Wish(profile("sha256", "disk-read"), hypervisor="qemu"))
    outcome = campaign.measure(prepared, tmp_path / "r")
    assert outcome.failures == []
    found = compare(outcome.samples)
    assert {c.series.workload for c in found} == {"sha256", "disk-read", "boot", "footprint"}
    # On a machine that is busy with other tests there is no verdict, and the reason is the load and nothing else.
    for control in found:
        if control.outcome is Ruling.REFUSED:
            assert control.reason.startswith("the host was busy")
            assert ";" not in control.reason
    assert {c.outcome for c in found} <= {Ruling.EQUAL, Ruling.INCONCLUSIVE, Ruling.REFUSED}
    loaded = store.load(tmp_path / "r")
    assert len(loaded.boots) == 6
    for boot in loaded.boots.values():
        assert boot.facts["guest kernel"]
        assert boot.facts["guest clock"] != "tsc-early"
        assert boot.facts["disk"] == "filled"
        assert boot.environment["command line"]
    phases = {s.metric.name for s in outcome.samples if s.workload == "boot"}
    assert phases == {"boot_time", "boot_vmm_firmware", "boot_kernel", "boot_init"}


@pytest.fixture
def busy_host() -> Iterator[None]:
    """Three endless loops per CPU, and a load average of the last minute that shows them."""
    cpus = os.cpu_count() or 1
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * cpus)]
    try:
        deadline = time.monotonic() + 180
        while os.getloadavg()[0] < 1 + 2 * load.BUSY * cpus:
            assert time.monotonic() < deadline, "the load average does not rise"
            time.sleep(1)
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.skipif(
    not os.environ.get("SEVKIT_TEST_LOAD"), reason="its busy loops disturb the tests beside it: set SEVKIT_TEST_LOAD=1"
)
@pytest.mark.usefixtures("busy_host")
def test_on_a_busy_host_the_same_mode_measured_twice_gets_no_verdict_and_the_load_is_told(tmp_path: Path) -> None:
    outcome = campaign.measure(campaign.prepare(Wish(profile("sha256", boots=1), hypervisor="qemu")), tmp_path / "r")
    assert outcome.failures == []
    for control in compare(outcome.samples):
        assert control.outcome is Ruling.REFUSED, control.series
        assert "the host was busy: others' load of" in control.reason
    assert all(load.of_boot(boot) > load.BUSY for boot in store.load(tmp_path / "r").boots.values())
    told = [finding.message for finding in lint(tmp_path / "r").findings if finding.rule == "busy-host"]
    assert len(told) == 1
    assert "in 2 of 2 boots" in told[0]


@pytest.mark.parametrize("kind", ["virtio-scsi", "nvme"])
def test_the_disk_is_found_on_every_controller(tmp_path: Path, kind: str) -> None:
    wanted = changed(profile("disk-read", "disk-write", boots=1, storage=(kind,)), control=False)
    outcome = campaign.measure(campaign.prepare(Wish(wanted, hypervisor="qemu")), tmp_path / "r")
    assert outcome.failures == []
    assert {s.storage for s in outcome.samples if s.workload.startswith("disk")} == {kind}


@pytest.mark.parametrize("kind", ["virtio-blk", "virtio-scsi", "nvme"])
def test_the_guest_reads_a_disk_full_of_random_data(tmp_path: Path, kind: str) -> None:
    (tmp_path / "own.toml").write_text(DISK)
    wanted = changed(profile("bytes", "not-zero", boots=1, storage=(kind,)), control=False)
    wish = Wish(wanted, hypervisor="qemu", suite_file=tmp_path / "own.toml")
    outcome = campaign.measure(campaign.prepare(wish), tmp_path / "r")
    assert outcome.failures == []
    read = {s.workload: s.value for s in outcome.samples if s.storage == kind}
    assert read["bytes"] == 64 << 20
    # One random byte of 256 is zero; a hole would be nothing but zeros.
    assert read["not-zero"] / read["bytes"] == pytest.approx(255 / 256, abs=1e-4)
    (boot,) = store.load(tmp_path / "r").boots.values()
    assert boot.facts["disk"] == "filled"


def test_a_guest_that_goes_away_costs_its_slot_only(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    wish = Wish(profile("gone", "fails", "sha256", boots=2), hypervisor="qemu", suite_file=tmp_path / "own.toml")
    outcome = campaign.measure(campaign.prepare(wish), tmp_path / "r")
    assert {f.workload for f in outcome.failures} >= {"gone"}
    assert all(f.message for f in outcome.failures)
    slots = store.load(tmp_path / "r").of_kind(SlotEnd)
    assert len(slots) == 4
    assert all(end.booted for end in slots)
