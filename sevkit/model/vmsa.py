"""The save area of a vCPU: the offsets of its registers in the 4 KiB that the hardware loads and stores.

Offsets: APM volume 2 table B-4 (VMSA). The model uses the same layout for the state that plain SVM keeps in the
VMCB, where the host can read it.
"""

import hashlib
import struct
from dataclasses import dataclass

from sevkit.model.measure import PAGE

_SEGMENT = struct.Struct("<HHIQ")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "gdtr", "ldtr", "idtr", "tr")

# register -> (offset, size)
FIELDS: dict[str, tuple[int, int]] = {
    "idtr_base": (0x088, 8),
    "vmpl": (0x0CA, 1),
    "cpl": (0x0CB, 1),
    "efer": (0x0D0, 8),
    "xss": (0x140, 8),
    "cr4": (0x148, 8),
    "cr3": (0x150, 8),
    "cr0": (0x158, 8),
    "dr7": (0x160, 8),
    "dr6": (0x168, 8),
    "rflags": (0x170, 8),
    "rip": (0x178, 8),
    "rsp": (0x1D8, 8),
    "rax": (0x1F8, 8),
    "cr2": (0x240, 8),
    "g_pat": (0x268, 8),
    "tsc_scale": (0x2F0, 8),
    "tsc_offset": (0x2F8, 8),
    "reg_prot_nonce": (0x300, 8),
    "rcx": (0x308, 8),
    "rdx": (0x310, 8),
    "rbx": (0x318, 8),
    "rbp": (0x328, 8),
    "rsi": (0x330, 8),
    "rdi": (0x338, 8),
    **{f"r{number}": (0x340 + 8 * (number - 8), 8) for number in range(8, 16)},
    "sev_features": (0x3B0, 8),
    "virtual_tom": (0x3C8, 8),
    "xcr0": (0x3E8, 8),
    "mxcsr": (0x408, 4),
    "x87_fcw": (0x410, 2),
    **{f"xmm{number}": (0x470 + 16 * number, 16) for number in range(16)},
}

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{number}" for number in range(8, 16)))

# Bits of SEV_FEATURES.
SNP_ACTIVE, VTOM, REFLECT_VC, RESTRICTED_INJECTION, ALTERNATE_INJECTION, DEBUG_SWAP = (1 << bit for bit in range(6))
REG_PROT = 1 << 14
_PROTECTED = range(0x140, 0x3B0, 8)  # the quadwords that the register protection covers in this model


