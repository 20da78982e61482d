"""One ioctl in a guest that has no compiler and no Python: a static program of 300 bytes that runs on any Linux.

The program holds no knowledge of any device. It reads an image of its memory from standard input, opens the device that
the image names, runs the ioctl, and writes the image back. So all structures are built, and read, on the host:

    0x500000  number of the ioctl      <- in
    0x500008  result of open           -> out: a descriptor, or -errno
    0x500010  result of the ioctl      -> out
    0x500020  path of the device, ended by a zero
    0x500100  the argument of the ioctl; the caller lays out the rest, up to 0x507000
"""

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sevkit.errors import GuestError
from sevkit.guest.result import CommandResult

BASE, SIZE = 0x500000, 0x7000
ARGUMENT = 0x100
_PATH = 0x20
_TEXT = 0x400000
_TIMEOUT = 60.0

# Machine code and its source (Intel syntax); a test assembles the right column and compares it with the left one.
CODE = (
    ("bb00005000", "mov ebx, 0x500000"),
    ("ba00705000", "read: mov edx, 0x507000"),
    ("29da", "sub edx, ebx"),
    ("4889de", "mov rsi, rbx"),
    ("31ff", "xor edi, edi"),
    ("31c0", "xor eax, eax"),
    ("0f05", "syscall"),  # read(0, position, what is left)
    ("4801c3", "add rbx, rax"),
    ("85c0", "test eax, eax"),
    ("7fe9", "jg read"),
    ("bf20005000", "mov edi, 0x500020"),
    ("6a02", "push 2"),
    ("5e", "pop rsi"),
    ("6a02", "push 2"),
    ("58", "pop rax"),
    ("0f05", "syscall"),  # open(path, O_RDWR)
    ("4889042508005000", "mov [0x500008], rax"),
    ("85c0", "test eax, eax"),
    ("781b", "js answer"),
    ("89c7", "mov edi, eax"),
    ("8b342500005000", "mov esi, [0x500000]"),
    ("ba00015000", "mov edx, 0x500100"),
    ("6a10", "push 16"),
    ("58", "pop rax"),
    ("0f05", "syscall"),  # ioctl(descriptor, number, argument)
    ("4889042510005000", "mov [0x500010], rax"),
    ("bb00005000", "answer: mov ebx, 0x500000"),
    ("ba00705000", "write: mov edx, 0x507000"),
    ("29da", "sub edx, ebx"),
    ("4889de", "mov rsi, rbx"),
    ("6a01", "push 1"),
    ("5f", "pop rdi"),
    ("6a01", "push 1"),
    ("58", "pop rax"),
    ("0f05", "syscall"),  # write(1, position, what is left)
    ("4801c3", "add rbx, rax"),
    ("85c0", "test eax, eax"),
    ("7fe7", "jg write"),
    ("31ff", "xor edi, edi"),
    ("6a3c", "push 60"),
    ("58", "pop rax"),
    ("0f05", "syscall"),  # exit(0)
)
_SCRIPT = r"""
set -e
file=$(mktemp)
trap 'rm -f "$file"' EXIT
dd bs="$1" count=1 iflag=fullblock of="$file" status=none
chmod 700 "$file"
"$file"
"""


class Runs(Protocol):
    """What runs commands: a guest."""

    def run(self, command: list[str], *, stdin: bytes, timeout: float) -> CommandResult:
        """As hypervisor/protocols.py describes it."""
        ...


@dataclass(frozen=True)
class Answer:
    """What came back: results are -errno on failure (``opened`` of the device), ``memory`` is the whole image."""

    opened: int
    status: int
    memory: bytes

    @property
    def error(self) -> str | None:
        """The name of the error, such as ENOENT; None if all went well."""
        worst = self.opened if self.opened < 0 else self.status
        return errno.errorcode.get(-worst, str(worst)) if worst < 0 else None


def program() -> bytes:
    """The program as an ELF file: a header, a segment with the code, and one with the memory of the image."""
    code = bytes.fromhex("".join(row[0] for row in CODE))
    start = 64 + 2 * 56
    size = start + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, 62, 1, _TEXT + start, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    text = struct.pack("<IIQQQQQQ", 1, 5, 0, _TEXT, _TEXT, size, size, 4096)
    data = struct.pack("<IIQQQQQQ", 1, 6, 0, BASE, BASE, 0, SIZE, 4096)
    return head + text + data + code


def image(device: str, number: int, parts: Mapping[int, bytes]) -> bytes:
    """The memory that the program starts with; ``parts`` are bytes by offset, the argument at ARGUMENT."""
    found = bytearray(SIZE)
    for at, part in {0: struct.pack("<I", number), _PATH: device.encode() + b"\0", **parts}.items():
        found[at : at + len(part)] = part
    return bytes(found)


def run(guest: Runs, device: str, number: int, parts: Mapping[int, bytes]) -> Answer:
    """Run an ioctl in a guest; raises GuestError if the program cannot run there."""
    binary = program()
    line = ["sh", "-c", _SCRIPT, "sevkit", str(len(binary))]
    done = guest.run(line, stdin=binary + image(device, number, parts), timeout=_TIMEOUT)
    if done.status or len(done.stdout) != SIZE:
        raise GuestError(
            f"the guest could not run a program that asks {device}",
            hint="its temporary folder (TMPDIR) must allow programs to be executed",
            detail=done.stderr.decode(errors="replace"),
        )
    opened, status = struct.unpack_from("<qq", done.stdout, 8)
    return Answer(opened, status, done.stdout)
