"""Readiness checks: the types and outcomes that the tables of checks are made of. Pure."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from sevkit.probe import leaf as leaf_table
from sevkit.probe.collect.msr import NAMED, name_of
from sevkit.probe.facts import Facts, Reading
from sevkit.probe.guest import guest_report
from sevkit.probe.leaf import Registers
from sevkit.probe.payload import GuestState

PASS, FAIL, SKIP, UNKNOWN = "pass", "fail", "skip", "unknown"

# Weights: how a check affects the verdict on a mode.
REQUIRED = "required"  # failed: not ready; unknown: the verdict is unknown too
COUNTER = "counter"  # counter-evidence: a failure means not ready; unknown has no effect
ADVICE = "advice"  # information only: does not affect the verdict

ALL = ("sme", "sev", "sev-es", "sev-snp")
SEV_UP = ("sev", "sev-es", "sev-snp")
ES_UP = ("sev-es", "sev-snp")
SNP = ("sev-snp",)


class Conclusion(NamedTuple):
    """The conclusion of one check: one word and one sentence."""

    status: str
    message: str


class Check(NamedTuple):
    """One line of the table. ``generation`` is the first mode that the check matters for."""

    id: str
    category: str
    modes: tuple[str, ...]
    weight: str
    description: str
    reads: str
    hint: str
    depends_on: tuple[str, ...]
    run: "Callable[[Case], Conclusion]"

    @property
    def generation(self) -> str:
        """The first mode that needs this check."""
        return self.modes[0]


class Case:
    """The facts to be checked, with values that several checks derive from them."""

    def __init__(self, facts: Facts, kernel_log: Mapping[str, Any]) -> None:
        self.facts = facts
        self.kernel_log = kernel_log

    def read(self, name: str) -> Reading:
        """A reading by name."""
        return self.facts.reading(name)

    def msr(self, register: str | int) -> Reading:
        """A register by name or number: values by CPU. A register that was not read on every CPU is treated as not read."""
        reading = self.facts.reading(name_of(NAMED[register] if isinstance(register, str) else register))
        missing = {str(cpu) for cpu, _ in self.facts.cpus} - set(reading.value or ()) if reading.known else set()
        if not missing:
            return reading
        return Reading(
            reading.origin, None, "failed", f"not read on {len(missing)} CPUs, first {min(missing, key=int)}"
        )

    @cached_property
    def leaves(self) -> list[Registers]:
        """Leaf 0x8000001F of every CPU that has it."""
        return [registers for _, registers in self.facts.leaf_values() if registers is not None]

    @cached_property
    def leaf_status(self) -> str | None:
        """The status of the leaf, as `leaf.status` names it."""
        identity = self.facts.identity
        return leaf_table.status(identity.vendor, identity.max_extended_leaf, self.facts.leaf, identity.family)

    @cached_property
    def guest(self) -> GuestState:
        """The guest report."""
        return guest_report(self.facts, self.kernel_log)

    @property
    def kernel_flags(self) -> list[str] | None:
        """The features that the kernel lists in /proc/cpuinfo; None when that is not known."""
        value = self.read("cpuinfo.flags").value
        return value if isinstance(value, list) else None


def passed(message: str) -> Conclusion:
    """The check passed."""
    return Conclusion(PASS, message)


def failed(message: str) -> Conclusion:
    """The check failed."""
    return Conclusion(FAIL, message)


def unknown(reading: Reading | str) -> Conclusion:
    """The check could not be decided, and why."""
    if isinstance(reading, str):
        return Conclusion(UNKNOWN, reading)
    return Conclusion(UNKNOWN, f"{reading.origin}: {reading.why}")


def decide(good: bool, yes: str, no: str) -> Conclusion:
    """Pass with the first sentence or fail with the second."""
    return passed(yes) if good else failed(no)
