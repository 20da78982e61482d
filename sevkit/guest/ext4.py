"""Check a file system that mke2fs filled (``-d``): its exit status does not say that every file is in it."""

import re
from collections.abc import Iterable
from pathlib import Path

from sevkit import processes
from sevkit.errors import BadInputError

_TIMEOUT = 600.0
_OWN_INODES = 11  # ten reserved ones and lost+found (Linux: Documentation/filesystems/ext4/special_inodes.rst)


def check_count(disk: Path, folder: Path) -> None:
    """Raise BadInputError unless the file system is sound and has as many files as ``folder`` (links count once)."""
    here = {(status.st_dev, status.st_ino) for status in (entry.lstat() for entry in folder.rglob("*"))}
    there = _inodes(disk) - _OWN_INODES
    if there != len(here):
        raise BadInputError(
            f"the copy of {folder} has {there} files and directories, not {len(here)}", hint="did it change meanwhile?"
        )


def check_files(disk: Path, names: Iterable[str]) -> None:
    """Raise BadInputError unless the file system is consistent and has files of these names."""
    _inodes(disk)
    tool = processes.find_tool("debugfs", package="e2fsprogs")
    for name in names:
        done = processes.run([tool, "-R", f"stat /{name}", str(disk)], timeout=_TIMEOUT)
        if "Inode:" not in done.text:  # debugfs ends with status 0 in any case
            raise BadInputError(f"the file system that was built lacks /{name}", detail=done.error_text)


def _inodes(disk: Path) -> int:
    """The number of inodes in use, from the last line of e2fsck: ``label: 17825/196608 files (...)``."""
    tool = processes.find_tool("e2fsck", package="e2fsprogs")
    argv = [tool, "-f", "-n", str(disk)]
    done = processes.run(argv, timeout=_TIMEOUT, check=BadInputError, env=processes.environment(LC_ALL="C"))
    found = re.search(r"^.*: (\d+)/\d+ files ", done.text, re.MULTILINE)
    if found is None:
        raise BadInputError(f"e2fsck did not say how many files {disk.name} has", detail=done.text)
    return int(found[1])
