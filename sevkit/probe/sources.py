"""The sources of facts: this machine, or a file of a recognised kind."""

from sevkit import textfile
from sevkit.errors import BadInputError
from sevkit.probe.facts import Facts, from_dump, parse


def read_source(path: str) -> Facts:
    """Facts from a file: a host saved by sevkit, a CPUID dump, other programs' output, a bundle of such files.

    ``-`` is standard input. Raises BadInputError.
    """
    from sevkit.probe.bundle import is_bundle, read_bundle

    if is_bundle(path):
        return read_bundle(path)
    data, name = textfile.read_bytes(path)
    return facts_from(data, name)


def facts_from(data: bytes, name: str) -> Facts:
    """Facts from the bytes of a file; the first bytes identify its kind."""
    if not data.strip():
        raise BadInputError(f"{name}: the file is empty", hint="record a dump with `cpuid -r > FILE`")
    data = textfile.plain(data, name)
    if b'"sevkit_' in data[:4096]:
        return parse(data, name)
    from sevkit.probe.dumps import looks_like_dump

    if looks_like_dump(data):
        return from_dump(data, name)
    return _of_other_programs(data, name)


def _of_other_programs(data: bytes, name: str) -> Facts:
    from sevkit.probe.bundle import facts_of_text

    found = facts_of_text(data, name)
    if found is not None and "kernel.log" in found.raw["readings"]:
        raise BadInputError(
            f"{name}, line 1: this is a kernel log, not a CPUID dump", hint=f"sevkit probe --log {name}"
        )
    if found is not None:
        return found
    if data.lstrip().startswith(b"{"):
        return parse(data, name)
    if b"Linux version " in data[: 1 << 16] or b" kernel: " in data[: 1 << 16]:
        raise BadInputError(
            f"{name}, line 1: this is a kernel log, not a CPUID dump", hint=f"sevkit probe --log {name}"
        )
    return from_dump(data, name)
