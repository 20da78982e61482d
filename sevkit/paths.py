"""Where sevkit keeps things on this machine: cache, state and run-time directories of the user."""

import os
import stat
import tempfile
from pathlib import Path

import platformdirs

from sevkit.errors import NotPermittedError

_APP = "sevkit"


def cache_dir(*parts: str) -> Path:
    """A directory below the user's cache, made if missing. What lies there can be made again."""
    override = os.environ.get("SEVKIT_CACHE_DIR")
    base = Path(override) if override else Path(platformdirs.user_cache_dir(_APP))
    path = base.joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


def state_dir(*parts: str) -> Path:
    """A private directory (0700) below the user's state, for the registry of detached guests."""
    override = os.environ.get("SEVKIT_STATE_DIR")
    base = Path(override) if override else Path(platformdirs.user_state_dir(_APP))
    return private_dir(base.joinpath(*parts))


def private_dir(path: Path) -> Path:
    """Make ``path`` a directory of ours with mode 0700; refuse a symbolic link or a directory of another user."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise NotPermittedError(
            f"{path} is not a directory of this user",
            hint="remove it, or point SEVKIT_STATE_DIR at a directory of your own",
        )
    if stat.S_IMODE(info.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def work_dir(prefix: str) -> "tempfile.TemporaryDirectory[str]":
    """A private temporary directory (0700) that removes itself; short, since socket paths end at 107 bytes."""
    return tempfile.TemporaryDirectory(prefix=f"{_APP}-{prefix}-", ignore_cleanup_errors=True)
