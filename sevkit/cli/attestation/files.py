"""Read files and folders for the attestation commands: limited in size, and with errors that name the file."""

import os
from collections.abc import Iterator
from pathlib import Path

from sevkit import textfile
from sevkit.errors import BadInputError, NotPermittedError

MOST_BYTES = 1 << 30
MOST_FILES = 10_000


def read(path: Path, most: int = MOST_BYTES) -> bytes:
    """The contents of a file; raises BadInputError or NotPermittedError with its name."""
    data = _read(path, most + 1)
    if len(data) > most:
        raise BadInputError(f"{path} is larger than {most >> 20} MiB")
    return data


def _read(path: Path, most: int) -> bytes:
    try:
        with open(path, "rb", opener=textfile.at_once) as file:
            os.set_blocking(file.fileno(), True)
            return file.read(most)
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise BadInputError(f"{path} is a directory") from error
    except PermissionError as error:
        raise NotPermittedError(f"{path}: permission denied") from error
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error


def read_optional(path: Path | None, most: int = MOST_BYTES) -> bytes | None:
    """The contents of a file, or None without one."""
    return None if path is None else read(path, most)


def files_under(path: Path, most: int) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of a file, or of each regular file right in a folder.

    Of a file in a folder that is larger than ``most`` the first ``most`` + 1 bytes: the caller decides what it is.
    """
    if not path.is_dir():
        yield str(path), read(path, most)
        return
    for number, file in enumerate(sorted(item for item in path.iterdir() if item.is_file())):
        if number >= MOST_FILES:
            raise BadInputError(f"{path} holds more than {MOST_FILES} files")
        yield str(file), _read(file, most + 1)
