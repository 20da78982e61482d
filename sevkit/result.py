"""The versioned result envelope: the same structure for success and failure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

from sevkit.errors import ExitCode, SevkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Payload = TypeVar("Payload")
Status = Literal["success", "partial", "error"]

RESULT_VERSION = 1


class Result(NamedTuple, Generic[Payload]):
    """The result of a command, for any renderer.

    ``data`` has JSON values only. ``exit_code`` is the exit status of the process; a result with both data and errors
    is ``partial``. ``human(data)`` returns the lines for people; commands without it print only errors. ``then`` runs
    after the result was printed, for example to keep a guest running until the command ends.
    """

    command: str
    data: Payload | None = None
    exit_code: int = ExitCode.DONE
    errors: Sequence[SevkitError] = ()
    human: Callable[[Payload], Iterable[str]] | None = None
    then: Callable[[], None] | None = None

    @property
    def status(self) -> Status:
        """``success`` if there are no errors, ``partial`` if there are both data and errors."""
        if not self.errors:
            return "success"
        return "error" if self.data is None else "partial"

    def shown_as(self, human: Callable[[Payload], Iterable[str]]) -> Result[Payload]:
        """The same result, with a function for its human-readable text."""
        return self._replace(human=human)

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
        """The envelope as one JSON document. ASCII only, so valid in every locale and for names that are not UTF-8."""
        return json.dumps(self.envelope(), indent=2) + "\n"


def failure(command: str, error: SevkitError) -> Result[None]:
    """The envelope of a command that raised ``error``."""
    return Result(command=command, exit_code=error.exit_code, errors=(error,))
