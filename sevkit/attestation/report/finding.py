"""Findings of checks, and the verdict that follows from them."""

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from sevkit.attestation.payload import CheckRow


class Status(StrEnum):
    """The outcome of one check."""

    PASS = "pass"  # noqa: S105 - not a password
    WARNING = "warning"
    UNKNOWN = "unknown"
    FAIL = "fail"


class Trust(StrEnum):
    """The verdict on a report."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"


class Finding(NamedTuple):
    """One check's outcome: one word and one sentence."""

    check: str
    status: Status
    text: str

    def as_dict(self) -> CheckRow:
        """The finding, JSON-ready."""
        return {"check": self.check, "status": self.status.value, "text": self.text}


def verdict(findings: Iterable[Finding]) -> Trust:
    """One failure rejects; without a failure, one undecided check makes the verdict inconclusive."""
    statuses = {item.status for item in findings}
    if Status.FAIL in statuses:
        return Trust.REJECTED
    return Trust.INCONCLUSIVE if Status.UNKNOWN in statuses else Trust.ACCEPTED
