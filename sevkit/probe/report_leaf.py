"""``data.leaf``: the leaf, values derived from it, and differences between the CPUs. Pure."""

from typing import Any

from sevkit.probe import leaf as leaf_table
from sevkit.probe.facts import Facts
from sevkit.probe.leaf import Registers
from sevkit.probe.payload import Asids, Differing, Leaf

_STATUS_WORDS = {
    "present": "the CPU reports leaf 0x8000001F",
    "masked": "the leaf exists and is all zero: {who} hides it, which says nothing about the silicon",
    "beyond_max_leaf": "the highest extended leaf is {highest}, below 0x8000001F",
    "not_amd": "leaf 0x8000001F is defined for AMD and Hygon; this CPU is {vendor}",
}


def leaf_report(facts: Facts) -> Leaf:
    """``data.leaf``: status, raw registers, all fields, unknown bits, derived values, differences between CPUs.

    ``raw``, ``fields``, ``unknown_bits`` and ``derived`` are None if the status is ``beyond_max_leaf`` or
    ``not_amd``, or if the source does not have the leaf (status None).
    """
    identity = facts.identity
    registers = facts.leaf
    status = leaf_table.status(identity.vendor, identity.max_extended_leaf, registers, identity.family)
    if (
        identity.vendor is None
        and not facts.cpus
        and facts.reading("kernel.machine").value not in (None, "x86_64", "i686")
    ):
        status = "not_amd"
    if status in ("beyond_max_leaf", "not_amd"):
        registers = None
    return {
        "status": status,
        "reason": reason(facts, status, registers),
        "raw": registers.as_dict() if registers else None,
        "fields": leaf_table.decode(registers) if registers else None,
        "unknown_bits": leaf_table.unknown_bits(registers) if registers else None,
        "derived": _derived(registers) if registers else None,
        "cpus_read": [cpu for cpu, _ in facts.cpus],
        "cpus_unreadable": facts.raw["cpuid"]["unreadable"],
        "differences": differences(facts),
    }


def reason(facts: Facts, status: str | None, registers: Registers | None) -> str:
    """Why the leaf has this status, in words."""
    identity = facts.identity
    if status is None:
        if not facts.cpus:
            whys = facts.raw["cpuid"]["unreadable"]
            return "no CPU could be read" + (f": {whys[0]['why']}" if whys else "")
        return (
            "the source does not hold leaf 0x8000001F" if registers is None else "the source does not name the vendor"
        )
    highest = identity.max_extended_leaf
    if status == "beyond_max_leaf" and highest is None:
        return f"CPUs of family 0x{identity.family:02x} have no leaf 0x8000001F: it came with family 0x17"
    machine = facts.reading("kernel.machine").value
    return _STATUS_WORDS[status].format(
        who="a hypervisor" if identity.hypervisor_bit else "a hypervisor, or a firmware setting,",
        highest=f"0x{highest:08x}" if highest is not None else "unknown",
        vendor=identity.vendor or machine or "another one",
    )


def _derived(registers: Registers) -> Asids:
    counts = leaf_table.asids(registers)
    return {
        "sev_asids": counts.sev,
        "sev_asid_range": list(counts.sev_range) if counts.sev_range else None,
        "sev_es_snp_asids": counts.sev_es_snp,
        "sev_es_snp_asid_range": list(counts.sev_es_snp_range) if counts.sev_es_snp_range else None,
    }


def differences(facts: Facts) -> list[Differing]:
    """Fields of the leaf that are not the same on all CPUs, with the CPUs that hold each value."""
    rows = [(cpu, _flat(registers)) for cpu, registers in facts.leaf_values()]
    if len({tuple(sorted(row.items())) for _, row in rows}) < 2:
        return []
    found: list[Differing] = []
    for name in (*leaf_table.BY_NAME, "unknown_bits", "leaf"):
        values: dict[Any, list[int]] = {}
        for cpu, row in rows:
            values.setdefault(row.get(name), []).append(cpu)
        if len(values) > 1:
            found.append({"field": name, "values": [{"value": v, "cpus": cpus} for v, cpus in values.items()]})
    return found


def _flat(registers: Registers | None) -> dict[str, Any]:
    if registers is None:
        return {"leaf": "missing"}
    unknown = leaf_table.unknown_bits(registers)
    return {
        **leaf_table.decode(registers),
        "leaf": "there",
        "unknown_bits": " ".join(f"{name}{bits}" for name, bits in unknown.items()),
    }