def pack(registers: dict[str, int], segments: dict[str, tuple[int, int, int, int]] | None = None) -> bytes:
    """Build a save area from register values; others are zero. Segments are (selector, attrib, limit, base)."""
    page = bytearray(PAGE)
    for number, name in enumerate(SEGMENTS):
        if segments and name in segments:
            _SEGMENT.pack_into(page, 16 * number, *segments[name])
    for name, value in registers.items():
        offset, size = FIELDS[name]
        page[offset : offset + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    return bytes(page)


def unpack(page: bytes) -> dict[str, int]:
    """All registers of a save area."""
    return {name: int.from_bytes(page[at : at + size], "little") for name, (at, size) in FIELDS.items()}


def check_value(page: bytes) -> bytes:
    """Eight bytes that depend on the whole save area: a model of the CRC64 that SEV-ES hides from the host."""
    return hashlib.sha256(page).digest()[:8]


def protect(page: bytes, nonce: bytes) -> bytes:
    """VMSA register protection: XOR the registers with a nonce that changes at every VMEXIT."""
    out = bytearray(page)
    stream = hashlib.shake_128(nonce).digest(8 * len(_PROTECTED))
    at, size = FIELDS["reg_prot_nonce"]
    for number, offset in enumerate(_PROTECTED):
        if offset != at:
            for byte in range(8):
                out[offset + byte] ^= stream[8 * number + byte]
    out[at : at + size] = nonce
    return bytes(out)


def unprotect(page: bytes) -> bytes:
    """Undo ``protect``; the nonce is cleared."""
    at, size = FIELDS["reg_prot_nonce"]
    plain = bytearray(protect(page, bytes(page[at : at + size])))
    plain[at : at + size] = bytes(size)
    return bytes(plain)


@dataclass(frozen=True)
class ResetState:
    """How a VMM leaves a vCPU before the first VMRUN: values that differ between VMMs and enter the launch digest."""

    cs_attributes: int
    ss_attributes: int
    tr_attributes: int
    g_pat: int
    mxcsr: int
    fcw: int
    rdx: int | None  # None: the CPUID signature


RESET_STATES = {
    "qemu": ResetState(0x9B, 0x93, 0x8B, 0x7040600070406, 0x1F80, 0x37F, None),
    "ec2": ResetState(0x9B, 0x92, 0x83, 0x7040600070406, 0, 0, 0x600),
    "gce": ResetState(0x9B, 0x93, 0x8B, 0x00070106, 0, 0, 0x600),
    # As in the sev crate (virtee/sev, src/measurement/vmsa.rs); no second source was found to confirm it.
    "krun": ResetState(0x9A, 0x92, 0x83, 0x7040600070406, 0, 0, 0),
}
BSP_EIP = 0xFFFFFFF0


def reset_page(eip: int, *, features: int = 0, signature: int = 0, vmm: str = "qemu") -> bytes:
    """The save area of a vCPU that starts at ``eip`` (APM volume 2, initialization state; KVM's additions)."""
    state = RESET_STATES[vmm]
    cs_attributes = 0x9A if vmm == "ec2" and eip == BSP_EIP else state.cs_attributes
    data = (0, 0x93, 0xFFFF, 0)
    segments = {
        **dict.fromkeys(("es", "ds", "fs", "gs"), data),
        "cs": (0xF000, cs_attributes, 0xFFFF, eip & 0xFFFF0000),
        "ss": (0, state.ss_attributes, 0xFFFF, 0),
        "gdtr": (0, 0, 0xFFFF, 0),
        "idtr": (0, 0, 0xFFFF, 0),
        "ldtr": (0, 0x82, 0xFFFF, 0),
        "tr": (0, state.tr_attributes, 0xFFFF, 0),
    }
    registers = {
        "efer": 0x1000,
        "cr4": 0x40,
        "cr0": 0x10,
        "dr7": 0x400,
        "dr6": 0xFFFF0FF0,
        "rflags": 0x2,
        "rip": eip & 0xFFFF,
        "g_pat": state.g_pat,
        "rdx": signature if state.rdx is None else state.rdx,
        "sev_features": features,
        "xcr0": 1,
        "mxcsr": state.mxcsr,
        "x87_fcw": state.fcw,
    }
    return pack(registers, segments)


def svsm_page(eip: int, *, signature: int = 0, fcw: int = 0) -> bytes:
    """The save area of a vCPU that starts in an SVSM: protected mode with flat segments (coconut-svsm's QEMU).

    ``fcw`` is 0, the value that sev-snp-measure produces: its code means to set 0x37F but uses a wrong field name.
    """
    flat, byte_wide = (16, 0xC93, 0xFFFFFFFF, 0), (0, 0x93, 0xFFFF, 0)
    segments = {
        **dict.fromkeys(("es", "ss", "ds", "fs"), flat),
        "cs": (8, 0xC9B, 0xFFFFFFFF, 0),
        "gs": byte_wide,
        "gdtr": (0, 0, 0xFFFF, 0),
        "idtr": (0, 0, 0xFFFF, 0),
        "ldtr": (0, 0x82, 0xFFFF, 0),
        "tr": (0, 0x8B, 0xFFFF, 0),
    }
    reset = unpack(reset_page(BSP_EIP, features=SNP_ACTIVE, signature=signature))
    return pack({**reset, "cr0": 0x11, "rip": eip, "x87_fcw": fcw}, segments)
