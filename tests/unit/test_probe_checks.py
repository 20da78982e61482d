"""The readiness checks: each against a host on which it fails, and the traps where a set bit is not yet a feature."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevkit.probe.checks.frame import ADVICE, FAIL, PASS, SKIP, UNKNOWN
from sevkit.probe.checks.readiness import table
from sevkit.probe.collect.msr import NAMED
from sevkit.probe.report import report
from tests.unit import probe_samples as sample

Raw = dict[str, Any]
DOC = Path(__file__).parents[2] / "docs" / "probe.md"


def put(name: str, content: Any) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        raw["readings"][name] = sample.value(content)

    return change


def drop(name: str) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        raw["readings"][name] = sample.missing("absent", "no such file or directory")

    return change


def leaf(*registers: int) -> Callable[[Raw], None]:
    return lambda raw: sample.set_leaf(raw, *registers)


def clear(bit: int) -> Callable[[Raw], None]:
    return leaf(sample.GENOA[0] & ~(1 << bit), *sample.GENOA[1:])


def msr(name: str, *values: int) -> Callable[[Raw], None]:
    return lambda raw: sample.set_msr(raw, NAMED[name], *values)


def status(name: str, **changes: Any) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        raw["readings"][name]["value"].update(changes)

    return change


def log_with(*lines: str) -> Callable[[Raw], None]:
    return put("kernel.log", [*sample.LOG, *lines])


def both(first: Callable[[Raw], None], second: Callable[[Raw], None]) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        first(raw)
        second(raw)

    return change


def one_leaf_differs(raw: Raw) -> None:
    raw["cpuid"]["cpus"][1]["leaves"][sample.LEAF][0] &= ~0x10


def intel(raw: Raw) -> None:
    for row in raw["cpuid"]["cpus"]:
        row["leaves"] = sample.leaves(vendor=sample.INTEL)


def as_guest(raw: Raw) -> None:
    for row in raw["cpuid"]["cpus"]:
        row["leaves"] = sample.leaves(guest=True)


def ryzen(raw: Raw) -> None:
    raw["cpuid"]["cpus"][0]["leaves"]["0x80000002"] = sample.words(b"AMD Ryzen Thread")


SNP_FAILED = "ccp 0000:22:00.5: SEV-SNP: failed to INIT rc -5, error 0x3"
SEV_FAILED = "ccp 0000:22:00.5: SEV: failed to INIT error 0x17, rc -5"

# What makes each check fail, on the host where everything works.
BROKEN: dict[str, Callable[[Raw], None]] = {
    "cpu.vendor": intel,
    "cpu.leaf": leaf(0, 0, 0, 0),
    "cpu.leaf_equal": one_leaf_differs,
    "cpu.bare_metal": as_guest,
    "cpu.server_part": ryzen,
    "cpu.svm": msr("vm_cr", 0x10, 0x10),
    "cpu.sme": clear(0),
    "cpu.sev": clear(1),
    "cpu.sev_es": clear(3),
    "cpu.sev_snp": clear(4),
    "cpu.vmpl": clear(5),
    "cpu.num_vmpl": leaf(sample.GENOA[0], 0x173, 0x3EE, 0x64),
    "cpu.c_bit": leaf(sample.GENOA[0], 0x4140, 0x3EE, 0x64),
    "cpu.encrypted_guests": leaf(sample.GENOA[0], 0x4173, 0, 0),
    "cpu.asids_sev": leaf(sample.GENOA[0], 0x4173, 0x1FD, 0x1FE),
    "cpu.asids_es_snp": leaf(sample.GENOA[0], 0x4173, 0x1FD, 1),
    "cpu.page_flush": leaf(sample.GENOA[0] & ~(1 << 10), *sample.GENOA[1:]),
    "cpu.secure_tsc": put("kvm.vmsa_features", 0),
    "bios.smee": msr("syscfg", 3 << 24, 3 << 24),
    "bios.smm_lock": msr("hwcr", 1, 0),
    "bios.sme_active": both(put("kernel.log", sample.LOG[:-1]), put("kernel.cmdline", ["mem_encrypt=off"])),
    "bios.fused": put("ccp.fused_part", "0"),
    "bios.rmp_range": msr("rmp_base", 0, 0),
    "bios.rmp_size": put("memory.end", (1 << 40) - 1),
    "bios.snp_init_equal": lambda raw: sample.set_msr(raw, 0x250, 1, 2),
    "firmware.dev_sev_readable": drop("sev.device"),
    "firmware.sev_initialised": status("sev.platform_status", state="uninit"),
    "firmware.es_initialised": status("sev.platform_status", es=False),
    "firmware.version": status("sev.platform_status", api_minor=49),
    "firmware.syscfg_snp": msr("syscfg", 1 << 23, 1 << 23),
    "firmware.snp_initialised": status("sev.snp_platform_status", state="uninit"),
    "firmware.rmp_initialised": status("sev.snp_platform_status", rmp_initialized=False),
    "firmware.alias_check": status("sev.snp_platform_status", alias_check_complete=False),
    "firmware.tcb": status("sev.snp_platform_status", reported_tcb=1),
    "firmware.ciphertext_hiding": status("sev.snp_platform_status", ciphertext_hiding_enabled=False),
    "kernel.config_sev": put("kernel.config", {"KVM_AMD_SEV": "n"}),
    "kernel.config_snp": put("kernel.config", {"AMD_MEM_ENCRYPT": "n"}),
    "kernel.cmdline": put("kernel.cmdline", ["kvm-amd.sev=0"]),
    "kernel.cmdline_es_snp": put("kernel.cmdline", ["kvm_amd.sev-snp=off"]),
    "kernel.modprobe": put("modprobe.kvm_amd", ["options kvm_amd sev=0"]),
    "kernel.sev_flag": put("cpuinfo.flags", ["svm"]),
    "kernel.log_sev": log_with(SEV_FAILED),
    "kernel.log_sev_es": log_with("ccp 0000:22:00.5: SEV: TMR allocation failed, SEV-ES support unavailable"),
    "kernel.log_sev_snp": log_with(SNP_FAILED),
    "iommu.present": put("iommu.units", []),
    "iommu.snp": put("iommu.features", "0:ff"),
    "iommu.translation": put("kernel.cmdline", ["iommu=pt"]),
    "firmware.es_beside_snp": status("sev.snp_platform_status", current_tcb=0x541B000000000A04),
    "kvm.device": drop("kvm.api_version"),
    "kvm.amd_module": put("kernel.modules", ["kvm"]),
    "kvm.npt": put("kvm_amd.npt", "N"),
    "kvm.sev": put("kvm_amd.sev", "N"),
    "kvm.sev_es": put("kvm_amd.sev_es", "0"),
    "kvm.sev_snp": put("kvm_amd.sev_snp", "N"),
    "kvm.mmio_caching": put("kvm.enable_mmio_caching", "N"),
    "kvm.vm_type_sev": put("kvm.vm_types", 0b11011),
    "kvm.vm_type_sev_es": put("kvm.vm_types", 0b10111),
    "kvm.vm_type_snp": put("kvm.vm_types", 0b01111),
    "capacity.sev": put("cgroup.misc_capacity", "sev 3\nsev_es 99"),
    "capacity.sev_es": put("cgroup.misc_capacity", "sev 907\nsev_es 0"),
    "capacity.memlock": both(put("limits.memlock", {"soft": 65536, "hard": None}), put("user.root", False)),
    "qemu.sev_guest": put("qemu.objects", []),
    "qemu.sev_snp_guest": put("qemu.objects", ["sev-guest"]),
    "ovmf.sev": put("ovmf.descriptors", []),
    "ovmf.snp": drop("ovmf.descriptors"),
}  # fmt: skip
# These only inform, or cannot be told apart from "could not be read".
NEVER_FAILS = {"cpu.phys_addr_reduction", "bios.tsme", "firmware.dev_sev_writable"}


def results(raw: Raw) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in report(sample.facts(raw))["checks"]}


def verdicts(raw: Raw) -> dict[str, str]:
    return {mode: x["verdict"] for mode, x in report(sample.facts(raw))["readiness"].items()}


def test_a_host_on_which_everything_works() -> None:
    assert {row["status"] for row in results(sample.ready()).values()} == {PASS}
    assert set(verdicts(sample.ready()).values()) == {"ready"}


def test_every_check_has_a_fixture_a_hint_and_a_section() -> None:
    text = DOC.read_text()
    for check in table():
        assert check.id in BROKEN or check.id in NEVER_FAILS, f"{check.id}: no fixture"
        assert all((check.hint, check.reads, check.description)), f"{check.id}: incomplete"
        assert f"`{check.id}`" in text, f"{check.id}: not in docs/probe.md"
    assert set(BROKEN) | NEVER_FAILS == {check.id for check in table()}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_each_check_can_fail(name: str) -> None:
    raw = sample.ready()
    BROKEN[name](raw)
    found = results(raw)
    assert found[name]["status"] == FAIL, found[name]
    check = next(check for check in table() if check.id == name)
    after = verdicts(raw)
    for mode in check.modes:
        assert (after[mode] == "not_ready") == (check.weight != ADVICE), (mode, after)


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_children_of_a_failure_are_skipped_and_name_it(name: str) -> None:
    raw = sample.ready()
    BROKEN[name](raw)
    found = results(raw)
    for check in table():
        if name in check.depends_on:
            assert found[check.id]["status"] == SKIP
            assert " did not pass" in found[check.id]["message"]


def test_parents_stand_before_children() -> None:
    seen: set[str] = set()
    for check in table():
        assert set(check.depends_on) <= seen
        seen.add(check.id)


@pytest.mark.parametrize("reading", sorted(sample.ready()["readings"]))
def test_what_cannot_be_read_is_unknown_never_off(reading: str) -> None:
    """Without a reading no check may fail, but for devices and directories whose absence says it all."""
    for kind in ("denied", "failed", "not_recorded"):
        raw = sample.ready()
        raw["readings"][reading] = sample.missing(kind, "no")
        statuses = {row["status"] for row in results(raw).values()}
        assert FAIL not in statuses, (reading, kind)
    del raw["readings"][reading]
    assert FAIL not in {row["status"] for row in results(raw).values()}


@pytest.mark.parametrize("name", ["kvm_amd.sev", "kvm_amd.sev_es", "kvm_amd.sev_snp"])
def test_an_absent_parameter_is_unknown(name: str) -> None:
    raw = sample.ready()
    drop(name)(raw)
    assert results(raw)[name.replace("kvm_amd", "kvm")]["status"] == UNKNOWN
    assert verdicts(raw)["sev-snp"] == "unknown"


@pytest.mark.parametrize("text", ["Y", "y", "1", "on"])
def test_every_spelling_of_on(text: str) -> None:
    raw = sample.ready()
    put("kvm_amd.sev", text)(raw)
    assert results(raw)["kvm.sev"]["status"] == PASS


@pytest.mark.parametrize("text", ["", "2", "auto", "-1"])
def test_a_parameter_that_is_neither_is_unknown(text: str) -> None:
    raw = sample.ready()
    put("kvm_amd.sev", text)(raw)
    assert results(raw)["kvm.sev"]["status"] == UNKNOWN


def test_sev_bit_with_room_for_no_guest() -> None:
    raw = sample.ready()
    sample.set_leaf(raw, 0x0001000F, 0x16F, 0, 0)
    assert set(verdicts(raw).values()) - {"ready"} == {"not_ready"}
    assert verdicts(raw)["sev"] == "not_ready"


@pytest.mark.parametrize("minimum", [0, 1])
def test_minimum_asid_0_or_1_leaves_nothing_for_es_and_snp(minimum: int) -> None:
    raw = sample.ready()
    sample.set_leaf(raw, sample.GENOA[0], 0x4173, 0x1FD, minimum)
    assert verdicts(raw) == {"sme": "ready", "sev": "ready", "sev-es": "not_ready", "sev-snp": "not_ready"}


def test_minimum_above_maximum_leaves_nothing_for_plain_sev() -> None:
    raw = sample.ready()
    sample.set_leaf(raw, sample.GENOA[0], 0x4173, 0x1FD, 0x1FE)
    assert verdicts(raw) == {"sme": "ready", "sev": "not_ready", "sev-es": "ready", "sev-snp": "ready"}


def test_cpus_that_differ() -> None:
    raw = sample.ready()
    one_leaf_differs(raw)
    data = report(sample.facts(raw))
    assert data["leaf"]["differences"] == [
        {"field": "sev_snp", "values": [{"value": True, "cpus": [0]}, {"value": False, "cpus": [1]}]}
    ]
    assert results(raw)["cpu.leaf_equal"]["status"] == FAIL
    assert "cpu.leaf_equal" in data["readiness"]["sev-snp"]["blocking"]


def test_a_leaf_that_leaked_into_a_plain_guest_supports_nothing() -> None:
    raw = sample.guest(["Linux version 6.1.0", "Hypervisor detected: KVM", "kvm_amd: SEV enabled (ASIDs 100 - 509)"])
    data = report(sample.facts(raw))
    assert data["leaf"]["fields"]["sev_snp"] is True
    assert data["guest"]["active"] == {"sev": False, "sev-es": False, "sev-snp": False}
    assert verdicts(raw)["sev"] == "not_ready"
    assert "cpu.bare_metal" in data["readiness"]["sev-snp"]["blocking"]


def test_kvm_says_enabled_although_the_firmware_failed() -> None:
    raw = sample.ready()
    put("kernel.log", [*sample.LOG, SEV_FAILED])(raw)
    drop("sev.platform_status")(raw)
    assert results(raw)["kvm.sev"]["status"] == PASS
    assert verdicts(raw)["sev"] == "not_ready"


def test_snp_api_and_rmp_lines_prove_nothing() -> None:
    raw = sample.ready()
    put("kernel.log", [line for line in sample.LOG if not line.startswith("kvm_amd")])(raw)
    assert results(raw)["kernel.log_sev_snp"]["status"] == UNKNOWN


def test_names_that_contain_snp_prove_nothing() -> None:
    raw = sample.ready()
    sample.set_leaf(raw, *(sample.GENOA[0] & ~0x10, *sample.GENOA[1:]))
    raw["source"]["host"] = "snp-host-01"
    put("kernel.release", "6.9.0-rc7-snp-host-05b10142ac6a")(raw)
    put("kernel.log", ["Linux version 6.9.0-snp-host (root@sev-snp) SEV-SNP enabled (ASIDs 1 - 99)"])(raw)
    assert verdicts(raw)["sev-snp"] == "not_ready"
    assert results(raw)["kernel.log_sev_snp"]["status"] == SKIP


def test_hygon_is_a_vendor_of_sev() -> None:
    raw = sample.ready()
    for row in raw["cpuid"]["cpus"]:
        row["leaves"] = sample.leaves(vendor=sample.HYGON)
    assert results(raw)["cpu.vendor"]["status"] == PASS
    assert report(sample.facts(raw))["cpu"]["vendor"] == "HygonGenuine"


def test_a_dump_alone_decides_nothing_about_the_host() -> None:
    raw = sample.ready()
    raw["readings"] = {}
    raw["source"]["kind"] = "cpuid-r"
    raw["cpuid"]["method"] = "dump"
    assert set(verdicts(raw).values()) == {"unknown"}
    assert results(raw)["bios.smee"]["message"].endswith("not part of a CPUID dump")


@pytest.mark.parametrize(
    ("family", "model", "current_tcb", "verdict"),
    [
        (0x19, 0x01, 0xDE1B000000000004, "fail"),  # Milan
        (0x19, 0x01, 0xDE1A000000000004, "pass"),
        (0x19, 0xA0, 0x1B1B00000000000A, "fail"),  # Bergamo
        (0x1A, 0x02, 0x5100000004010101, "fail"),  # Turin: the SPL lies elsewhere
        (0x1A, 0x02, 0x511B000003010101, "pass"),
        (0x1A, 0x50, 0x5100000004010101, "unknown"),  # Venice
    ],
)
def test_sev_es_is_not_ready_where_the_firmware_refuses_it_beside_snp(
    family: int, model: int, current_tcb: int, verdict: str
) -> None:
    """CVE-2025-48514: KVM may go on announcing the VM type."""
    raw = sample.ready()
    raw["readings"]["sev.snp_platform_status"]["value"] = {**sample.SNP_STATUS, "current_tcb": current_tcb}
    signature = 0xF00 | (family - 0xF) << 20 | (model >> 4) << 16 | (model & 0xF) << 4
    for cpu in raw["cpuid"]["cpus"]:
        cpu["leaves"]["0x00000001"][0] = signature
    facts = sample.facts(raw)
    assert (facts.identity.family, facts.identity.model) == (family, model)
    rows = {row["id"]: row for row in report(facts)["checks"]}
    assert rows["firmware.es_beside_snp"]["status"] == verdict
    blocked = "firmware.es_beside_snp" in report(facts)["readiness"]["sev-es"]["blocking"]
    assert blocked is (verdict == "fail")


def test_snp_off_leaves_sev_es_alone() -> None:
    raw = sample.ready()
    status = {**sample.SNP_STATUS, "current_tcb": 0x541B000000000A04, "state": "uninit"}
    raw["readings"]["sev.snp_platform_status"]["value"] = status
    assert results(raw)["firmware.es_beside_snp"]["status"] == "pass"


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (
            {"KVM": "y", "KVM_AMD": "n", "KVM_AMD_SEV": "absent"},
            FAIL,
        ),  # Kconfig omits what depends on an option that is off
        ({"KVM": "n", "KVM_AMD": "absent", "KVM_AMD_SEV": "absent"}, FAIL),
        ({"CRYPTO_DEV_CCP_DD": "n", "CRYPTO_DEV_SP_PSP": "absent", "KVM_AMD_SEV": "y"}, FAIL),
        ({"KVM": "y", "KVM_AMD": "m", "KVM_AMD_SEV": "absent"}, UNKNOWN),  # a later kernel may have renamed it
        ({}, UNKNOWN),
    ],
)
def test_an_option_that_the_configuration_omits_is_off_if_what_it_needs_is_off(
    config: dict[str, str], status: str
) -> None:
    raw = sample.ready()
    put("kernel.config", config)(raw)
    assert results(raw)["kernel.config_sev"]["status"] == status


@pytest.mark.parametrize(
    ("cpu", "leaf_name", "register", "forged"),
    [
        (0, "0x80000000", 0, 0),  # announces no extended leaf at all
        (1, "0x00000000", 1, 0x756E6547),  # the second CPU is another maker's
        (1, "0x00000001", 2, 1 << 31),  # the second CPU runs under a hypervisor
    ],
)
def test_cpuid_that_contradicts_itself_is_never_ready(cpu: int, leaf_name: str, register: int, forged: int) -> None:
    raw = sample.ready()
    assert report(sample.facts(raw))["readiness"]["sev-snp"]["verdict"] == "ready"
    raw["cpuid"]["cpus"][cpu]["leaves"][leaf_name][register] = forged
    assert report(sample.facts(raw))["readiness"]["sev-snp"]["verdict"] == "unknown"
