"""Where facts come from: this machine, or a file whose kind is recognised."""

import os
import stat
import sys

from sevkit.errors import BadInputError
from sevkit.probe.facts import Facts, from_dump, parse

MAX_BYTES = 64 << 20


def read_source(path: str) -> Facts:
    """Facts from a file: a host saved by sevkit, or a CPUID dump; ``-`` is standard input."""
    data, name = read_file(path)
    return facts_from(data, name)


def facts_from(data: bytes, name: str) -> Facts:
    """Facts from the bytes of a file, recognised by what it begins with."""
    head = data[:4096].removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] == b"{":
        return parse(data, name)
    from sevkit.probe.dumps import looks_like_dump

    if not looks_like_dump(data) and _is_kernel_log(data):
        raise BadInputError(
            f"{name}, line 1: this is a kernel log, not a CPUID dump", hint=f"sevkit probe --log {name}"
        )
    return from_dump(data, name)


def _is_kernel_log(data: bytes) -> bool:
    return b"Linux version " in data[: 1 << 16] or b" kernel: " in data[: 1 << 16]


def read_file(path: str, limit: int = MAX_BYTES) -> tuple[bytes, str]:
    """The bytes of a file and the name to call it in messages. Never more than ``limit`` bytes, never a directory."""
    try:
        if path == "-":
            data, name = sys.stdin.buffer.read(limit + 1), "standard input"
        else:
            data, name = _read(path, limit), path
    except OSError as error:
        raise BadInputError(
            f"cannot read {path}: {(error.strerror or str(error)).lower()}", hint="check the path"
        ) from error
    if len(data) > limit:
        raise BadInputError(
            f"{name}: larger than {limit >> 20} MiB", hint="this is not a dump, log or host saved by sevkit"
        )
    return data, name


def _read(path: str, limit: int) -> bytes:
    with open(path, "rb", opener=lambda p, flags: os.open(p, flags | os.O_NONBLOCK)) as file:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(0, "it is a directory")
        os.set_blocking(file.fileno(), True)
        return file.read(limit + 1)
