"""What a list of guests cannot show: folders that cannot be read, and VMMs of sevkit's that are in no record here.

Guests of another user, or with another SEVKIT_STATE_DIR or HOME, have another registry. That they are not in this one
does not mean that they do not run.
"""

import os
import pwd
from collections.abc import Collection
from pathlib import Path

from sevkit import procfs
from sevkit.hypervisor import registry
from sevkit.hypervisor.payload import UnlistedGuest

_MOCK = "sevkit.hypervisor.mock.vmm"


def unlisted(listed: Collection[int]) -> list[UnlistedGuest]:
    """Guests that run, or may run, without being in the registry; ``listed`` are the PIDs of those that are in it."""
    found: list[UnlistedGuest] = [
        {"name": name, "pid": None, "user": None, "reason": reason} for name, reason in registry.unreadable()
    ]
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdecimal()):  # noqa: PTH208 - names suffice
        name = None if pid in listed else _name(pid)
        if name is not None:
            reason = "another user's, or of another SEVKIT_STATE_DIR, or being started"
            found.append({"name": name, "pid": pid, "user": _user(pid), "reason": reason})
    return found


def _name(pid: int) -> str | None:
    """The name of the guest whose VMM a process is; None for other processes."""
    words = procfs.command_line(pid).decode(errors="replace").split("\0")
    option = "--name" if _MOCK in words else "-name"
    value = words[words.index(option) + 1] if option in words[:-1] else ""
    if option == "--name":
        return value or None
    qemu = "qemu" in Path(words[0]).name
    return value.removeprefix("sevkit-") if qemu and value.startswith("sevkit-") else None


def _user(pid: int) -> str | None:
    try:
        owner = Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None
    try:
        return pwd.getpwuid(owner).pw_name
    except KeyError:
        return str(owner)
