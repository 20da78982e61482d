"""The user's directories for sevkit's files: cache, state, and run-time."""

import grp
import os
import pwd
import stat
import tempfile
from pathlib import Path

import platformdirs

from sevkit.errors import NotPermittedError

_APP = "sevkit"


def cache_dir(*parts: str) -> Path:
    """A directory below the user's cache, created if missing. Its content can be created again."""
    _make(_below_cache(parts), "SEVKIT_CACHE_DIR")
    return cache_path(*parts)


def _make(path: Path, variable: str, mode: int = 0o755) -> None:
    """Make a directory and those above it: never writable by others (mkdir applies its mode only to the last)."""
    try:
        for each in reversed(path.parents):
            each.mkdir(exist_ok=True, mode=0o755)
        path.mkdir(exist_ok=True, mode=mode)
    except (FileNotFoundError, PermissionError) as error:  # no home directory, or not this user's
        hint = f"set HOME to a directory that can be written to, or {variable}"
        raise NotPermittedError(f"cannot make {path}: {error.strerror}", hint=hint) from error


def cache_path(*parts: str) -> Path:
    """A place below the user's cache that is only named: it need not exist, and the cache may be read-only.

    Raises NotPermittedError if another user may write to what exists of it.
    """
    path = _below_cache(parts)
    for each in (path, *path.resolve().parents):
        if not each.exists():
            continue
        info = each.stat()
        sticky = bool(info.st_mode & stat.S_ISVTX) and each != path  # there only the owner renames
        if info.st_uid not in (os.getuid(), 0) or (_open_to_others(info) and not sticky):
            raise NotPermittedError(
                f"{path} is not safe: another user could put a kernel there that guests would boot ({each})",
                hint=f"chmod go-w {each}, or point SEVKIT_CACHE_DIR at a directory of your own",
            )
    return path


def _below_cache(parts: tuple[str, ...]) -> Path:
    override = os.environ.get("SEVKIT_CACHE_DIR")
    base = Path(override) if override else Path(platformdirs.user_cache_dir(_APP))
    return base.joinpath(*parts)


def _open_to_others(info: os.stat_result) -> bool:
    """Whether others may write: everybody, or a group other than the owner's private group (from useradd)."""
    if info.st_mode & stat.S_IWOTH:
        return True
    if not info.st_mode & stat.S_IWGRP or info.st_gid == 0:
        return False
    try:
        group, owner = grp.getgrgid(info.st_gid), pwd.getpwuid(info.st_uid)
    except KeyError:
        return True
    return group.gr_name != owner.pw_name or bool(set(group.gr_mem) - {owner.pw_name})


def state_dir(*parts: str) -> Path:
    """A private directory (0700) below the user's state, for the registry of detached guests."""
    override = os.environ.get("SEVKIT_STATE_DIR")
    base = Path(override) if override else Path(platformdirs.user_state_dir(_APP))
    return private_dir(base.joinpath(*parts))


def private_dir(path: Path) -> Path:
    """Make ``path`` a directory of ours with mode 0700; refuse a symbolic link or a directory of another user."""
    _make(path, "SEVKIT_STATE_DIR", mode=0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise NotPermittedError(
            f"{path} is not a directory of this user",
            hint="remove it, or point SEVKIT_STATE_DIR at a directory of your own",
        )
    if stat.S_IMODE(info.st_mode) & 0o077:
        path.chmod(0o700)
    _check_parents(path)
    return path


def _check_parents(path: Path) -> None:
    """Refuse a path if another user could replace a directory in it."""
    for parent in path.resolve().parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise NotPermittedError(
                f"{path} is not safe: anybody may rename what lies in {parent}",
                hint=f"chmod o-w {parent}, or point SEVKIT_STATE_DIR at a directory of your own",
            )


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read or write (0600), whatever the umask; a symbolic link is refused."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as stream:  # noqa: PTH123 - a descriptor, not a path
        stream.write(text)


def work_dir(prefix: str) -> "tempfile.TemporaryDirectory[str]":
    """A private temporary directory (0700), removed at the end; a short path, since socket paths are limited to 107."""
    return tempfile.TemporaryDirectory(prefix=f"{_APP}-{prefix}-", ignore_cleanup_errors=True)
