"""Counters of hypervisors: names, differences, KVM's files, and their table; the memory of a guest's process."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sevkit.bench.analysis.exits import exits
from sevkit.bench.campaign import block, counters, directory, guests
from sevkit.bench.campaign.mock import MockExecutor, MockPlace
from sevkit.bench.campaign.place import Launch
from sevkit.bench.imports.parse import Measured
from sevkit.bench.model import Boot, Sample
from sevkit.bench.suite import Profile
from sevkit.errors import GuestError
from sevkit.guest.spec import GuestSpec
from sevkit.vocabulary import Mode, Provenance


def test_event_codes_have_the_names_of_the_manual() -> None:
    assert counters.named("event-72") == "CPUID"
    assert counters.named("event-80000010") == "page state change"
    assert counters.named("event-123") == "exit 123"
    assert counters.named("pvalidate") == "pvalidate"


def test_only_what_grew_was_counted() -> None:
    assert counters.between({"a": 1, "b": 5}, {"a": 4, "b": 5, "c": 2}) == {"a": 3, "c": 2}
    assert counters.between({"a": 9}, {"a": 1}) == {}  # a counter that began anew


def test_kvms_counters_of_one_process_are_summed(tmp_path: Path) -> None:
    for machine, exits_ in (("77-12", 100), ("77-15", 20), ("770-1", 999)):
        (tmp_path / machine / "vcpu0").mkdir(parents=True)
        (tmp_path / machine / "exits").write_text(f"{exits_}\n")
        (tmp_path / machine / "name").write_text("not a number")
    assert counters.of_kvm(77, tmp_path) == {"exits": 120}
    assert counters.of_kvm(1, tmp_path) == {}


def guest(mode: Mode, provenance: Provenance, pid: int = 5) -> Any:
    return SimpleNamespace(spec=GuestSpec(mode=mode), provenance=provenance, pid=pid, accel="tcg")


def test_memory_that_no_process_has_is_not_called_small(tmp_path: Path) -> None:
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "smaps_rollup").write_text("0-1 ---p [rollup]\nRss: 9 kB\nPss:     2048 kB\nPss_Dirty: 1 kB\n")
    assert counters.footprint(guest(Mode.SEV, Provenance.HARDWARE), tmp_path) == 2048 * 1024
    assert counters.footprint(guest(Mode.SEV_SNP, Provenance.HARDWARE), tmp_path) is None
    assert counters.footprint(guest(Mode.SEV, Provenance.HARDWARE, pid=6), tmp_path) is None


def test_what_was_counted_and_the_memory_reach_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(MockPlace):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.launch = Launch(1.0, {"kernel": 0.5}, 3e8)
            self.boot = replace(self.boot, environment={"command counted": {"MSR": 2.0}})

        def measure(self, workload: Any, slot: Any, iteration: int) -> list[Measured]:
            return [replace(one, counted={"MSR": 10 + iteration}) for one in super().measure(workload, slot, iteration)]

    def opened(self: MockExecutor, slot: Any, identity: Any, *, steady: bool) -> Counting:
        del self, steady
        return Counting(slot, identity, 1, 0.0)

    monkeypatch.setattr(MockExecutor, "open", opened)
    profile = Profile("t", "t", ("sha256",), modes=(Mode.NOSEV, Mode.SEV), boots=3, most_boots=3, iterations=2)
    samples = directory.measure(directory.prepare(directory.Wish(profile, where="mock")), tmp_path / "r").samples
    rows = exits(samples)
    assert [row["arm"] for row in rows] == ["nosev", "nosev#again", "sev"]
    assert rows[0]["counts"] == {"MSR": {"mean": 10.5, "least": 10, "most": 11, "command": 2.0}}
    memory = [s for s in samples if s.workload == "footprint"]
    assert {s.value for s in memory} == {3e8}
    assert memory[0].metric == block.FOOTPRINT


@pytest.mark.parametrize("value", [None, 3, {"MSR": "many"}, {"MSR": -1}, []])
def test_counters_that_are_none_are_left_out(value: Any) -> None:
    at = Boot("c0.b0.sev.a0", Provenance.EMULATED)
    sample = Sample("w", "", block.BOOT_TIME, Mode.SEV, 1.0, boot=0, at=at, extra={"counted": value})
    assert all(row["counts"] == {} for row in exits([sample]))


class Slow:
    """A hypervisor whose guests come up only after a long time, as a process with the guest's name."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.children: list[subprocess.Popen[bytes]] = []

    def launch(self, spec: GuestSpec, *, timeout: float) -> Any:
        del timeout
        if spec.name == self.failing:
            raise GuestError("no memory")
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", f"sevkit-{spec.name}"])
        self.children.append(child)
        child.wait()
        raise GuestError("the guest ended")


def test_no_guest_is_left_behind_when_another_one_fails() -> None:
    name = f"t{os.getpid()}"
    slow = Slow(failing=f"{name}-0")
    specs = [GuestSpec(name=f"{name}-{i}") for i in range(3)]
    with ThreadPoolExecutor(3) as pool, pytest.raises(GuestError):
        guests.launched(cast(Any, slow), pool, specs)
    assert all(child.poll() is not None for child in slow.children)
