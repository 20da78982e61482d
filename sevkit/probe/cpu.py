"""What the other CPUID leaves say about a processor: vendor, brand, family, and the hypervisor. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sevkit.probe.leaf import LEAF, Registers

# (leaf, subleaf) -> registers of one logical CPU
Leaves = Mapping[tuple[int, int], Registers]

# The leaves that sevkit reads on a machine; the hypervisor's leaves only when the hypervisor bit is set.
WANTED: tuple[tuple[int, int], ...] = (
    (0, 0), (1, 0), (0x80000000, 0), (0x80000001, 0), (0x80000002, 0), (0x80000003, 0), (0x80000004, 0),
    (0x80000008, 0), (0x8000000A, 0), (0x8000001E, 0), (LEAF, 0), (0x80000021, 0), (0x80000024, 0), (0x80000025, 0),
)  # fmt: skip
HYPERVISOR_LEAVES: tuple[tuple[int, int], ...] = ((0x40000000, 0), (0x4000000C, 0))

EMULATOR = "QEMU TCG"  # QEMU without KVM: it executes, and encrypts if at all, in software
_HYPERVISORS = {
    "KVMKVMKVM": "KVM",
    "Linux KVM Hv": "KVM",
    "Microsoft Hv": "Hyper-V",
    "VMwareVMware": "VMware",
    "XenVMMXenVMM": "Xen",
    "TCGTCGTCGTCG": EMULATOR,
    "bhyve bhyve": "bhyve",
    "VBoxVBoxVBox": "VirtualBox",
}

# (family, first model, last model) -> generation, from AMD's processor programming references.
_GENERATIONS = (
    (0x17, 0x00, 0x0F, "Naples"),
    (0x17, 0x30, 0x3F, "Rome"),
    (0x18, 0x00, 0x0F, "Dhyana"),
    (0x19, 0x00, 0x0F, "Milan"),
    (0x19, 0x10, 0x1F, "Genoa"),
    (0x19, 0xA0, 0xAF, "Bergamo/Siena"),
    (0x1A, 0x00, 0x0F, "Turin"),
    (0x1A, 0x10, 0x1F, "Turin Dense"),
    (0x1A, 0x50, 0x57, "Venice"),  # virtee/sev src/lib.rs, for this and the next two
    (0x1A, 0x90, 0xAF, "Venice"),
    (0x1A, 0xC0, 0xC7, "Venice"),
)


class Identity(NamedTuple):
    """Vendor and model of a CPU; None where the source does not have the leaf."""

    vendor: str | None
    brand: str | None
    family: int | None
    model: int | None
    stepping: int | None
    generation: str | None
    max_leaf: int | None
    max_extended_leaf: int | None
    hypervisor: str | None
    hypervisor_bit: bool | None


def printable(raw: bytes) -> str:
    """Register bytes as text: up to the first NUL, without terminal control characters."""
    return "".join(chr(b) if 0x20 <= b < 0x7F else "?" for b in raw.split(b"\0", 1)[0]).strip()


def _text(*values: int) -> str:
    return printable(b"".join(value.to_bytes(4, "little") for value in values))


def signature(eax: int) -> tuple[int, int, int]:
    """Family, model and stepping from leaf 1 EAX (APM 3, E.3.2: the extended parts count when the family is 0Fh)."""
    # Example: EAX 0x00A00F11 is base family 0Fh plus extended family 0Ah = 25, model 1, stepping 1 (Milan).
    family, model, stepping = eax >> 8 & 0xF, eax >> 4 & 0xF, eax & 0xF
    if family in (0x6, 0xF):  # Intel uses the extended model with family 6 as well
        model |= (eax >> 16 & 0xF) << 4
    if family == 0xF:
        family += eax >> 20 & 0xFF
    return family, model, stepping


def generation_of(vendor: str | None, family: int | None, model: int | None) -> str | None:
    """The server generation or None, by silicon, not by brand: a Threadripper may have the silicon of an EPYC."""
    if vendor not in ("AuthenticAMD", "HygonGenuine") or family is None or model is None:
        return None
    for known, first, last, name in _GENERATIONS:
        if family == known and first <= model <= last:
            return name
    return None


def _brand(leaves: Leaves) -> str | None:
    parts = [leaves.get((leaf, 0)) for leaf in (0x80000002, 0x80000003, 0x80000004)]
    if any(part is None for part in parts):
        return None
    return _text(*(value for part in parts if part for value in part)) or None


def _hypervisor(leaves: Leaves) -> str | None:
    found = leaves.get((0x40000000, 0))
    if found is None:
        return None
    words = _text(found.ebx, found.ecx, found.edx)
    return _HYPERVISORS.get(words, words) or None


def identify(leaves: Leaves) -> Identity:
    """Identity of one logical CPU from the available leaves."""
    zero, one, extended = leaves.get((0, 0)), leaves.get((1, 0)), leaves.get((0x80000000, 0))
    vendor = _text(zero.ebx, zero.edx, zero.ecx) if zero and any(zero[1:]) else None
    family, model, stepping = signature(one.eax) if one else (None, None, None)
    bit = bool(one.ecx >> 31) if one else None
    return Identity(
        vendor=vendor,
        brand=_brand(leaves),
        family=family,
        model=model,
        stepping=stepping,
        generation=generation_of(vendor, family, model),
        max_leaf=zero.eax if zero else None,
        max_extended_leaf=extended.eax if extended and extended.eax >= 0x80000000 else None,
        hypervisor=_hypervisor(leaves) if bit else None,
        hypervisor_bit=bit,
    )
