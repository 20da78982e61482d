"""Decide whether this is a guest and which protection is active in it, and give the evidence. Pure."""

from collections.abc import Mapping
from typing import Any

from sevkit.probe.collect.msr import NAMED, name_of
from sevkit.probe.cpu import EMULATOR
from sevkit.probe.facts import Facts
from sevkit.probe.payload import GuestState
from sevkit.vocabulary import ENCRYPTED, MODE_FACTS

MODES = tuple(map(str, ENCRYPTED))
_BITS = {str(mode): MODE_FACTS[mode].status_bit or 0 for mode in ENCRYPTED}
_HYPERV_SNP = 2  # Hyper-V TLFS, isolation type in leaf 0x4000000C EBX[3:0]


def guest_report(facts: Facts, kernel_log: Mapping[str, Any]) -> GuestState:
    """``data.guest``: ``in_guest``, the hypervisor, and whether each mode is active (None: unknown)."""
    in_guest = _in_guest(facts, kernel_log)
    evidence: list[dict[str, str]] = []
    active: dict[str, bool | None] = dict.fromkeys(MODES)
    if in_guest:
        active = _active(facts, kernel_log, evidence)
    vmpl = facts.reading("guest.vmpl").value
    return {
        "in_guest": in_guest,
        "hypervisor": facts.identity.hypervisor,
        "emulated": facts.identity.hypervisor == EMULATOR,
        "active": active,
        "vmpl": int(vmpl) if isinstance(vmpl, str) and vmpl.isdecimal() else None,
        "evidence": evidence,
    }


def _in_guest(facts: Facts, kernel_log: Mapping[str, Any]) -> bool | None:
    bit = facts.identity.hypervisor_bit
    if bit is not None:
        return bit
    said = facts.reading("guest.modes").value
    if said and any(said.values()):
        return True
    return {"guest": True, "host": False}.get(kernel_log["role"])


def _active(facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]) -> dict[str, bool | None]:
    """The strongest evidence decides: the MSR, which no host can intercept, then the kernel's log, then CPUID."""
    for judge in (_by_msr, _by_tool, _by_hyperv, _by_log, _by_cpuid, _by_silence):
        found = judge(facts, kernel_log, evidence)
        if found is not None:
            return found
    return dict.fromkeys(MODES)


def _by_msr(
    facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]
) -> dict[str, bool | None] | None:
    del kernel_log
    reading = facts.reading(name_of(NAMED["sev_status"]))
    if not reading.known or not reading.value:
        evidence.append({"from": "msr", "says": f"SEV_STATUS could not be read: {reading.why or 'no CPU'}"})
        return None
    values = set(reading.value.values())
    value = min(values)
    differs = " (differs between CPUs)" if len(values) > 1 else ""
    evidence.append({"from": "msr", "says": f"SEV_STATUS (MSR C001_0131) is {value:#x}{differs}"})
    return {mode: all(v >> bit & 1 for v in values) for mode, bit in _BITS.items()}


def _by_tool(
    facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]
) -> dict[str, bool | None] | None:
    """The list of `snpguest ok`, which reads the MSR of one CPU."""
    del kernel_log
    said = facts.reading("guest.modes").value
    if not said:
        return None
    on = [mode for mode in MODES if said.get(mode)]
    evidence.append({"from": "snpguest", "says": f"SEV_STATUS names {', '.join(on) or 'no protection'}"})
    return {mode: said.get(mode) for mode in MODES}


def _by_hyperv(
    facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]
) -> dict[str, bool | None] | None:
    """Behind a paravisor the guest sees neither the MSR nor the leaf; Hyper-V reports the isolation type."""
    del kernel_log
    leaf = facts.cpus[0][1].get((0x4000000C, 0)) if facts.cpus else None
    if facts.identity.hypervisor != "Hyper-V" or leaf is None or leaf.ebx & 0xF != _HYPERV_SNP:
        return None
    evidence.append({"from": "cpuid", "says": "leaf 0x4000000C: Hyper-V isolates this guest by SEV-SNP"})
    return dict.fromkeys(MODES, True)


def _by_log(
    facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]
) -> dict[str, bool | None] | None:
    del facts
    active = [mode for mode in kernel_log["active"] if mode in MODES]
    if not active:
        return None
    evidence.append({"from": "log", "says": f"the kernel says that {', '.join(active)} is active"})
    return {mode: mode in active for mode in MODES}


def _by_cpuid(
    facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]
) -> dict[str, bool | None] | None:
    """The bit alone proves nothing, since hosts expose the leaf to plain guests; without it no kernel turns SEV on."""
    del kernel_log
    registers = facts.leaf
    if registers is None:
        if facts.identity.max_extended_leaf is None:
            return None
        evidence.append({"from": "cpuid", "says": "no leaf 0x8000001F, which the kernel of an encrypted guest needs"})
        return dict.fromkeys(MODES, False)
    if registers.eax & 0b10:
        evidence.append({"from": "cpuid", "says": "the SEV bit is set, which hosts show to plain guests too"})
        return None
    evidence.append({"from": "cpuid", "says": "the SEV bit is clear: the kernel has not turned encryption on"})
    return dict.fromkeys(MODES, False)


def _by_silence(
    facts: Facts, kernel_log: Mapping[str, Any], evidence: list[dict[str, str]]
) -> dict[str, bool | None] | None:
    del facts
    if not kernel_log["complete"]:
        return None
    evidence.append({"from": "log", "says": "the log goes back to the start and names no active memory encryption"})
    return dict.fromkeys(MODES, False)
