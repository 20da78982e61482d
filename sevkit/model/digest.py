"""Compute the launch digest of a guest with a given firmware, kernel and vCPUs, as the hardware would. Pure.

The order of pages is QEMU's: firmware image, its metadata sections in their order, then the save areas of the vCPUs
(target/i386/sev.c). EC2 measures the CPUID page last, GCE leaves SEC_MEM unmeasured (sev-snp-measure).
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from typing import NamedTuple

from sevkit.errors import BadInputError, UsageError
from sevkit.model import ovmf as ovmf_format
from sevkit.model import vmsa
from sevkit.model.kernel_hashes import Kernel, KernelHashes
from sevkit.model.measure import (
    DIGEST,
    PAGE,
    VMSA_GPA,
    PageRun,
    PageType,
    fold,
    normal_run,
    span_run,
    vmsa_digest,
)
from sevkit.model.ovmf import Ovmf, Section, SectionType
from sevkit.vocabulary import Mode

__all__ = ["VMMS", "Kernel", "LaunchInputs", "Piece", "Svsm", "launch_digest", "snp_runs"]

VMMS = tuple(vmsa.RESET_STATES)
MOST_VCPUS = 4096
_NO_HASHES = "the firmware has no place for hashes of kernel, initrd and command line"
_AMDSEV = "use edk2's OvmfPkg/AmdSev build (OVMF.amdsev.fd), or leave --kernel out"
_SPANS = {SectionType.SECRETS: PageType.SECRETS, SectionType.CPUID: PageType.CPUID}


@dataclass(frozen=True)
class Svsm:
    """An SVSM that is loaded below the firmware and its variables (coconut-svsm's QEMU without IGVM)."""

    data: bytes
    vars_size: int = 0
    fcw: int = 0


@dataclass(frozen=True)
class LaunchInputs:
    """All inputs of a launch digest. ``signature`` is CPUID 1 EAX, ``features`` SEV_FEATURES, ``vmm`` one of VMMS.

    ``firmware_digest`` is the digest after the firmware's own pages; if given, the rest of the image is not needed.
    """

    mode: Mode
    firmware: bytes
    vcpus: int = 1
    signature: int = 0
    features: int = 1
    kernel: Kernel | KernelHashes | None = None
    vmm: str = "qemu"
    svsm: Svsm | None = None
    firmware_digest: bytes | None = None

    @property
    def sev_features(self) -> int:
        """SEV_FEATURES of the save areas: without SNPActive, bit 0, unless the guest is one of SEV-SNP.

        APM volume 2, table B-4. KVM accepts DebugSwap, bit 5, of a SEV-ES guest (KVM_SEV_INIT2, vmsa_features).
        """
        return self.features if self.mode is Mode.SEV_SNP else self.features & ~vmsa.SNP_ACTIVE


class Piece(NamedTuple):
    """Bytes that enter the digest of SEV or SEV-ES. That digest covers neither page boundaries nor addresses."""

    what: str
    data: bytes


def launch_digest(inputs: LaunchInputs) -> bytes:
    """The digest: 32 bytes (SEV, SEV-ES) or 48 (SEV-SNP). Raises UsageError or BadInputError for impossible inputs."""
    check(inputs)
    if inputs.mode is Mode.SEV_SNP:
        return fold(start_of(inputs), snp_runs(inputs))
    digest = hashlib.sha256()
    for piece in legacy_pieces(inputs):
        digest.update(piece.data)
    return digest.digest()


def check(inputs: LaunchInputs) -> None:
    """Raise UsageError for inputs that contradict each other."""
    if inputs.mode is Mode.NOSEV:
        raise UsageError("a guest without SEV has no launch digest")
    if inputs.vmm not in VMMS:
        raise UsageError(f"unknown VMM {inputs.vmm!r}", hint=f"known: {', '.join(VMMS)}")
    if not 1 <= inputs.vcpus <= MOST_VCPUS:
        raise UsageError(f"{inputs.vcpus} vCPUs: a guest has 1 to {MOST_VCPUS}")
    if not 0 <= inputs.features < 1 << 64 or not 0 <= inputs.signature < 1 << 32:
        raise UsageError("guest features have 64 bits, a CPU signature has 32")
    if inputs.mode is not Mode.SEV_SNP and (inputs.svsm or inputs.firmware_digest):
        raise UsageError("an SVSM or a digest of the firmware is for SEV-SNP only")
    if inputs.svsm and (inputs.kernel or inputs.firmware_digest or inputs.vmm != "qemu"):
        raise UsageError("an SVSM guest has no measured kernel, and QEMU as its VMM")
    if inputs.firmware_digest is not None and len(inputs.firmware_digest) != DIGEST:
        raise UsageError(f"a digest of the firmware has {DIGEST} bytes, not {len(inputs.firmware_digest)}")


def start_of(inputs: LaunchInputs) -> bytes:
    """The digest that the first page starts from."""
    return inputs.firmware_digest or bytes(DIGEST)


def save_areas(inputs: LaunchInputs, firmware: Ovmf) -> Iterator[bytes]:
    """The save area of each vCPU before its first run: the boot processor's, then those of the others."""
    entry = 0
    first = _reset(inputs, vmsa.BSP_EIP)
    other = first
    if inputs.vcpus > 1:
        entry = _ap_entry(firmware)
        other = _reset(inputs, entry)
    for number in range(inputs.vcpus):
        yield other if number else first


def _reset(inputs: LaunchInputs, eip: int) -> bytes:
    return vmsa.reset_page(eip, features=inputs.sev_features, signature=inputs.signature, vmm=inputs.vmm)


def _ap_entry(firmware: Ovmf) -> int:
    eip = firmware.pointer(ovmf_format.RESET_BLOCK)
    if eip is None:
        raise BadInputError("the firmware names no entry point for further vCPUs (SEV-ES reset block)")
    return eip


def legacy_pieces(inputs: LaunchInputs) -> Iterator[Piece]:
    """The bytes that enter the digest of SEV and SEV-ES, in order."""
    firmware = ovmf_format.parse(inputs.firmware)
    yield Piece("firmware", firmware.data)
    if inputs.kernel is not None:
        if not firmware.pointer(ovmf_format.HASH_TABLE):
            raise BadInputError(_NO_HASHES, hint=_AMDSEV)
        yield Piece("kernel hashes", inputs.kernel.table())
    if inputs.mode is Mode.SEV_ES:
        for number, page in enumerate(save_areas(inputs, firmware)):
            yield Piece(f"vmsa {number}", page)


def snp_runs(inputs: LaunchInputs) -> Iterator[PageRun]:
    """The pages of an SNP guest in the order in which they are measured."""
    if inputs.svsm is not None:
        return _svsm_runs(inputs, inputs.svsm)
    firmware = ovmf_format.parse(inputs.firmware)
    return chain(
        () if inputs.firmware_digest else [firmware_run("firmware", firmware)],
        metadata_runs(inputs, firmware),
        vmsa_runs(save_areas(inputs, firmware)),
    )


def firmware_run(what: str, firmware: Ovmf) -> PageRun:
    """The pages of an image; raises BadInputError for one that does not fill its last page."""
    if len(firmware.data) % PAGE:
        raise BadInputError(f"the {what} image has {len(firmware.data)} bytes: not a multiple of {PAGE}")
    return normal_run(what, firmware.gpa, firmware.data)


def metadata_runs(inputs: LaunchInputs, firmware: Ovmf) -> Iterator[PageRun]:
    """The pages that the firmware's metadata asks for, in the VMM's order."""
    kernel = inputs.kernel
    if kernel is not None and all(s.kind is not SectionType.KERNEL_HASHES for s in firmware.sections):
        raise BadInputError(_NO_HASHES, hint=_AMDSEV)
    sections = list(firmware.sections)
    if inputs.vmm == "ec2":
        sections.sort(key=lambda section: section.kind is SectionType.CPUID)
    for section in sections:
        yield _section_run(section, inputs, firmware)


def vmsa_runs(pages: Iterable[bytes]) -> Iterator[PageRun]:
    """The save areas. Consecutive equal ones, such as those of all application processors, form one run."""
    number = 0
    for page, same in groupby(pages):
        count = sum(1 for _ in same)
        yield PageRun(f"vmsa {number}", PageType.VMSA, VMSA_GPA, (vmsa_digest(page),) * count, 0)
        number += count


def _section_run(section: Section, inputs: LaunchInputs, firmware: Ovmf) -> PageRun:
    what = section.kind.name
    if section.kind in _SPANS:
        return PageRun(what, _SPANS[section.kind], section.gpa, (bytes(DIGEST),))
    if section.kind is SectionType.KERNEL_HASHES and inputs.kernel is not None:
        return normal_run(what, section.gpa, hash_page(firmware, inputs.kernel))
    unmeasured = section.kind is SectionType.SEC_MEM and inputs.vmm == "gce"
    return span_run(what, PageType.UNMEASURED if unmeasured else PageType.ZERO, section.gpa, section.size)


def hash_page(firmware: Ovmf, kernel: Kernel | KernelHashes) -> bytes:
    """The page with the table of hashes, at the offset within the page that the firmware specifies."""
    offset = (firmware.pointer(ovmf_format.HASH_TABLE) or 0) % PAGE
    return (bytes(offset) + kernel.table()).ljust(PAGE, b"\0")[:PAGE]


def _svsm_runs(inputs: LaunchInputs, svsm: Svsm) -> Iterator[PageRun]:
    """Firmware, then the SVSM below it, the SVSM's metadata, and save areas that start in the SVSM."""
    firmware = ovmf_format.parse(inputs.firmware)
    module = ovmf_format.parse(svsm.data, end=firmware.gpa - svsm.vars_size)
    entry = module.pointer(ovmf_format.SVSM_INFO)
    if entry is None:
        raise BadInputError("the SVSM image names no entry point (SVSM info block)")
    page = vmsa.svsm_page(module.gpa + entry, signature=inputs.signature, fcw=svsm.fcw)
    return chain(
        [firmware_run("firmware", firmware), firmware_run("svsm", module)],
        metadata_runs(inputs, module),
        vmsa_runs(page for _ in range(inputs.vcpus)),
    )
