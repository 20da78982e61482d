"""One exception class per cause. Every error says what went wrong and, if possible, what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class ExitCode:
    """Exit codes of every sevkit command."""

    DONE = 0
    NO = 1  # asked, and the answer is no
    USAGE = 2
    INCONCLUSIVE = 3
    ENVIRONMENT = 4  # the environment lacks something
    GUEST = 5  # a guest or hypervisor failed
    INTERRUPTED = 130


class SevkitError(Exception):
    """Base class of all errors that sevkit raises on purpose.

    ``message`` says in one line what went wrong and where, ``hint`` what the user can do. ``detail`` is the unchanged
    output of another program (QEMU, gdb).
    """

    exit_code = ExitCode.ENVIRONMENT

    def __init__(self, message: str, *, hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    @property
    def kind(self) -> str:
        """The class name: programs that read ``--json`` test for it."""
        return type(self).__name__

    def as_dict(self) -> dict[str, Any]:
        """The error as an item of ``errors`` in the result envelope."""
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "detail": self.detail,
            "exit_code": self.exit_code,
        }


class UsageError(SevkitError):
    """The command line, or a value in it, is invalid."""

    exit_code = ExitCode.USAGE


class BadInputError(SevkitError):
    """A file or stream from the user is damaged, hostile, or of an unknown format."""

    exit_code = ExitCode.USAGE


class MissingToolError(SevkitError):
    """A required program, library, kernel or device is missing."""


class NotPermittedError(SevkitError):
    """The operating system refused a required access (ptrace, a device, a directory)."""


class NoSpaceError(SevkitError):
    """A disk or the memory is full."""


class CaptureError(SevkitError):
    """The memory of a process could not be captured."""


class LostSchedulerError(SevkitError):
    """The scheduler of a cluster is gone in the middle of a campaign; what was measured is recorded."""


class UnsupportedModeError(SevkitError):
    """No hypervisor here can run the requested mode."""


class HypervisorError(SevkitError):
    """A hypervisor did not start, or failed."""

    exit_code = ExitCode.GUEST


class GuestError(SevkitError):
    """A guest did not boot, died, or did not execute a request."""

    exit_code = ExitCode.GUEST


class DeadlineError(GuestError):
    """A wait reached its deadline; the message names what it waited for."""


class InconclusiveError(SevkitError):
    """An experiment had no conclusive result."""

    exit_code = ExitCode.INCONCLUSIVE
