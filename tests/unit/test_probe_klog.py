"""Kernel logs: the wordings over kernel versions, the frames around them, and what must not be believed."""

from typing import Any

import pytest

from sevkit.errors import BadInputError
from sevkit.probe.klog import judge, message_of, read_log

ALL_UNKNOWN = {"sev": "unknown", "sev_es": "unknown", "sev_snp": "unknown"}


def verdict(*lines: str) -> dict[str, Any]:
    return judge(lines)


@pytest.mark.parametrize(
    ("line", "active", "role"),
    [
        # 4.14 to 5.9
        ("AMD Secure Memory Encryption (SME) active", ["sme"], "host"),
        ("AMD Secure Encrypted Virtualization (SEV) active", ["sev"], "guest"),
        # 5.10 to 5.18
        ("AMD Memory Encryption Features active: SME", ["sme"], "host"),
        ("AMD Memory Encryption Features active: SEV", ["sev"], "guest"),
        ("AMD Memory Encryption Features active: SEV SEV-ES", ["sev", "sev-es"], "guest"),
        ("AMD Memory Encryption Features active: SEV SEV-ES SEV-SNP", ["sev", "sev-es", "sev-snp"], "guest"),
        # 5.19 and later
        ("Memory Encryption Features active: AMD SME", ["sme"], "host"),
        ("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", ["sev", "sev-es", "sev-snp"], "guest"),
        ("Memory Encryption Features active: Intel TDX", [], "guest"),
        # 6.11 and later
        ("SEV: Status: SEV SEV-ES SEV-SNP DebugSwap", ["sev", "sev-es", "sev-snp"], "guest"),
        ("SEV: SNP running at VMPL0.", ["sev", "sev-es", "sev-snp"], "guest"),
        ("SEV: Using SNP CPUID table, 28 entries present.", ["sev", "sev-es", "sev-snp"], "guest"),
        ("Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2", ["sev-snp"], "guest"),
        ("Hyper-V: Isolation Config: Group A 0x1, Group B 0xba1", [], "unknown"),
        ("Booting paravirtualized kernel on bare hardware", [], "host"),
        ("Booting paravirtualized kernel on KVM", [], "guest"),
        ("Hypervisor detected: Microsoft Hyper-V", [], "guest"),
        ("DMI: Amazon EC2 m6a.metal/Not Specified, BIOS 1.0", [], "unknown"),
        ("DMI: Amazon EC2 m6a.large/, BIOS 1.0", [], "guest"),
    ],
)
def test_what_is_active_and_where(line: str, active: list[str], role: str) -> None:
    found = verdict(f"[    0.123456] {line}")
    assert (found["active"], found["role"]) == (active, role)


