"""The versioned result envelope: one shape for success and failure alike."""

from __future__ import annotations

from sevkit.errors import ExitCode, SevkitError
from sevkit.light import TYPE_CHECKING, NamedTuple, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Literal

    Status = Literal["success", "partial", "error"]

RESULT_VERSION = 1


class Result(NamedTuple):
    """What a command has to say, ready for any renderer.

    ``data`` holds JSON values only. ``exit_code`` is the exit status of the process; a result with errors beside data
    is ``partial``.
    """

    command: str
    data: Any = None
    exit_code: int = ExitCode.DONE
    errors: Sequence[SevkitError] = ()

    @property
    def status(self) -> Status:
        """``success`` when there is nothing to complain about, ``partial`` when there is data as well as errors."""
        if not self.errors:
            return "success"
        return "error" if self.data is None else "partial"

    def envelope(self) -> dict[str, Any]:
        """The result as JSON-ready mapping."""
        return {
            "sevkit_result_version": RESULT_VERSION,
            "command": self.command,
            "status": self.status,
            "exit_code": self.exit_code,
            "data": self.data,
            "errors": [error.as_dict() for error in self.errors],
        }

    def to_json(self) -> str:
        """The envelope as text, one document, ending in a newline."""
        return to_json(self.envelope()) + "\n"


def failure(command: str, error: SevkitError) -> Result:
    """The envelope of a command that raised ``error``."""
    return Result(command=command, exit_code=error.exit_code, errors=(error,))
