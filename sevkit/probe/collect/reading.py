"""One reading: a value with its origin, or the reason why there is no value."""

from __future__ import annotations

import errno
import os
from typing import Any

# Why a reading has no value. `absent` is not `off`: a missing parameter says nothing about the feature.
ABSENT, DENIED, FAILED = "absent", "denied", "failed"

_ABSENT = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTDIR)
_DENIED = (errno.EACCES, errno.EPERM)


def why(error: OSError) -> tuple[str, str]:
    """The class of a failure and its message."""
    kind = ABSENT if error.errno in _ABSENT else DENIED if error.errno in _DENIED else FAILED
    return kind, (error.strerror or str(error)).lower()


class Readings:
    """Collects readings by name; reading never raises."""

    def __init__(self) -> None:
        self._all: dict[str, dict[str, Any]] = {}

    def value(self, name: str, origin: str, value: Any) -> None:
        """Record a value."""
        self._all[name] = {"from": origin, "value": value}

    def missing(self, name: str, origin: str, kind: str, reason: str) -> None:
        """Record that there is no value, and why."""
        self._all[name] = {"from": origin, "missing": kind, "why": reason}

    def failed(self, name: str, origin: str, error: OSError) -> None:
        """Record an error of the operating system."""
        self.missing(name, origin, *why(error))

    def text(self, name: str, *paths: str, limit: int = 1 << 16) -> str | None:
        """Record the stripped text of the first of these files that exists."""
        last: OSError = FileNotFoundError(errno.ENOENT, "no such file or directory")
        for path in paths:
            try:
                found = read_text(path, limit)
            except OSError as error:
                last = error if error.errno not in _ABSENT or last.errno in _ABSENT else last
                continue
            self.value(name, path, found)
            return found
        self.failed(name, " or ".join(paths), last)
        return None

    def done(self) -> dict[str, dict[str, Any]]:
        """All readings by name."""
        return self._all


def read_bytes(path: str, limit: int) -> bytes:
    """At most ``limit`` bytes of a file; never blocks on a device or pipe."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        parts: list[bytes] = []
        left = limit
        while left > 0:
            part = os.read(handle, min(left, 1 << 18))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def read_text(path: str, limit: int = 1 << 16) -> str:
    """The stripped text of a file; bytes that are not UTF-8 become U+FFFD."""
    return read_bytes(path, limit).decode("utf-8", "replace").replace("\0", " ").strip()