@pytest.mark.parametrize(
    ("line", "feature", "state"),
    [
        ("SVM: SEV supported", "sev", "usable"),
        ("SVM: SEV supported: 410 ASIDs", "sev", "usable"),
        ("kvm: SEV-ES supported: 99 ASIDs", "sev_es", "usable"),
        ("SEV supported: 410 ASIDs", "sev", "usable"),
        ("SEV supported: 0 ASIDs", "sev", "unusable"),
        ("SEV-ES supported: 4294967295 ASIDs", "sev_es", "unusable"),
        ("SEV-SNP supported: 99 ASIDs", "sev_snp", "usable"),
        ("kvm_amd: SEV enabled (ASIDs 100 - 509)", "sev", "usable"),
        ("SEV enabled (ASIDs 100 - 509)", "sev", "usable"),
        ("kvm_amd: SEV unusable (ASIDs 510 - 509)", "sev", "unusable"),
        ("kvm_amd: SEV enabled (ASIDs 510 - 509)", "sev", "unusable"),
        ("kvm_amd: SEV disabled (ASIDs 1 - 509)", "sev", "unusable"),
        ("kvm_amd: SEV-ES enabled (ASIDs 1 - 99)", "sev_es", "usable"),
        ("kvm_amd: SEV-ES disabled (ASIDs 0 - 0)", "sev_es", "unusable"),
        ("kvm_amd: SEV-ES enabled (ASIDs 0 - 4294967295)", "sev_es", "unusable"),
        ("kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)", "sev_snp", "usable"),
        ("kvm_amd: SEV-SNP disabled (ASIDs 1 - 99)", "sev_snp", "unusable"),
        ("ccp 0000:22:00.1: SEV: memory encryption not enabled by BIOS", "sev", "unusable"),
        ("ccp 0000:22:00.1: SEV: failed to INIT error 0x1, rc -5", "sev", "unusable"),
        ("ccp 0000:22:00.1: SEV: INIT failed 0x17, rc -5", "sev_es", "unusable"),
        ("ccp 0000:22:00.1: sev command 0x4 timed out, disabling PSP", "sev", "unusable"),
        ("ccp 0000:22:00.1: sev initialization failed", "sev", "unusable"),
        ("ccp 0000:22:00.1: psp: unable to access the device: you might be running a broken BIOS.", "sev", "unusable"),
        ("ccp 0000:22:00.1: SEV: TMR allocation failed, SEV-ES support unavailable", "sev_es", "unusable"),
        ("ccp 0000:22:00.1: SEV-SNP: failed to INIT rc -5, error 0x3", "sev_snp", "unusable"),
        ("ccp 0000:22:00.1: SEV-SNP: SNP_INIT_EX failed rc -5, error 0x3", "sev_snp", "unusable"),
        ("SEV-SNP: Memory for the RMP table has not been reserved by BIOS", "sev_snp", "unusable"),
        ("SEV-SNP: Memory reserved for the RMP table does not cover full system RAM", "sev_snp", "unusable"),
        ("AMD-Vi: SNP: IOMMU disabled or in passthrough mode, SNP cannot be supported.", "sev_snp", "unusable"),
        ("AMD-Vi: SNP: IOMMU is configured with V2 page table mode, SNP cannot be supported.", "sev_snp", "unusable"),
    ],
)  # fmt: skip
def test_what_the_host_can_do(line: str, feature: str, state: str) -> None:
    assert verdict(f"[    7.654321] {line}")["host"][feature] == state


@pytest.mark.parametrize(
    "line",
    [
        "ccp 0000:22:00.1: SEV-SNP API:1.55 build:37",
        "ccp 0000:22:00.1: SEV API:1.55 build:37",
        "ccp 0000:22:00.1: sev enabled",
        "SEV-SNP: RMP table physical range [0x0000000100000000 - 0x0000000140003fff]",
        "AMD-Vi: IOMMU SNP support enabled.",
        "Linux version 6.9.0-snp-host (root@sev-snp-host) SEV-SNP enabled (ASIDs 1 - 99)",
        "Command line: BOOT_IMAGE=/vmlinuz kvm_amd.sev=1 SEV enabled (ASIDs 1 - 99)",
        "systemd[1]: Hostname set to <SEV-SNP>.",
        'audit: type=1400 comm="kvm_amd: SEV enabled (ASIDs 1 - 9)"',
        "usb 1-1: Product: SEV enabled (ASIDs 1 - 9)",
        "SEV enabled (ASIDs 1 - 99) or so they say",
        "usb 1-1: Product: SEV: failed to INIT error 0x1",
        "systemd[1]: the unit says: AMD Secure Encrypted Virtualization (SEV) active",
        "SEV-SNP",
    ],
)
def test_what_proves_nothing(line: str) -> None:
    found = verdict(f"[    1.000000] {line}")
    assert found["host"] == ALL_UNKNOWN
    assert found["active"] == []


def test_kvm_does_not_outweigh_a_failed_init() -> None:
    lines = [
        "[    5.0] ccp 0000:22:00.1: SEV: failed to INIT error 0x17, rc -5",
        "[    6.0] kvm_amd: SEV enabled (ASIDs 100 - 509)",
        "[    6.0] kvm_amd: SEV-ES enabled (ASIDs 1 - 99)",
        "[    6.0] kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)",
    ]
    expected = {"sev": "unusable", "sev_es": "unusable", "sev_snp": "unknown"}
    assert verdict(*lines)["host"] == expected
    assert verdict(*reversed(lines))["host"] == expected


def test_in_a_guest_kvm_proves_nothing() -> None:
    lines = ["[    0.0] Hypervisor detected: KVM", "[    6.0] kvm_amd: SEV enabled (ASIDs 100 - 509)"]
    assert verdict(*lines)["host"] == ALL_UNKNOWN


def test_minimum_above_maximum_spares_es() -> None:
    lines = ["kvm_amd: SEV unusable (ASIDs 510 - 509)", "kvm_amd: SEV-ES enabled (ASIDs 1 - 509)"]
    assert verdict(*lines)["host"] == {"sev": "unusable", "sev_es": "usable", "sev_snp": "unknown"}


