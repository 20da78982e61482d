"""The shape that saved facts must have. A file may come from anywhere; it is not trusted before it is validated."""

import re
from collections.abc import Mapping
from typing import Any

from sevkit import cleantext as safe

_LEAF_KEY = re.compile(r"0x[0-9a-f]{8}(\.[0-9a-f]{1,8})?")
_MISSING = ("absent", "denied", "failed", "not_recorded")
_MAX_CPUS = 8192

# Shapes: a type, a list of one shape, a dict with "*" (any key) or with named keys, or a tuple of alternatives.
_OPTIONAL = (int, type(None))
_SEV_STATUS = {
    "api_major": int, "api_minor": int, "state": str, "owner": str, "es": bool, "flags": int, "build": int,
    "guest_count": int,
}  # fmt: skip
_SNP_STATUS = {
    "api_major": int, "api_minor": int, "state": str, "rmp_initialized": bool, "alias_check_complete": bool,
    "build": int, "mask_chip_id": bool, "mask_chip_key": bool, "vlek_loaded": bool, "feature_info": bool,
    "rapl_disabled": bool, "ciphertext_hiding_capable": bool, "ciphertext_hiding_enabled": bool, "flags": int,
    "guest_count": int, "current_tcb": int, "reported_tcb": int,
}  # fmt: skip
READINGS: Mapping[str, Any] = {
    "kernel.cmdline": [str],
    "kernel.config": {"*": str},
    "kernel.modules": [str],
    "kernel.log": [str],
    "cpuinfo.flags": [str],
    "iommu.units": [str],
    "iommu.domains": {"*": int},
    "memory.end": int,
    "sev.device": {"writable": str, "readable": str},
    "sev.platform_status": _SEV_STATUS,
    "sev.snp_platform_status": _SNP_STATUS,
    "kvm.api_version": int,
    "kvm.vm_types": int,
    "kvm.vmsa_features": int,
    "guest.dev_sev_guest": bool,
    "guest.tsm": bool,
    "guest.modes": {"*": bool},
    "limits.memlock": {"soft": _OPTIONAL, "hard": _OPTIONAL},
    "user.root": bool,
    "modprobe.kvm_amd": [str],
    "ovmf.descriptors": [{"descriptor": str, "image": (str, type(None)), "features": [str]}],
    "qemu.objects": [str],
}
_MSR = {"*": int}


def problem(raw: Mapping[str, Any]) -> tuple[str, str] | None:
    """The first place (a path of keys) that differs from what sevkit writes, and the error there."""
    return (
        _mismatch(raw.get("source"), {"kind": str, "host": (str, type(None))}, "source")
        or (None if "taken" in raw else ("taken", "is missing"))
        or _mismatch(raw.get("taken"), (str, type(None)), "taken")
        or _cpuid(raw.get("cpuid"))
        or _readings(raw.get("readings"))
    )


def _cpuid(cpuid: Any) -> tuple[str, str] | None:
    shape = {
        "method": str,
        "cpus": [{"cpu": int, "leaves": {"*": [int]}}],
        "unreadable": [{"cpu": int, "from": str, "why": str}],
    }
    found = _mismatch(cpuid, shape, "cpuid")
    if found:
        return found
    if len(cpuid["cpus"]) > _MAX_CPUS:
        return "cpuid/cpus", f"more than {_MAX_CPUS} CPUs"
    if len({row["cpu"] for row in cpuid["cpus"]}) != len(cpuid["cpus"]):
        return "cpuid/cpus", "a CPU is named twice"
    for row in cpuid["cpus"]:
        for key, values in row["leaves"].items():
            if not _LEAF_KEY.fullmatch(key) or len(values) != 4 or not all(0 <= v < 1 << 32 for v in values):
                return f"cpuid/cpus/{row['cpu']}/{_short(key)}", "not a leaf and its four 32-bit registers"
    return None


def _readings(readings: Any) -> tuple[str, str] | None:
    if not isinstance(readings, dict):
        return "readings", "not an object"
    for name, reading in readings.items():
        where = f"readings/{_short(name)}"
        if not isinstance(reading, dict) or not isinstance(reading.get("from"), str):
            return where, 'a reading has an origin under "from"'
        if "missing" in reading:
            if reading["missing"] not in _MISSING or not isinstance(reading.get("why"), str):
                return where, "a missing reading says which way, and why"
            continue
        if "value" not in reading:
            return where, "neither a value nor a reason why there is none"
        shape = _MSR if name.startswith("msr.") else READINGS.get(name, str)
        found = (
            _mismatch(reading["value"], shape, where) or (shape is _MSR and _registers(reading["value"], where)) or None
        )
        if found:
            return found
    return None


def _registers(values: Mapping[str, int], where: str) -> tuple[str, str] | None:
    """A register needs at least one CPU's value: with none, every condition on "all CPUs" would be true."""
    good = values and all(cpu.isascii() and cpu.isdecimal() and 0 <= v < 1 << 64 for cpu, v in values.items())
    return None if good else (where, "not 64-bit values by CPU number")


def _mismatch(value: Any, shape: Any, where: str) -> tuple[str, str] | None:
    if isinstance(shape, tuple):
        fits = any(_mismatch(value, one, where) is None for one in shape)
        return None if fits else (where, "neither of the kinds it may be")
    if isinstance(shape, list):
        if not isinstance(value, list):
            return where, "not a list"
        return next((x for item in value if (x := _mismatch(item, shape[0], where))), None)
    if isinstance(shape, dict):
        return _mismatch_object(value, shape, where)
    if shape is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 64
    else:
        fits = isinstance(value, shape)
    return None if fits else (where, f"not of type {shape.__name__}")


def _mismatch_object(value: Any, shape: Mapping[str, Any], where: str) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return where, "not an object"
    if "*" in shape:
        pairs = ((item, shape["*"]) for item in value.values())
        return next((x for item, kind in pairs if (x := _mismatch(item, kind, where))), None)
    for key, kind in shape.items():
        if key not in value:
            return where, f"has no {key}"
        found = _mismatch(value[key], kind, f"{where}/{key}")
        if found:
            return found
    return None


def clean(value: Any) -> Any:
    """The same JSON value with control characters and lone surrogates in its strings replaced."""
    if isinstance(value, str):
        return safe.text(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {safe.text(str(key)): clean(item) for key, item in value.items()}
    return value


def _short(text: str) -> str:
    return safe.text(text[:60])
