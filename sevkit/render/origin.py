"""Where the facts of `sevkit probe` come from, in words and labels: those of a file say nothing about this machine."""

from collections.abc import Mapping
from typing import Any

LABELS = ("kind", "host", "taken")
_HERE = ("live", "shell")  # read now: on this machine, or on another one by --host


def words(source: Mapping[str, Any]) -> list[str]:
    """A line for people if the facts were not read just now; else nothing."""
    if source["kind"] in _HERE:
        return []
    if source["kind"] != "snapshot":
        return [f"from a file ({source['recorded']}): not this machine as it is now"]
    host, taken = source["host"] or "an unnamed host", source["taken"]
    return [f"saved facts of {host}{f', taken {taken}' if taken else ''}: not this machine as it is now"]


def labels(source: Mapping[str, Any]) -> dict[str, str]:
    """The same for programs: ``kind`` (``live``, ``shell``, or the kind of file), ``host`` and ``taken`` if known."""
    return {name: str(source[name]) for name in LABELS if source[name] is not None}
