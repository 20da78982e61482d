"""Waiting in tests: until something holds, never for a time that should suffice."""

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds. What takes longer hangs; on a machine under load everything else takes a few times as long as on a quiet
one. Below the 300 s after which pytest-timeout ends a test, so that the test itself says what it waited for."""


def until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = PATIENCE) -> None:
    """Poll until a condition holds; fails with ``what`` was waited for, or what it says at the end."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.02)
