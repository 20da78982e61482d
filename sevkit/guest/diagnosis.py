"""Find out from a guest's console why it did not boot. Pure."""

import re
from typing import NamedTuple

_ESCAPES = re.compile(r"\x1b\[[0-9;?=]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00-\x08\x0b-\x1f\x7f]")


class Cause(NamedTuple):
    """Something that certainly prevents a guest from booting: one sentence, and what to do about it."""

    message: str
    hint: str


class _Sign(NamedTuple):
    pattern: re.Pattern[str]
    message: str
    hint: str


# The last messages of firmware and kernels that cannot continue: EDK2's BdsDxe, SeaBIOS' boot.c, Linux' panic().
_SIGNS = (
    _Sign(
        re.compile(r"Kernel panic - not syncing: (?P<why>[^\n]*)"),
        "the guest's kernel panicked: {why}",
        "`VFS` and `init` in it point to the initrd or root disk, `memory` to a too small --memory",
    ),
    _Sign(
        re.compile(r">>Start (PXE|HTTP) over IPv|PXE-E\d\d|BdsDxe: failed to load Boot\d+ .*PXE"),
        "the firmware found nothing to boot and tries the network (PXE)",
        "a kernel: give more --memory, it did not fit; a disk: it has no boot loader for this firmware",
    ),
    _Sign(
        re.compile(r"No bootable option or device was found|No bootable device|Boot failed: not a bootable disk"),
        "the firmware found nothing to boot",
        "is there a boot loader for this firmware on the disk? --firmware chooses another",
    ),
    _Sign(
        re.compile(r"!!!! X64 Exception Type[^\n]*"),
        "the firmware crashed",
        "the console's last lines say where; another --memory or --cpu may help",
    ),
    _Sign(
        re.compile(r"linux: Out of memory|Out of memory and no killable processes|System is deadlocked on memory"),
        "the guest ran out of memory",
        "give more --memory",
    ),
)


def cause(console: str) -> Cause | None:
    """The reason why a guest will not boot; None while it still may."""
    text = clean(console)
    for sign in _SIGNS:
        found = sign.pattern.search(text)
        if found:
            return Cause(sign.message.format(**found.groupdict()), sign.hint)
    return None


def late(console: str, seconds: float) -> Cause:
    """The message for a guest that did not answer within ``seconds`` and whose console shows no cause."""
    message = f"the guest's agent did not answer within {seconds:g} s"
    if not clean(console).strip():
        return Cause(
            f"{message}, and nothing was printed on its console",
            "does the image boot with this firmware, and print on the serial console (console=ttyS0)?",
        )
    return Cause(message, "the console's last lines are above; if it was still booting there, a longer --timeout helps")


def clean(console: str) -> str:
    """The console without control sequences for cursor and colours: firmware draws menus."""
    return _ESCAPES.sub("", console.replace("\r\n", "\n").replace("\r", "\n"))


def tail(console: str, lines: int = 15) -> str:
    """The last lines that are not empty."""
    full = [line.rstrip() for line in clean(console).splitlines() if line.strip()]
    return "\n".join(full[-lines:])
