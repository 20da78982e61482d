"""The result of a command in a guest."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CommandResult:
    """Exit status and the two streams, byte for byte."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")
