"""QEMU's CPU models and the signatures (CPUID 1 EAX) that they give a guest. Pure.

Sources: QEMU target/i386/cpu.c, builtin_x86_defs; AMD CPUID specification (25481), function 1 EAX.
"""

from sevkit.errors import UsageError


def signature(family: int, model: int, stepping: int) -> int:
    """CPUID 1 EAX of a displayed family, model and stepping (family 25 is base family 0Fh plus extended family 0Ah)."""
    if not 0 <= family <= 0x10E or not 0 <= model <= 0xFF or not 0 <= stepping <= 0xF:
        raise UsageError(f"there is no processor of family {family}, model {model}, stepping {stepping}")
    base, extended = (0xF, family - 0xF) if family > 0xF else (family, 0)
    return extended << 20 | (model >> 4) << 16 | base << 8 | (model & 0xF) << 4 | stepping


_PARTS = {
    "EPYC": (23, 1, 2, ("-v1", "-v2", "-v3", "-v4", "-v5", "-IBPB")),
    "EPYC-Rome": (23, 49, 0, ("-v1", "-v2", "-v3", "-v4", "-v5")),
    "EPYC-Milan": (25, 1, 1, ("-v1", "-v2", "-v3")),
    "EPYC-Genoa": (25, 17, 0, ("-v1", "-v2")),
    "EPYC-Turin": (26, 0, 0, ("-v1",)),
}

# Models that only QEMU has, not EPYC processors.
_QEMU = {"max": (6, 6, 3), "qemu64": (15, 107, 1)}

SIGNATURES: dict[str, int] = {
    name + suffix: signature(family, model, stepping)
    for name, (family, model, stepping, suffixes) in _PARTS.items()
    for suffix in ("", *suffixes)
} | {name: signature(*numbers) for name, numbers in _QEMU.items()}


def signature_of(cpu_type: str) -> int:
    """The signature of a CPU model by QEMU's name, case-insensitive; raises UsageError."""
    for name, value in SIGNATURES.items():
        if name.lower() == cpu_type.lower():
            return value
    raise UsageError(f"unknown vCPU type {cpu_type!r}", hint=f"known: {', '.join(SIGNATURES)}")


def type_of(value: int) -> str | None:
    """A CPU model with this signature; None when no model has it."""
    return next((name for name, own in SIGNATURES.items() if own == value), None)
