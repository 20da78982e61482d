"""One class a cause. Every error says what went wrong and, where there is one, what to do about it."""

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
    """Base of all errors that sevkit raises on purpose.

    ``message`` says what and where in one line, ``hint`` what the reader can do, ``detail`` carries
    the words of another program (QEMU, gdb) unchanged.
    """

    exit_code = ExitCode.ENVIRONMENT

    def __init__(self, message: str, *, hint: str | None = None, detail: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail = detail

    @property
    def kind(self) -> str:
        """The class name: what a program reading ``--json`` tests for."""
        return type(self).__name__

    def as_dict(self) -> dict[str, Any]:
        """The error as it stands in the ``errors`` list of the result envelope."""
        return {
            "kind": self.kind,
            "message": self.message,
            "hint": self.hint,
            "detail": self.detail,
            "exit_code": self.exit_code,
        }


class UsageError(SevkitError):
    """The command line, or a value on it, makes no sense."""

    exit_code = ExitCode.USAGE


class BadInputError(SevkitError):
    """A file or stream given by the user is damaged, foreign, or hostile."""

    exit_code = ExitCode.USAGE


class MissingToolError(SevkitError):
    """A program, library, kernel or device that this needs is not here."""


class NotPermittedError(SevkitError):
    """The operating system refused what this needs (ptrace, a device, a directory)."""


class NoSpaceError(SevkitError):
    """A disk or memory filled up."""


class CaptureError(SevkitError):
    """The memory of a process could not be captured."""


class UnsupportedModeError(SevkitError):
    """No hypervisor here can run the mode asked for."""


class HypervisorError(SevkitError):
    """A hypervisor did not start, or failed."""

    exit_code = ExitCode.GUEST


class GuestError(SevkitError):
    """A guest did not boot, died, or did not do what it was asked."""

    exit_code = ExitCode.GUEST


class DeadlineError(GuestError):
    """A wait reached its deadline; the message names what it waited for."""


class InconclusiveError(SevkitError):
    """An experiment could not decide."""

    exit_code = ExitCode.INCONCLUSIVE
