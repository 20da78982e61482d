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


# What KVM returned: with fw_error=0 the firmware was not asked, and this is the reason.
KERNEL_CODES = {
    5: ("EIO", "the firmware failed", "look at the kernel log for ccp"),
    12: ("ENOMEM", "no memory, or no more of it may be locked", "memlock: ulimit -l unlimited; libvirt: <memtune><hard_limit>"),
    16: ("EBUSY", "no ASID of this kind is free, or the command comes too late", "end other guests; BIOS: SEV-ES ASID Space Limit"),
    19: ("ENODEV", "the kernel has no SEV", "look at `sevkit probe`"),
    22: ("EINVAL", "KVM does not take the arguments: QEMU and kernel do not fit together, SNP with pflash, or a policy it refuses", "QEMU 9.1 and Linux 6.11 or later for SNP; -bios instead of pflash"),
    25: ("ENOTTY", "KVM does not know the command: SEV or SNP is off in kvm_amd, or the kernel is not the one this QEMU is for", "modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1 sev_snp=1; QEMU and kernel of one age"),
    95: ("EOPNOTSUPP", "KVM does not support it on this host", "look at `sevkit probe`"),
    110: ("ETIMEDOUT", "the secure processor did not answer", "switch the machine off and on again"),
}  # fmt: skip
_CODE = re.compile(r"fw_(?:error|err|ret)(?:=|:? )[('\"]*(0x[0-9a-fA-F]{1,8}|\d{1,10})", re.IGNORECASE)
_RETURNED = re.compile(r"\bret(?:=|:? )-(\d{1,4})")
_BY_CODE = "the firmware's code says why"
_SIGNS: tuple[tuple[str, str, str], ...] = (
    (r"KVM_SET_USER_MEMORY_REGION2? failed|pflash.* not supported.*SNP", "KVM refuses a memory region: flash memory with SEV-SNP", "-bios OVMF.amdsev.fd instead of pflash"),
    (r"failed to create encryption context|sev_kvm_init: failed", "KVM did not set the guest up for SEV; the line before says why", "look at fw_error there, and at `sevkit probe`"),
    (r"SEV is not enabled in KVM|SEV not enabled for guest", "kvm_amd runs without SEV", "modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1 sev_snp=1"),
    (r"(?i)/dev/sev.*No such file", "the driver of the secure processor is not loaded, or this is a guest", "modprobe ccp; BIOS: SMEE"),
    (r"(?i)/dev/sev.*Permission denied", "this user may not open /dev/sev", "group and mode of /dev/sev; libvirt: qemu.conf cgroup_device_acl"),
    (r"cbitpos check failed|C-bit.* not match|cbitpos .* requested", "cbitpos is not this CPU's", "sevkit probe says c_bit_position"),
    (r"reduced.phys.bits.{0,20}(?:check failed|should be|must be|out of range)", "reduced-phys-bits is out of range", "reduced-phys-bits=1"),
    (r"SEV-ES.* (?:kernel_irqchip|in-kernel)|in-kernel irqchip", "SEV-ES needs KVM's interrupt controller", "leave kernel_irqchip at its default"),
    (r"System Management Mode not supported|does not support SMM", "SEV-ES and SEV-SNP guests have no system management mode", "-machine …,smm=off"),
    (r"Cannot allocate memory.*(?:SEV|sev|lock)|sev_ram_block_added: failed to register", "the guest's memory may not be locked", "memlock: ulimit -l unlimited; libvirt: <memtune><hard_limit>"),
    (r"guest policy requires API version|SEV policy .* not supported", "the policy asks for a newer firmware", "update the firmware, or take the version out of the policy"),
    (r"kernel.hashes.*(?:not support|no hashes|OVMF)|kernel specified but guest firmware has no hashes table|firmware hashes table area is invalid", "this firmware has no table for kernel-hashes", "an OVMF built as OVMF.amdsev.fd"),
    (r"does not support launchSecurity|launch security is not supported|SEV(?:-ES|-SNP)? is not supported on this host", "libvirt finds no SEV in this QEMU or on this host", "virsh domcapabilities; delete /var/cache/libvirt/qemu/capabilities"),
    (r"(?:invalid object type|'sev-snp-guest' is not a valid|Parameter 'qom-type' does not accept value 'sev)", "this QEMU has no such object", "QEMU 9.1 or later for SNP, built with SEV"),
    (r"CPUID validation failed|unable to query CPUID values|failed to.{0,20} CPUID page", "the firmware refuses the CPUID page: -cpu promises what this CPU has not", "-cpu EPYC-v4, or the model of this CPU"),
    (r"host SEV-ES support unavailable|SEV-ES guests require|SEV-ES support unavailable", "the policy asks for SEV-ES, which this host does not have", "BIOS: SEV-ES ASID Space Limit; modprobe kvm_amd sev_es=1"),
    (r"VMSA features .* not supported|debug.swap .*not supported", "this kernel or CPU lacks a feature that the guest is to have", "leave debug-swap out; sevkit probe says kvm.vmsa_features"),
    (r"SEV: Failed to read '|SEV: Failed to decode", "the session or certificate file is missing or damaged", "sevctl session; session-file=…,dh-cert-file=…"),
    (r"pflash rom|Failed to locate SEV metadata|reset address is zero|SEV information block", "the firmware image lacks the tables for SEV-ES and SEV-SNP guests", "an OVMF built with SEV-ES, such as Debian's OVMF or OVMF.amdsev.fd"),
    (r"memory-backend-memfd-private|Property '[\w.-]*(?:sev|snp|lsec|igvm)[\w.-]*' not found|Property 'sev[\w-]*\.[\w-]+' not found", "the command line is for another version of QEMU, such as AMD's before SNP was merged", "QEMU 9.1 or later, with its own options"),
    (r"Invalid platform header count in IGVM|IGVM file", "the IGVM file does not go with this QEMU", "an IGVM file made for it, and QEMU 10.1 or later"),
    (r"host kernel does not support (?:the )?requested|KVM does not support|KVM_CREATE_VM.*(?:SEV|SNP)|vm-type .* not supported by KVM", "this kernel's KVM does not run guests of this kind", "Linux 6.11 or later for SNP; -object sev-guest,…,legacy-vm-type=auto on older kernels"),
    (r"cannot disable RAM discard", "memory that something gives back cannot be encrypted", "leave out virtio-balloon, virtio-mem and VFIO with discard"),
    (r"Migration is not implemented", "encrypted guests cannot be migrated or saved by this QEMU", "stop the guest, and start it elsewhere"),
    (r"failed to get platform status", "the firmware does not answer", "look at the kernel log for ccp, and at `sevkit probe`"),
    (r"KVM_MEMORY_ENCRYPT_OP|KVM_SEV_SNP_LAUNCH_(?:START|UPDATE|FINISH)|SNP_LAUNCH_(?:START|UPDATE|FINISH)|sev_launch_\w+|LAUNCH_\w+ ret=", "a command of the launch failed", _BY_CODE),
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
    found = _CODE.search(line)
    if not found:
        return sign
    value = int(found[1], 0) if found[1].startswith("0x") else int(found[1])
    if value in FIRMWARE_CODES:
        name, words = FIRMWARE_CODES[value]
        fix = sign[1] if sign and sign[1] != _BY_CODE else "`sevkit probe` says what is not ready on this host"
        return f"firmware error {value:#x}, {name}: {words}", fix
    return _by_kernel(line, value) or sign


def _by_kernel(line: str, firmware: int) -> tuple[str, str] | None:
    """The reason if the firmware said nothing."""
    returned = _RETURNED.search(line)
    if firmware or not returned or int(returned[1]) not in KERNEL_CODES:
        return None
    name, words, fix = KERNEL_CODES[int(returned[1])]
    return f"the firmware reports no error; the kernel returned {name}: {words}", fix
