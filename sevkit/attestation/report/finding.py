"""What a check says, and what many of them make: findings and the verdict."""

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
    """One check's outcome, in a word and in a sentence."""

    check: str
    status: Status
    text: str

    def as_dict(self) -> CheckRow:
        """The finding, JSON-ready."""
        return {"check": self.check, "status": self.status.value, "text": self.text}


def verdict(findings: Iterable[Finding]) -> Trust:
    """One failure rejects; without one, anything that could not be decided leaves the verdict open."""
    statuses = {item.status for item in findings}
    if Status.FAIL in statuses:
        return Trust.REJECTED
    return Trust.INCONCLUSIVE if Status.UNKNOWN in statuses else Trust.ACCEPTED
