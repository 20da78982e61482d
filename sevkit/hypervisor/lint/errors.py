"""Error messages of QEMU and libvirt for a failed launch, and their meaning. Pure.

The texts are those of QEMU's target/i386/sev.c and accel/kvm, and of libvirt's qemu driver; the codes are the
firmware's: SEV API 55766, 5.1.1 and SEV-SNP ABI 56860, table "Status codes".
"""

import re
from typing import NamedTuple

FIRMWARE_CODES = {
    0x01: ("INVALID_PLATFORM_STATE", "the firmware is not initialised (or already is): look at the kernel log"),
    0x02: ("INVALID_GUEST_STATE", "the guest is in another state of its launch"),
    0x03: ("INVALID_CONFIG", "the platform's configuration is not valid: BIOS settings, registers that differ between CPUs"),
    0x04: ("INVALID_LENGTH", "a length that the firmware does not take"),
    0x07: ("POLICY_FAILURE", "the firmware refuses the policy, or the policy forbids the command"),
    0x08: ("INACTIVE", "the guest has no active ASID"),
    0x09: ("INVALID_ADDRESS", "an address that the firmware does not take"),
    0x0A: ("BAD_SIGNATURE", "a signature does not fit: the ID block, or a certificate"),
    0x0B: ("BAD_MEASUREMENT", "the launch digest is not the expected one: another firmware, kernel or number of vCPUs"),
    0x0C: ("ASID_OWNED", "the ASID belongs to another guest"),
    0x0D: ("INVALID_ASID", "no ASID of this kind: BIOS, SEV-ES ASID Space Limit"),
    0x0E: ("WBINVD_REQUIRED", "caches must be flushed first: a defect of the kernel"),
    0x0F: ("DF_FLUSH_REQUIRED", "the data fabric must be flushed first: a defect of the kernel"),
    0x10: ("INVALID_GUEST", "no such guest, or its context page is none"),
    0x11: ("INVALID_COMMAND", "the firmware does not know the command: it is too old"),
    0x13: ("HWERROR_PLATFORM", "the hardware failed"),
    0x15: ("UNSUPPORTED", "this platform does not do it"),
    0x16: ("INVALID_PARAM", "a parameter that the firmware refuses; with SNP often the CPUID page: another -cpu model"),
    0x17: ("RESOURCE_LIMIT", "no more resources: ASIDs, or memory of the firmware"),
    0x18: ("SECURE_DATA_INVALID", "the firmware's stored data is damaged: part-specific integrity check"),
    0x19: ("INVALID_PAGE_SIZE", "the size of a page does not fit its entry in the reverse map table"),
    0x1A: ("INVALID_PAGE_STATE", "a page is in another state"),
    0x1C: ("INVALID_PAGE_OWNER", "a page belongs to another guest"),
    0x20: ("RMP_INIT_REQUIRED", "the reverse map table is not initialised: SNP_INIT failed"),
    0x21: ("BAD_SVN", "the firmware's security version is below the one in use"),
    0x27: ("INVALID_KEY", "a key that is not valid"),
}  # fmt: skip


class Cause(NamedTuple):
    """What a line means and what to do; ``line`` counts from 1."""

    line: int
    text: str
    means: str
    fix: str


_CODE = re.compile(r"fw_error=(0x[0-9a-fA-F]+|\d+)|fw_ret=(0x[0-9a-fA-F]+|\d+)|fw_error:? \(?(0x[0-9a-fA-F]+)\)?")
_SIGNS: tuple[tuple[str, str, str], ...] = (
    (r"KVM_SET_USER_MEMORY_REGION2? failed|pflash.* not supported.*SNP", "KVM refuses a memory region: flash memory with SEV-SNP", "-bios OVMF.amdsev.fd instead of pflash"),
    (r"failed to create encryption context|sev_kvm_init: failed", "KVM did not set the guest up for SEV; the line before says why", "look at fw_error there, and at `sevkit probe`"),
    (r"SEV is not enabled in KVM", "kvm_amd runs without SEV", "modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1 sev_snp=1"),
    (r"Failed to open /dev/sev.*No such file|/dev/sev.*No such file", "the driver of the secure processor is not loaded, or this is a guest", "modprobe ccp; BIOS: SMEE"),
    (r"Failed to open /dev/sev.*Permission denied|/dev/sev.*Permission denied", "this user may not open /dev/sev", "group and mode of /dev/sev; libvirt: qemu.conf cgroup_device_acl"),
    (r"cbitpos check failed|C-bit.* not match|cbitpos .* requested", "cbitpos is not this CPU's", "sevkit probe says c_bit_position"),
    (r"reduced.phys.bits", "reduced-phys-bits is out of range", "reduced-phys-bits=1"),
    (r"SEV-ES.* (?:kernel_irqchip|in-kernel)|in-kernel irqchip", "SEV-ES needs KVM's interrupt controller", "leave kernel_irqchip at its default"),
    (r"System Management Mode not supported", "SEV-ES and SEV-SNP guests have no system management mode", "-machine …,smm=off"),
    (r"Cannot allocate memory.*(?:SEV|sev|lock)|sev_ram_block_added: failed to register", "the guest's memory may not be locked", "memlock: ulimit -l unlimited; libvirt: <memtune><hard_limit>"),
    (r"guest policy requires API version|SEV policy .* not supported", "the policy asks for a newer firmware", "update the firmware, or take the version out of the policy"),
    (r"kernel.hashes.*(?:not support|no hashes|OVMF)|kernel specified but guest firmware has no hashes table", "this firmware has no table for kernel-hashes", "an OVMF built as OVMF.amdsev.fd"),
    (r"does not support launchSecurity|SEV launch security is not supported|launch security is not supported", "libvirt finds no SEV in this QEMU or on this host", "virsh domcapabilities; delete /var/cache/libvirt/qemu/capabilities"),
    (r"(?:invalid object type|'sev-snp-guest' is not a valid|Parameter 'qom-type' does not accept value 'sev)", "this QEMU has no such object", "QEMU 9.1 or later for SNP, built with SEV"),
    (r"KVM_MEMORY_ENCRYPT_OP|KVM_SEV_SNP_LAUNCH_(?:START|UPDATE|FINISH)|SNP_LAUNCH_(?:START|UPDATE|FINISH)|sev_launch_\w+|LAUNCH_\w+ ret=", "a command of the launch failed", "the firmware's code says why"),
)  # fmt: skip


def explain(text: str) -> list[Cause]:
    """The lines of a text that are known error messages of QEMU or libvirt for a failed launch."""
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        cause = _cause(line)
        if cause:
            found.append(Cause(number, line.strip()[:300], *cause))
    return found


def _cause(line: str) -> tuple[str, str] | None:
    sign = next(((means, fix) for pattern, means, fix in _SIGNS if re.search(pattern, line)), None)
    code = _CODE.search(line)
    digits = next((group for group in code.groups() if group), "0") if code else "0"
    value = int(digits, 16 if digits.startswith("0x") else 10)
    if value in FIRMWARE_CODES:
        name, words = FIRMWARE_CODES[value]
        return f"firmware error {value:#x}, {name}: {words}", sign[
            1
        ] if sign else "`sevkit probe` says what is not ready on this host"
    return sign
