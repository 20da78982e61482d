"""Faults that the hardware raises, and the checks whose failure raises them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar


class FaultKind(StrEnum):
    """The exception or exit that a refused access causes."""

    PF_RMP = "#PF(RMP)"  # page fault in the host, RMP bit set in the error code
    NPF = "#NPF"  # nested page fault: exit to the host
    VC = "#VC"  # VMM communication exception in the guest
    GP = "#GP"
    VMEXIT_INVALID = "VMEXIT_INVALID"


class Fault(Exception):  # noqa: N818 - an answer of the machine, not an error of ours
    """A refused access: the kind of fault, the check that failed, and the details."""

    def __init__(self, kind: FaultKind, check: str, detail: str = "") -> None:
        super().__init__(f"{kind} by {check}" + (f": {detail}" if detail else ""))
        self.kind = kind
        self.check = check
        self.detail = detail


Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One condition that the hardware or firmware checks. ``answer`` is the fault or status if it is violated."""

    name: str
    violated: Callable[[Subject], bool]
    answer: object
    source: str


class CheckTable(Generic[Subject]):
    """Checks in their order. ``disabled`` names checks to leave out: mutation tests show that each is needed."""

    def __init__(self, checks: Iterable[Check[Subject]], disabled: frozenset[str] = frozenset()) -> None:
        self.checks = tuple(check for check in checks if check.name not in disabled)

    def first_violated(self, subject: Subject) -> Check[Subject] | None:
        """The first check that fails, or None."""
        for check in self.checks:
            if check.violated(subject):
                return check
        return None
