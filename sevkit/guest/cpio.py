"""Write an initramfs in the "newc" cpio format (Linux: early-userspace/buffer-format.rst).

cpio(1) is not used: it would have to run as root to archive files of root and device nodes.
"""

import stat
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One member of the archive: a path without leading slash, its mode with type bits, and its content."""

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str) -> Entry:
    """A directory."""
    return Entry(path, stat.S_IFDIR | 0o755)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(path, stat.S_IFREG | mode, data)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int) -> Entry:
    """A character device node."""
    return Entry(path, stat.S_IFCHR | 0o600, device=(major, minor))


def pack(entries: list[Entry]) -> bytes:
    """The archive: entries in the given order, with missing parent directories added, without times, owned by root."""
    done: set[str] = set()
    parts: list[bytes] = []
    for entry in entries:
        for parent in _parents(entry.path):
            if parent not in done:
                done.add(parent)
                parts.append(_member(len(done), directory(parent)))
        if entry.path not in done:
            done.add(entry.path)
            parts.append(_member(len(done), entry))
    parts.append(_member(0, Entry("TRAILER!!!", 0)))
    return b"".join(parts)


def _parents(path: str) -> list[str]:
    pieces = path.split("/")[:-1]
    return ["/".join(pieces[: i + 1]) for i in range(len(pieces))]


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % value for value in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
