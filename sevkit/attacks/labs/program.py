"""Small programs for a real guest, as machine code: no compiler is needed, and every register is known."""

import struct
import time
from pathlib import Path

from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import GuestError
from sevkit.paths import work_dir

BASE = 0x400000
DATA = BASE + 0x2000  # a separate page after the code
_PATIENCE = 20.0
_HEADER, _PROGRAM_HEADER = 64, 56
ENTRY = BASE + _HEADER + _PROGRAM_HEADER


def elf(code: bytes, pages: int = 1) -> bytes:
    """A static ELF file for x86-64 Linux: ``code`` at ENTRY, and ``pages`` pages of zeros from DATA on (ELF-64)."""
    offset = _HEADER + _PROGRAM_HEADER
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    sizes = (_HEADER, _PROGRAM_HEADER, 1, 0, 0, 0)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, ENTRY, _HEADER, 0, 0, *sizes)
    size, in_memory = offset + len(code), DATA - BASE + pages * 0x1000
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, in_memory, 0x1000)  # PT_LOAD, readable, writable, code
    return header + load + code


def start(lab: GuestLab, name: str, code: bytes, *, pages: int = 1, requests: bool = False) -> None:
    """Run a program in the guest in the background; its exit status will be in /root/sevkit-NAME.status.

    With ``requests`` it reads from the pipe /root/sevkit-NAME.requests and writes to /root/sevkit-NAME.answers; both
    stay open.
    """
    with work_dir("program") as folder:
        file = Path(folder) / name
        file.write_bytes(elf(code, pages))
        lab.guest.put(file, f"/root/{_file(name)}")
    name = _file(name)
    prepare, source = f"cd /root; chmod +x {name}; rm -f {name}.*", ""
    if requests:
        prepare += f"; mkfifo {name}.requests {name}.answers"
        source = f" 0<>{name}.requests 1<>{name}.answers"  # opened for reading and writing, so that they never end
    run = f"(./{name}{source}; echo $? >{name}.status) >/dev/null 2>&1 &"
    done = lab.guest.run(f"{prepare}; {run}")
    if done.status != 0:
        raise GuestError(f"the guest could not start {name}", detail=done.stderr.decode(errors="replace"))


def ended(lab: GuestLab, name: str, *, within: float = _PATIENCE) -> int | None:
    """The exit status of a program that was started; None if it still runs after ``within`` seconds."""
    deadline = time.monotonic() + within
    while True:
        text = lab.guest.run(f"cat /root/{_file(name)}.status 2>/dev/null").text.strip()
        if text.isdigit() or time.monotonic() > deadline:
            return int(text) if text.isdigit() else None
        time.sleep(0.2)


def stop(lab: GuestLab, name: str) -> None:
    """End a program that was started."""
    name = _file(name)
    lab.guest.run(f"killall -9 {name} 2>/dev/null; rm -f /root/{name} /root/{name}.*")


def _file(name: str) -> str:
    """The name of a program's file in the guest, which may be a user's own: none of his files is overwritten."""
    return f"sevkit-{name}"
