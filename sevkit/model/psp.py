"""Shared by the SEV and the SNP firmware: status codes, commands as data, and the refusal of a command."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Status(IntEnum):
    """Status codes of the firmware (SEV API 55766, SEV-SNP firmware ABI 56860)."""

    SUCCESS = 0x00
    INVALID_PLATFORM_STATE = 0x01
    INVALID_GUEST_STATE = 0x02
    INVALID_CONFIG = 0x03
    INVALID_LENGTH = 0x04
    ALREADY_OWNED = 0x05
    INVALID_CERTIFICATE = 0x06
    POLICY_FAILURE = 0x07
    INACTIVE = 0x08
    INVALID_ADDRESS = 0x09
    BAD_SIGNATURE = 0x0A
    BAD_MEASUREMENT = 0x0B
    ASID_OWNED = 0x0C
    INVALID_ASID = 0x0D
    WBINVD_REQUIRED = 0x0E
    DF_FLUSH_REQUIRED = 0x0F
    INVALID_GUEST = 0x10
    INVALID_COMMAND = 0x11
    ACTIVE = 0x12
    HWERROR_PLATFORM = 0x13
    HWERROR_UNSAFE = 0x14
    UNSUPPORTED = 0x15
    INVALID_PARAM = 0x16
    RESOURCE_LIMIT = 0x17
    SECURE_DATA_INVALID = 0x18
    INVALID_PAGE_SIZE = 0x19
    INVALID_PAGE_STATE = 0x1A
    INVALID_MDATA_ENTRY = 0x1B
    INVALID_PAGE_OWNER = 0x1C
    AEAD_OFLOW = 0x1D
    RMP_INIT_REQUIRED = 0x20
    INVALID_KEY = 0x27


class Refused(Exception):  # noqa: N818 - an answer of the machine, not an error of ours
    """The firmware refused a command: its status, and the check that failed."""

    def __init__(self, command: str, status: Status, check: str) -> None:
        super().__init__(f"{command}: {status.name} by {check}")
        self.command = command
        self.status = status
        self.check = check


Test = Callable[[Any], bool]


@dataclass(frozen=True)
class Rule:
    """One check of a command: its name, the condition that violates it, and the status of a violation."""

    name: str
    violated: Test
    status: Status


@dataclass(frozen=True)
class Command:
    """A firmware command as data.

    ``platform`` and ``guest`` are the states it is legal in (empty ``guest``: it takes no guest); ``to`` is the
    guest's state afterwards, None if it stays. ``rules`` are checked in their order; the names ``platform-state``,
    ``guest-handle`` and ``guest-state`` among them stand for the checks of the states.
    """

    code: int
    name: str
    platform: frozenset[Any]
    guest: frozenset[Any] = frozenset()
    to: Any = None
    rules: tuple[Rule, ...] = ()


def enforce(command: Command, subject: Any) -> None:
    """Check the rules in order; raises Refused at the first that is violated."""
    for rule in command.rules:
        if rule.violated(subject):
            raise Refused(command.name, rule.status, rule.name)
