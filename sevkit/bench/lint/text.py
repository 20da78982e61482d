"""Rules that look at the scripts beside the results: fio and QEMU commands, shell tests, compile jobs."""

import re
from collections.abc import Iterator, Mapping

from sevkit.bench.lint.rules import Finding, Severity

_CONTINUED = re.compile(r"\\\n\s*")
_SWALLOWED = re.compile(r"""--[\w-]+=("[^"\n]*"|'[^'\n]*'|[^\s"']+?)(--[a-z][\w-]*=)""")
_ALWAYS_TRUE = re.compile(r"""\[\s+\S+?[^\s=!]==[^\s=]\S*\s+\]""")
_DRIVE = re.compile(r"-drive\s+([^\s]+)")
_MAKE = re.compile(r"\bmake\b[^\n|;&]*?\s-j\s*(\d+)")
_SCONS = re.compile(r"\bscons\b(?![^\n|;&]*\s-j)[^\n]*platform")
_BACKEND = re.compile(r"-object\s+(memory-backend-[\w-]+)")
_SEV = re.compile(r"sev(-snp)?-guest")
_SHELL = (".sh", ".bash")


def check(texts: Mapping[str, str], *, guests: bool) -> list[Finding]:
    """All findings on scripts, each given as name and text. ``guests``: the results come from several modes."""
    found: list[Finding] = []
    for name, text in texts.items():
        joined = _CONTINUED.sub(" ", text)
        for number, line in enumerate(joined.splitlines(), 1):
            found += _line(name, number, line.strip())
    found += _backing(texts)
    if guests and not any(_DRIVE.search(text) for text in texts.values()):
        found.append(
            Finding(
                "host-cache",
                Severity.NOTE,
                ".",
                "nothing here says how the host caches the guests' disks: with QEMU's default, direct=1 in the guest "
                "reads the host's page cache",
                "-drive …,cache=none, and keep the command line beside the results",
            )
        )
    return found


def _line(name: str, number: int, line: str) -> Iterator[Finding]:
    place = f"{name}:{number}"
    if line.startswith("#"):
        return
    if "fio" in line and (match := _SWALLOWED.search(line)):
        shown = match.group(0)
        fix = f'put a space before "{match.group(2)}"'
        message = f"a space is missing: {shown}"
        yield Finding("missing-space", Severity.ERROR, place, message, fix, {"text": shown})
    if name.endswith(_SHELL) and (test := _ALWAYS_TRUE.search(line)):
        message = f"{test.group(0)} is one word and always true"
        fix = "write spaces around the operator: [ a = b ]"
        yield Finding("shell-test", Severity.ERROR, place, message, fix, {"text": test.group(0)})
    yield from _drives(place, line)
    yield from _parallel(place, line)


def _drives(place: str, line: str) -> Iterator[Finding]:
    for drive in _DRIVE.findall(line):
        options = drive.strip("\"'")
        if "if=pflash" in options or "readonly" in options or "media=cdrom" in options:
            continue
        if not re.search(r"cache=(none|directsync)|cache\.direct=on", options):
            message = "the disk goes through the host's page cache (cache=writeback is QEMU's default)"
            evidence = {"drive": options}
            yield Finding("host-cache", Severity.ERROR, place, message, "-drive …,cache=none,aio=native", evidence)


def _parallel(place: str, line: str) -> Iterator[Finding]:
    if match := _MAKE.search(line):
        message = f"make -j{match.group(1)}, whatever the number of vCPUs"
        yield Finding("parallelism", Severity.NOTE, place, message, 'make -j"$(nproc)"', {"text": match.group(0)})
    if _SCONS.search(line):
        yield Finding("parallelism", Severity.NOTE, place, "scons without -j uses one CPU", 'scons -j"$(nproc)"')


def _backing(texts: Mapping[str, str]) -> Iterator[Finding]:
    """Compare the scripts that start an encrypted guest with those that start a plain one."""
    encrypted: dict[str, set[str]] = {}
    plain: dict[str, set[str]] = {}
    for name, text in texts.items():
        if "qemu-system" in text:
            side = encrypted if _SEV.search(text) else plain
            side[name] = set(_BACKEND.findall(_CONTINUED.sub(" ", text)))
    for name, backends in encrypted.items():
        for other, others in plain.items():
            if backends != others:
                left, right = (", ".join(sorted(b)) or "QEMU's default" for b in (backends, others))
                message = f"memory is backed by {left} here and by {right} in {other}: huge pages and faults differ too"
                fix = "back both guests alike, e.g. memory-backend-memfd with the same page size"
                evidence = {name: sorted(backends), other: sorted(others)}
                yield Finding("backing-differs", Severity.ERROR, name, message, fix, evidence)
