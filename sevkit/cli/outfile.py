"""Files that a command writes at its end: refused before the work if they could not be written, and always UTF-8."""

import os
from collections.abc import Callable
from pathlib import Path

from sevkit.errors import NotPermittedError, SevkitError, UsageError


def checked(path: Path | None, option: str) -> Path | None:
    """A file that will be written at the end; raises UsageError or NotPermittedError now when it cannot be."""
    if path is None:
        return None
    if not path.parent.is_dir():
        raise UsageError(f"{option}: there is no folder {path.parent}", hint="make it first")
    if path.is_dir():
        raise UsageError(f"{option}: {path} is a folder", hint="give the name of a file")
    able = os.access(path, os.W_OK) if path.exists() else os.access(path.parent, os.W_OK | os.X_OK)
    if not able:
        raise NotPermittedError(f"{option}: {path} cannot be written", hint="give a file in a directory you own")
    return path


def write(path: Path, text: str) -> None:
    """Write a text as UTF-8 whatever the locale; bytes of names that are not UTF-8 stay as they are."""
    try:
        path.write_bytes(text.encode(errors="surrogateescape"))
    except OSError as error:  # a write, unlike an open, does not say of which file
        raise OSError(error.errno, error.strerror, str(path)) from error


def failure(writing: Callable[[], object]) -> SevkitError | None:
    """Write; an error is returned, not raised: the result of a long run is still printed where its page is not."""
    from sevkit.cli.output import as_ours

    try:
        writing()
    except (OSError, SevkitError) as error:
        return as_ours(error)
    return None
