"""Inside a guest: what is active, and on what evidence."""

import pytest

from sevkit.probe.checks.frame import Case
from sevkit.probe.klog import judge
from sevkit.probe.report import report
from tests.unit import probe_samples as sample

START = ["Linux version 6.12.1", "Hypervisor detected: KVM"]
SNP_LOG = [*START, "Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP"]


@pytest.mark.parametrize(
    ("value", "active"),
    [
        (0, []),
        (1, ["sev"]),
        (3, ["sev", "sev-es"]),
        (7, ["sev", "sev-es", "sev-snp"]),
        (0x10F, ["sev", "sev-es", "sev-snp"]),
    ],
)
def test_the_msr_decides(value: int, active: list[str]) -> None:
    data = report(sample.facts(sample.guest(SNP_LOG, sev_status=value)))["guest"]
    assert [mode for mode, state in data["active"].items() if state] == active
    assert data["evidence"][0]["from"] == "msr"
    assert data["in_guest"] is True
    assert data["hypervisor"] == "KVM"


def test_without_the_msr_the_log_decides() -> None:
    data = report(sample.facts(sample.guest(SNP_LOG)))["guest"]
    assert all(data["active"].values())
    assert [item["from"] for item in data["evidence"]] == ["msr", "log"]


def test_a_leaked_leaf_alone_decides_nothing() -> None:
    data = report(sample.facts(sample.guest(["Hypervisor detected: KVM"])))["guest"]
    assert set(data["active"].values()) == {None}


def test_a_leaf_without_the_bit_decides() -> None:
    data = report(sample.facts(sample.guest(["Hypervisor detected: KVM"], leaf=[0, 0, 0, 0])))["guest"]
    assert set(data["active"].values()) == {False}


def test_a_whole_log_that_is_silent_decides() -> None:
    data = report(sample.facts(sample.guest(START)))["guest"]
    assert set(data["active"].values()) == {False}


def test_hyper_v_tells_the_isolation_type() -> None:
    raw = sample.guest(START, leaf=[0, 0, 0, 0])
    for row in raw["cpuid"]["cpus"]:
        row["leaves"]["0x40000000"] = [0x4000000C, 0x7263694D, 0x666F736F, 0x76482074]
        row["leaves"]["0x4000000c"] = [1, 0xBA2, 0, 0]
    data = report(sample.facts(raw))["guest"]
    assert data["hypervisor"] == "Hyper-V"
    assert all(data["active"].values())


def test_a_host_is_no_guest() -> None:
    data = report(sample.facts(sample.ready()))["guest"]
    assert data["in_guest"] is False
    assert set(data["active"].values()) == {None}


def test_without_leaf_1_the_log_says_where_we_are() -> None:
    raw = sample.ready()
    raw["cpuid"]["cpus"] = []
    facts = sample.facts(raw)
    assert Case(facts, judge(["Hypervisor detected: KVM"])).guest["in_guest"] is True
    assert Case(facts, judge(["Booting paravirtualized kernel on bare hardware"])).guest["in_guest"] is False
    assert Case(facts, judge([])).guest["in_guest"] is None
