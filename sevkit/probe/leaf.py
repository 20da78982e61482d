"""CPUID leaf 0x8000001F, "Encrypted Memory Capabilities", as a field table. Pure: from four numbers to values.

Sources: AMD64 Architecture Programmer's Manual volume 3 (24594), appendix E.4.17, for the fields; volume 2 (24593),
chapter 15.34 to 15.36, for the features; Linux arch/x86/include/asm/cpufeatures.h, word 19, for bits 21, 23, 25,
27, 28, 30 and 31; openvmm vm/x86/x86defs/src/cpuid.rs for bits 22, 26 and 29.

Classes here are NamedTuples rather than dataclasses: the start-up time of `sevkit probe` is watched (benchmarks/).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LEAF = 0x8000001F
REGISTERS = ("eax", "ebx", "ecx", "edx")
VENDORS = ("AuthenticAMD", "HygonGenuine")
FIRST_FAMILY = 0x17  # the first family with the leaf

_APM3 = "APM 3, E.4.17"
_SEV = "APM 3, E.4.17; APM 2, 15.34"
_ES = "APM 3, E.4.17; APM 2, 15.35"
_SNP = "APM 3, E.4.17; APM 2, 15.36"
_SIDE = "APM 2, 15.36.17"
_LINUX = "Linux arch/x86/include/asm/cpufeatures.h, word 19"
_OPENVMM = "openvmm vm/x86/x86defs/src/cpuid.rs"


class Registers(NamedTuple):
    """The four 32-bit registers that CPUID returns."""

    eax: int
    ebx: int
    ecx: int
    edx: int

    def as_dict(self) -> dict[str, int]:
        """The registers by name, as numbers."""
        return dict(zip(REGISTERS, self))


class Field(NamedTuple):
    """One field of the leaf: ``width`` bits of ``register`` from bit ``low`` up."""

    name: str
    register: str
    low: int
    width: int
    meaning: str
    since: str  # the first generation of EPYC that has it; empty if no public source says
    spec: str

    @property
    def is_flag(self) -> bool:
        """Whether the field is a single bit of EAX (a feature), not a number."""
        return self.register == "eax"

    @property
    def bits(self) -> str:
        """The position of the field, in the notation of the manuals: ``EAX[3]``, ``EBX[11:6]``."""
        high = self.low + self.width - 1
        place = str(self.low) if self.width == 1 else f"{high}:{self.low}"
        return f"{self.register.upper()}[{place}]"


def _flag(bit: int, name: str, meaning: str, since: str, spec: str) -> Field:
    return Field(name, "eax", bit, 1, meaning, since, spec)


FIELDS: tuple[Field, ...] = (
    _flag(0, "sme", "secure memory encryption: pages with the C-bit use the host's key", "Naples", "APM 2, 7.10"),
    _flag(1, "sev", "secure encrypted virtualization: a memory key for each guest", "Naples", _SEV),
    _flag(2, "page_flush_msr", "VM page flush MSR (C001_011E)", "Naples", _SEV),
    _flag(3, "sev_es", "SEV-ES: guest registers are encrypted at each exit", "Naples", _ES),
    _flag(4, "sev_snp", "SEV-SNP: secure nested paging, the reverse map table", "Milan", _SNP),
    _flag(5, "vmpl", "VM permission levels", "Milan", _SNP),
    _flag(6, "rmpquery", "RMPQUERY instruction", "Genoa", _SNP),
    _flag(7, "vmpl_sss", "supervisor shadow stacks restricted by VMPL", "Genoa", _SNP),
    _flag(8, "secure_tsc", "Secure TSC: a time stamp counter the host cannot change", "Milan", _SNP),
    _flag(9, "tsc_aux_virtualization", "TSC_AUX virtualization", "Genoa", _ES),
    _flag(10, "hw_cache_coherency", "caches stay coherent across encryption domains", "Milan", _SEV),
    _flag(11, "guest_64bit_host_only", "encrypted guests run from a 64-bit host only", "Milan", _SEV),
    _flag(12, "restricted_injection", "restricted injection: the host can inject only #HV", "Milan", _SNP),
    _flag(13, "alternate_injection", "alternate injection: the guest injects its own interrupts", "Milan", _SNP),
    _flag(14, "debug_swap", "debug registers are swapped in full for SEV-ES guests", "Milan", _ES),
    _flag(15, "prevent_host_ibs", "the host cannot use IBS on the guest", "Milan", _SNP),
    _flag(16, "vte", "virtual transparent encryption", "Rome", _SEV),
    _flag(17, "vmgexit_parameter", "VMGEXIT takes a parameter in RAX", "Genoa", _ES),
    _flag(18, "virtual_tom_msr", "virtual top of memory MSR (C001_0135)", "Genoa", _SNP),
    _flag(19, "ibs_virtualization", "IBS virtualization for SEV-ES guests", "Genoa", _ES),
    _flag(20, "pmc_virtualization", "performance counter virtualization for encrypted guests", "", _APM3),
    _flag(21, "rmpread", "RMPREAD instruction", "Turin", _SNP),
    _flag(22, "guest_intercept_control", "guest intercept control", "", _OPENVMM),
    _flag(23, "segmented_rmp", "segmented reverse map table", "Turin", _SNP),
    _flag(24, "vmsa_register_protection", "VMSA register protection: saved registers are masked", "Milan", _SNP),
    _flag(25, "smt_protection", "SMT protection: the sibling thread idles while the guest runs", "Genoa", _SIDE),
    _flag(26, "secure_avic", "Secure AVIC: the guest's interrupt controller without the host", "", _OPENVMM),
    _flag(27, "allowed_sev_features", "the VMCB can limit the SEV features of a guest", "", _LINUX),
    _flag(28, "svsm_page_msr", "SVSM communication page MSR", "", _LINUX),
    _flag(29, "nested_virt_snp_msr", "VIRT_RMPUPDATE and VIRT_PSMASH MSRs", "", _OPENVMM),
    _flag(30, "hv_in_use_write_allowed", "the host may write to pages in use that it owns", "", _LINUX),
    _flag(31, "ibpb_on_entry", "IBPB on entry to an SNP guest", "", _SIDE),
    Field("c_bit_position", "ebx", 0, 6, "the page table bit that marks a page as encrypted", "Naples", _APM3),
    Field("phys_addr_reduction", "ebx", 6, 6, "bits of physical address lost while encryption is on", "Naples", _APM3),
    Field("num_vmpl", "ebx", 12, 4, "number of VM permission levels", "Milan", _APM3),
    Field("num_encrypted_guests", "ecx", 0, 32, "encrypted guests at a time: the highest ASID", "Naples", _APM3),
    Field("min_sev_no_es_asid", "edx", 0, 32, "lowest ASID of a guest with SEV and without SEV-ES", "Naples", _APM3),
)  # fmt: skip

BY_NAME: Mapping[str, Field] = {field.name: field for field in FIELDS}
_PLACES = tuple((f.name, REGISTERS.index(f.register), f.low, (1 << f.width) - 1, f.is_flag) for f in FIELDS)


def _known_masks() -> tuple[int, ...]:
    masks = [0, 0, 0, 0]
    for _, index, low, mask, _ in _PLACES:
        masks[index] |= mask << low
    return tuple(masks)


_KNOWN = _known_masks()


class Asids(NamedTuple):
    """The number of guests of each kind that the ASID ranges allow (APM 2, 15.34.2)."""

    sev: int
    sev_es_snp: int
    sev_range: tuple[int, int] | None
    sev_es_snp_range: tuple[int, int] | None


def decode(registers: Registers) -> dict[str, bool | int]:
    """All fields by name: features as booleans, the others as numbers."""
    return {
        name: bool(registers[index] >> low & mask) if flag else registers[index] >> low & mask
        for name, index, low, mask, flag in _PLACES
    }


def unknown_bits(registers: Registers) -> dict[str, list[int]]:
    """The set bits that no field covers, by register: they are reported, never dropped."""
    found: dict[str, list[int]] = {}
    for name, value, known in zip(REGISTERS, registers, _KNOWN):
        rest = value & ~known
        if rest:
            found[name] = [bit for bit in range(32) if rest >> bit & 1]
    return found


def encode(fields: Mapping[str, bool | int], unknown: Mapping[str, list[int]] | None = None) -> Registers:
    """The inverse of `decode` and `unknown_bits`; omitted fields are 0. ValueError for a value that does not fit."""
    values = [0, 0, 0, 0]
    for name, value in fields.items():
        field = BY_NAME[name]
        if not 0 <= int(value) < 1 << field.width:
            raise ValueError(f"{name} has {field.width} bits; {value} does not fit")
        values[REGISTERS.index(field.register)] |= int(value) << field.low
    for register, bits in (unknown or {}).items():
        for bit in bits:
            values[REGISTERS.index(register)] |= 1 << bit
    return Registers(*values)


def asids(registers: Registers) -> Asids:
    """The two ASID ranges: 1 to EDX-1 for SEV-ES and SNP, EDX to ECX for SEV alone (ASID 0 is the host).

    Parts exist with EDX 0 or 1 (nothing for ES), with ECX 0, and with EDX above ECX (nothing for plain SEV). Then the
    range is None and the count 0. Example: EDX 100 and ECX 509 give 1 to 99 for SEV-ES and SNP, 100 to 509 for SEV.
    A leaf without the SEV bit has neither range.
    """
    highest, minimum = registers.ecx, registers.edx
    has_sev, has_es = bool(registers.eax & 0b10), registers.eax & 0b1010 == 0b1010
    sev_low, es_high = max(minimum, 1), min(minimum - 1, highest)
    sev_range = (sev_low, highest) if has_sev and sev_low <= highest else None
    es_range = (1, es_high) if has_es and es_high >= 1 else None
    return Asids(
        sev=highest - sev_low + 1 if sev_range else 0,
        sev_es_snp=es_high if es_range else 0,
        sev_range=sev_range,
        sev_es_snp_range=es_range,
    )


def status(
    vendor: str | None, max_extended: int | None, registers: Registers | None, family: int | None = None
) -> str | None:
    """``present``, ``masked``, ``beyond_max_leaf`` or ``not_amd``; None when the source does not say.

    ``masked`` is a leaf that exists and is all zero on a CPU of AMD or Hygon: a hypervisor hides the CPU's features
    (on bare metal, firmware settings do). It is not the same as "unsupported". The leaf was introduced with
    ``FIRST_FAMILY``; the oldest CPUs have no extended leaves, and so no leaf that gives the highest leaf number.
    """
    if vendor is not None and vendor not in VENDORS:
        return "not_amd"
    if max_extended is not None and max_extended < LEAF:
        return "beyond_max_leaf"
    if registers is None:
        return "beyond_max_leaf" if vendor is not None and family is not None and family < FIRST_FAMILY else None
    if any(registers):
        return "present"
    return "masked" if vendor is not None else None
