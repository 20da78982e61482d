"""The lines of a results directory that are neither boots nor samples: what happened beside the measurements.

Each has ``record()``, its line of the store, and is read by ``event_from``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sevkit.bench.model import checked
from sevkit.errors import BadInputError


@dataclass(frozen=True, slots=True)
class SlotEnd:
    """A slot is finished, whether or not its guest came up, and took ``seconds``."""

    slot: str
    booted: bool
    seconds: float

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {"kind": "slot", "id": self.slot, "booted": self.booted, "seconds": self.seconds}


@dataclass(frozen=True, slots=True)
class Failure:
    """A workload, a boot (``workload`` is ``boot``) or a whole block (``block``) failed.

    ``error`` is the class of the error, ``detail`` the words of another program, ``time`` seconds since 1970.
    """

    slot: str
    workload: str
    message: str
    cell: str = ""
    arm: str = ""
    error: str = ""
    detail: str | None = None
    time: float = 0.0

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {
            "kind": "failure",
            "cell": self.cell,
            "slot": self.slot,
            "workload": self.workload,
            "arm": self.arm,
            "error": self.error,
            "message": self.message,
            "detail": self.detail,
            "time": self.time,
        }


@dataclass(frozen=True, slots=True)
class Skipped:
    """A workload that a slot could not run."""

    slot: str
    workload: str
    reason: str

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {"kind": "skipped", "slot": self.slot, "workload": self.workload, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that an import left out."""

    file: str
    reason: str

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {"kind": "skipped", "file": self.file, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Discarded:
    """A boot that came up unlike its neighbours and was taken again."""

    slot: str
    attempt: int
    reason: str

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {"kind": "discarded", "slot": self.slot, "attempt": self.attempt, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The wall clock jumped by ``seconds``; ``time`` is what it said afterwards."""

    seconds: float
    time: float

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {"kind": "clock", "seconds": self.seconds, "time": self.time}


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """The rule under which a campaign begins, or goes on after ``rounds`` rounds; written when it is a new one.

    Whoever changes it could look at the numbers before.
    """

    most_boots: int
    budget: float
    target: float
    rounds: int = 0

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        rule = {"most_boots": self.most_boots, "budget": self.budget, "target": self.target}
        return {"kind": "rule", **rule, "rounds": self.rounds}

    def same(self, other: "StoppingRule") -> bool:
        """Whether two say the same, whenever they were given."""
        return self == replace(other, rounds=self.rounds)


@dataclass(frozen=True, slots=True)
class Stop:
    """The campaign ended: why, and after how many rounds."""

    reason: str
    rounds: int

    def record(self) -> dict[str, Any]:
        """As a line of the store."""
        return {"kind": "stop", "reason": self.reason, "rounds": self.rounds}


Event = SlotEnd | Failure | Skipped | SkippedFile | Discarded | ClockJump | StoppingRule | Stop


def event_from(record: Mapping[str, Any]) -> Event | None:
    """Read a line of the store; None for a kind that this version does not know.

    Raises BadInputError when the line is not what its kind says.
    """
    kind = str(record.get("kind"))
    read = _READERS.get(kind)
    try:
        return None if read is None else read(record)
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise BadInputError(f"not a record of kind {kind}: {type(error).__name__}: {error}") from error


def _failure(record: Mapping[str, Any]) -> Failure:
    detail = record.get("detail")
    return Failure(
        slot=str(record.get("slot", "")),
        workload=str(record.get("workload", "")),
        message=str(record["message"]),
        cell=str(record.get("cell", "")),
        arm=str(record.get("arm", "")),
        error=str(record.get("error", "")),
        detail=None if detail is None else str(detail),
        time=checked(record.get("time", 0.0)),
    )


def _skipped(record: Mapping[str, Any]) -> Skipped | SkippedFile:
    if "file" in record:
        return SkippedFile(str(record["file"]), str(record["reason"]))
    return Skipped(str(record["slot"]), str(record["workload"]), str(record["reason"]))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Event]] = {
    "slot": lambda r: SlotEnd(str(r["id"]), bool(r["booted"]), checked(r["seconds"])),
    "failure": _failure,
    "skipped": _skipped,
    "discarded": lambda r: Discarded(str(r["slot"]), int(r["attempt"]), str(r["reason"])),
    "clock": lambda r: ClockJump(checked(r["seconds"]), checked(r.get("time", 0.0))),
    "rule": lambda r: StoppingRule(
        int(r["most_boots"]), checked(r["budget"]), checked(r["target"]), int(r.get("rounds", 0))
    ),
    "stop": lambda r: Stop(str(r["reason"]), int(r["rounds"])),
}
