"""One line of progress on stderr, on a terminal only."""

import sys
import time
from typing import Any


class Line:
    """A line that is written over, at most ten times a second."""

    def __init__(self, *, quiet: bool) -> None:
        self._on = sys.stderr.isatty() and not quiet
        self._last = 0.0
        self._shown = False

    def show(self, progress: Any) -> None:
        """Show how far a campaign is, and the time left."""
        now = time.monotonic()
        if not self._on or now - self._last < 0.1:
            return
        self._last = now
        left = "" if progress.left is None else f", about {_span(progress.left)} left"
        text = f"boot {progress.done + 1} of {progress.total}{left}: {progress.text}"
        sys.stderr.write(f"\r\x1b[K{text[:110]}")
        sys.stderr.flush()
        self._shown = True

    def say(self, text: str) -> None:
        """Show a message of a hypervisor or image build."""
        if self._on:
            sys.stderr.write(f"\r\x1b[K{text}\n")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave the terminal clean."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
