"""The launch digest that a guest of given firmware, kernel and vCPUs will have: equal to the hardware's. Pure.

The order of pages is QEMU's: firmware image, its metadata sections in their order, then the save areas of the vCPUs
(target/i386/sev.c). EC2 measures the CPUID page last, GCE leaves SEC_MEM unmeasured (sev-snp-measure).
"""

import hashlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from sevkit.errors import BadInputError, UsageError
from sevkit.model import ovmf as ovmf_format
from sevkit.model import vmsa
from sevkit.model.measure import PAGE, VMSA_GPA, PageType, SnpDigest
from sevkit.model.ovmf import Ovmf, Section, SectionType
from sevkit.vocabulary import Mode

VMMS = tuple(vmsa.RESET_STATES)
_HASHES = "9438d606-4f22-4cc9-b479-a793d411fd21"
_ENTRIES = {
    "cmdline": "97d02dd8-bd20-4c94-aa78-e7714d36ab2a",
    "initrd": "44baf731-3a2f-4bd7-9af1-41e29169781d",
    "kernel": "4de79437-abd2-427f-b835-d5b172d2045b",
}
_HEAD = struct.Struct("<16sH")


@dataclass(frozen=True)
class Kernel:
    """What QEMU boots directly, measured through a table of hashes (kernel-hashes=on)."""

    kernel: bytes
    initrd: bytes = b""
    cmdline: str = ""

    def table(self) -> bytes:
        """The hash table as QEMU writes it, padded to 16 bytes."""
        contents = {"cmdline": self.cmdline.encode() + b"\0", "initrd": self.initrd, "kernel": self.kernel}
        size = _HEAD.size + 32
        entries = b"".join(
            _HEAD.pack(uuid.UUID(guid).bytes_le, size) + hashlib.sha256(contents[name]).digest()
            for name, guid in _ENTRIES.items()
        )
        table = _HEAD.pack(uuid.UUID(_HASHES).bytes_le, _HEAD.size + len(entries)) + entries
        return table + bytes(-len(table) % 16)


@dataclass(frozen=True)
class LaunchInputs:
    """All that enters a launch digest. ``signature`` is CPUID 1 EAX, ``features`` SEV_FEATURES, ``vmm`` one of VMMS."""

    mode: Mode
    firmware: bytes
    vcpus: int = 1
    signature: int = 0
    features: int = 1
    kernel: Kernel | None = None
    vmm: str = "qemu"


def launch_digest(inputs: LaunchInputs) -> bytes:
    """The digest: 32 bytes (SEV, SEV-ES) or 48 (SEV-SNP). Raises UsageError or BadInputError for impossible inputs."""
    if inputs.mode is Mode.NOSEV:
        raise UsageError("a guest without SEV has no launch digest")
    if inputs.vmm not in VMMS:
        raise UsageError(f"unknown VMM {inputs.vmm!r}", hint=f"known: {', '.join(VMMS)}")
    firmware = ovmf_format.parse(inputs.firmware)
    if inputs.mode is Mode.SEV_SNP:
        return _snp(inputs, firmware)
    return _legacy(inputs, firmware)


def save_areas(inputs: LaunchInputs, firmware: Ovmf) -> Iterator[bytes]:
    """The save area of each vCPU before its first run: the boot processor's, then those of the others."""
    features = inputs.features if inputs.mode is Mode.SEV_SNP else 0
    for number in range(inputs.vcpus):
        eip = vmsa.BSP_EIP if number == 0 else _ap_entry(firmware)
        yield vmsa.reset_page(eip, features=features, signature=inputs.signature, vmm=inputs.vmm)


def _ap_entry(firmware: Ovmf) -> int:
    eip = firmware.pointer(ovmf_format.RESET_BLOCK)
    if eip is None:
        raise BadInputError("the firmware names no entry point for further vCPUs (SEV-ES reset block)")
    return eip


def _legacy(inputs: LaunchInputs, firmware: Ovmf) -> bytes:
    digest = hashlib.sha256(firmware.data)
    if inputs.kernel is not None:
        if not firmware.pointer(ovmf_format.HASH_TABLE):
            raise BadInputError("the firmware has no place for hashes of kernel, initrd and command line")
        digest.update(inputs.kernel.table())
    if inputs.mode is Mode.SEV_ES:
        for page in save_areas(inputs, firmware):
            digest.update(page)
    return digest.digest()


def _snp(inputs: LaunchInputs, firmware: Ovmf) -> bytes:
    digest = SnpDigest()
    digest.update_pages(PageType.NORMAL, firmware.gpa, firmware.data)
    if inputs.kernel is not None and all(s.kind is not SectionType.KERNEL_HASHES for s in firmware.sections):
        raise BadInputError("the firmware has no place for hashes of kernel, initrd and command line")
    sections = list(firmware.sections)
    if inputs.vmm == "ec2":
        sections.sort(key=lambda section: section.kind is SectionType.CPUID)
    for section in sections:
        _measure(digest, section, inputs, firmware)
    for page in save_areas(inputs, firmware):
        digest.update(PageType.VMSA, VMSA_GPA, page)
    return digest.value


def _measure(digest: SnpDigest, section: Section, inputs: LaunchInputs, firmware: Ovmf) -> None:
    if section.kind is SectionType.SECRETS:
        digest.update(PageType.SECRETS, section.gpa)
    elif section.kind is SectionType.CPUID:
        digest.update(PageType.CPUID, section.gpa)
    elif section.kind is SectionType.KERNEL_HASHES and inputs.kernel is not None:
        offset = (firmware.pointer(ovmf_format.HASH_TABLE) or 0) % PAGE
        page = (bytes(offset) + inputs.kernel.table()).ljust(PAGE, b"\0")
        digest.update_pages(PageType.NORMAL, section.gpa, page[:PAGE])
    elif section.kind is SectionType.SEC_MEM and inputs.vmm == "gce":
        digest.update_span(PageType.UNMEASURED, section.gpa, section.size)
    else:
        digest.update_span(PageType.ZERO, section.gpa, section.size)
