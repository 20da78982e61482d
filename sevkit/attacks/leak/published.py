"""The published article's own commands, really run: ``dmesg`` and ``cat`` in the guest, ``grep`` on the core."""

import re
from pathlib import Path
from typing import Any

from sevkit import processes
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import CaptureError, MissingToolError
from sevkit.guest import secrets

_LIMIT = 600.0  # seconds for grep: a core can have many GiB
_DMESG = "dmesg | grep -i sev"
_CAT = "cat /root/sevkit-secret"


def grep(core: Path, text: bytes) -> list[int] | None:
    """The offsets of a text in a core, by grep itself; None without grep. Raises CaptureError when it fails.

    The text goes in by a pipe, so that no list of processes shows it.
    """
    try:
        program = processes.find_tool("grep")
    except MissingToolError:
        return None
    descriptor = re.fullmatch(r"/proc/self/fd/(\d+)", str(core))
    done = processes.run(
        [program, "-a", "-o", "-b", "-F", "-f", "-", str(core)],
        stdin=text,
        timeout=_LIMIT,
        env=processes.environment(LC_ALL="C"),
        pass_fds=[int(descriptor[1])] if descriptor else [],
    )
    if done.status not in (0, 1):
        raise CaptureError(f"grep of {core} failed", detail=done.error_text)
    return [int(line.partition(":")[0]) for line in done.text.splitlines()]


def in_guest(lab: GuestLab) -> dict[str, Any]:
    """What the guest prints for the article's commands; only after the capture, since the text passes through the VMM.

    The secret in the kernel's log is left out: it matches the pattern as well.
    """
    log = lab.guest.run(_DMESG).text.splitlines()
    return {
        "dmesg": {"command": _DMESG, "lines": [line for line in log if "SEVKIT-" not in line]},
        "cat": {"command": _CAT, "lines": lab.guest.run(_CAT).text.splitlines()},
    }


def text(nonce: bytes) -> bytes:
    """What the guest has written into the file."""
    return secrets.secret(nonce, secrets.PLACES[0])