def test_only_the_last_boot_counts() -> None:
    found = verdict(
        "[    0.0] Linux version 6.1.0 (x)",
        "[    5.0] kvm_amd: SEV enabled (ASIDs 100 - 509)",
        "[    0.0] Linux version 6.2.0 (x)",
        "[    5.0] kvm_amd: SEV disabled (ASIDs 100 - 509)",
    )
    assert found["host"]["sev"] == "unusable"
    assert [item["line"] for item in found["evidence"]] == [4]
    assert found["complete"] is True


def test_a_list_cut_by_a_line_break() -> None:
    found = verdict("[    0.1] Memory Encryption Features active:", "[    0.1]  AMD SEV SEV-ES")
    assert found["active"] == ["sev", "sev-es"]


def test_evidence_quotes_and_explains() -> None:
    (item,) = verdict("", "[    1.0] kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)")["evidence"]
    assert item["line"] == 2
    assert item["text"] == "kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)"
    assert item["means"] == "KVM can run sev-snp guests with ASIDs 1 to 99"


MESSAGE = "kvm_amd: SEV enabled (ASIDs 100 - 509)"


@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "[    5.123456] {}",
        "[    5.123456][    T1] {}",
        "[    5.123456] [    T1] {}",
        "[Thu Nov 20 09:00:00 2025] {}",
        "[Nov20 09:00] {}",
        "[  +0.000123] {}",
        "[    5.123456 <    0.000001>] {}",
        "<6>[    5.123456] {}",
        "6,123,5123456,-;{}",
        "kern  :info  : [    5.123456] {}",
        "Nov 20 09:00:00 sev-snp-host kernel: {}",
        "Nov  2 09:00:00 host kernel: [    5.123456] {}",
        "2025-11-20T09:00:00+0000 host kernel: {}",
        "2025-11-20T09:00:00.123456+00:00 host kernel: {}",
        "2025-11-20 09:00:00.123 host kernel: {}",
        "[    5.123456] host kernel: {}",
        "{}\r",
    ],
)
def test_frames_of_dmesg_journalctl_and_syslog(frame: str) -> None:
    line = frame.format(MESSAGE)
    assert message_of(line) == MESSAGE
    assert verdict(line)["host"]["sev"] == "usable"


@pytest.mark.parametrize(
    "line",
    [
        f"Nov 20 09:00:00 host sudo[12]: {MESSAGE}",
        f"Nov 20 09:00:00 host evil: {MESSAGE}",
        f"30,123,5123456,-;{MESSAGE}",
        f"<30>[    5.0] {MESSAGE}",
        f"daemon:info  : [    5.0] {MESSAGE}",
    ],
)
def test_user_space_is_not_the_kernel(line: str) -> None:
    assert message_of(line) is None
    assert verdict(line)["host"] == ALL_UNKNOWN


@pytest.mark.parametrize("data", [b"", b"  \n ", b"[ 0.0] Linux\0\x01\x02"])
def test_no_log(data: bytes) -> None:
    with pytest.raises(BadInputError):
        read_log(data, "x.log")


def test_binary_data_names_the_line() -> None:
    with pytest.raises(BadInputError, match=r"x\.log, line 3"):
        read_log(b"a\nb\nc\0", "x.log")


@pytest.mark.parametrize(
    ("message", "sev", "snp"),
    [
        ("SEV-SNP: Firmware interface 9 is not supported", "usable", "unknown"),
        ("kvm_amd: Failed to read the SEV capabilities of slot 3", "unknown", "unknown"),
        ("SEV-SNP: a new message of success", "usable", "usable"),
        ("Command line: quiet SEV failed", "usable", "usable"),
    ],
)
def test_a_failure_that_the_table_does_not_know_leaves_nothing_usable(message: str, sev: str, snp: str) -> None:
    """Kernels to come have messages that are not in the table: their failures must not be passed over."""
    enabled = [f"kvm_amd: {name} enabled (ASIDs 1 - 99)" for name in ("SEV", "SEV-ES", "SEV-SNP")]
    for lines in ([message, *enabled], [*enabled, message]):
        host = judge([f"[    1.{number:06}] {line}" for number, line in enumerate(lines)])["host"]
        assert (host["sev"], host["sev_snp"]) == (sev, snp)
