"""Where facts come from: this machine, or a file whose kind is recognised."""

from sevkit import textfile
from sevkit.errors import BadInputError
from sevkit.probe.facts import Facts, from_dump, parse


def read_source(path: str) -> Facts:
    """Facts from a file: a host saved by sevkit, or a CPUID dump; ``-`` is standard input."""
    data, name = textfile.read_bytes(path)
    return facts_from(data, name)


def facts_from(data: bytes, name: str) -> Facts:
    """Facts from the bytes of a file, recognised by what it begins with."""
    if not data.strip():
        raise BadInputError(f"{name}: the file is empty", hint="record a dump with `cpuid -r > FILE`")
    data = textfile.plain(data, name)
    if data[:4096].lstrip().startswith(b"{"):
        return parse(data, name)
    from sevkit.probe.dumps import looks_like_dump

    if not looks_like_dump(data) and _is_kernel_log(data):
        raise BadInputError(
            f"{name}, line 1: this is a kernel log, not a CPUID dump", hint=f"sevkit probe --log {name}"
        )
    return from_dump(data, name)


def _is_kernel_log(data: bytes) -> bool:
    return b"Linux version " in data[: 1 << 16] or b" kernel: " in data[: 1 << 16]
