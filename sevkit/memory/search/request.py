"""`sevkit scan` from request to result, independent of the command line."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from sevkit.errors import ExitCode, InconclusiveError, UsageError
from sevkit.memory.guest_ram.layout import command_line_of, guess, guess_largest
from sevkit.memory.search import report
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import MAX_HITS, scan
from sevkit.result import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sevkit.memory.guest_ram.layout import GuestMap
    from sevkit.memory.payload import Scan
    from sevkit.memory.search.workers import Progress
    from sevkit.memory.sources.base import MemorySource

    FileName = os.PathLike[str] | str


_LEAST_HALVED = 12  # bytes
_HEX_MARKS = re.compile(r"\b0[xX]|[:,]")  # as gdb and C, or openssl and network programs write bytes
_NOT_SEARCHED = "what was not found may be in the part that was not searched"
_MORE_HITS = "there may be more hits than these: give a larger --max-hits"


class Request(NamedTuple):
    """The options of `sevkit scan`."""

    pid: int | None = None
    core: FileName | None = None
    qmp: FileName | None = None
    hold: bool = False
    secrets: Sequence[str] = ()
    secrets_file: str | None = None
    regexes: Sequence[str] = ()
    wide: bool = False
    hexadecimal: bool = False
    halves: bool = False
    ram_only: bool = False
    show: bool = False
    max_hits: int = MAX_HITS
    threads: int | None = None
    guest: GuestMap | None = None  # the location of guest RAM, if known from the hypervisor


def answer(request: Request, progress: Progress | None = None) -> Result[Scan]:
    """Run the request and return its result envelope. The ``data`` of the result is what `--json` prints."""
    patterns = make_patterns(
        request.secrets,
        request.secrets_file,
        request.regexes,
        wide=request.wide,
        hexadecimal=request.hexadecimal,
        halves=request.halves,
    )
    known = request.guest or told_by(request.qmp)
    with opened(request.pid, request.core, hold=request.hold) as source:
        guest = known or find_guest(source, request.pid)
        if request.ram_only and guest is None:
            raise UsageError("no guest RAM was found in this memory", hint="give --qmp, or leave --ram-only out")
        within = guest.host_ranges() if request.ram_only and guest else None
        result = scan(
            source,
            patterns,
            threads=request.threads,
            within=within,
            progress=progress,
            max_hits=request.max_hits,
        )
        data = report.as_dict(source, result, patterns, guest, show=request.show, ram_only=request.ram_only)
    hint = _MORE_HITS if len({hit.pattern for hit in result.hits}) == len(patterns) else _NOT_SEARCHED
    errors = [InconclusiveError("; ".join(data["doubts"]), hint=hint)] if data["doubts"] else []
    return Result("scan", data, ExitCode.INCONCLUSIVE if errors else ExitCode.DONE, errors)


def opened(pid: int | None, core: FileName | None, *, hold: bool = False) -> MemorySource:
    """The memory that the options name."""
    if (pid is None) == (core is None):
        raise UsageError("no memory is named", hint="give one of --guest NAME, --pid PID, --core FILE")
    if core is not None:
        from sevkit.memory.sources.core import CoreMemory

        return CoreMemory(core)
    from sevkit.memory.sources.process import LiveMemory

    assert pid is not None
    return LiveMemory(pid, stop=hold)


def told_by(qmp: FileName | None) -> GuestMap | None:
    """Where guest RAM is, asked of QEMU itself: before its process is held, since it does not answer then."""
    if qmp is None:
        return None
    from pathlib import Path

    from sevkit.memory.guest_ram.qemu_layout import guest_map

    return guest_map(Path(qmp))


def find_guest(source: MemorySource, pid: int | None) -> GuestMap | None:
    """Find guest RAM in the memory itself, by the most reliable way available; None if none is found."""
    if getattr(source, "physical", False):
        from sevkit.memory.guest_ram.picture import physical_map

        return physical_map(source)
    if pid is not None:
        return guess(source.regions(), command_line_of(pid))
    return guess_largest(source.regions())


def make_patterns(
    secrets: Sequence[str],
    secrets_file: str | None,
    regexes: Sequence[str],
    *,
    wide: bool = False,
    hexadecimal: bool = False,
    halves: bool = False,
) -> list[Pattern]:
    """The patterns that the options name. Raises UsageError when there are none."""
    literal = [(f"secret {number}", os.fsencode(value)) for number, value in enumerate(secrets, 1)]
    if secrets_file is not None:
        literal += [(f"line {number}", line) for number, line in _lines(secrets_file)]
    if (wide or hexadecimal or halves) and not literal:
        raise UsageError("--wide, --hex and --halves are for secrets", hint="give --secret or --secrets-file")
    if hexadecimal:
        literal = [(name, _from_hex(name, value)) for name, value in literal]
    if wide:
        literal += [(f"{name} (UTF-16)", _utf16(name, value)) for name, value in literal]
    patterns = [Pattern(value, name=name) for name, value in literal]
    if halves:
        patterns += [half for name, value in literal for half in _halves(name, value)]
    patterns += [Pattern(os.fsencode(value), regex=True, name=f"regex {n}") for n, value in enumerate(regexes, 1)]
    if not patterns:
        raise UsageError("nothing to search for", hint="give --secret, --secrets-file or --regex")
    return patterns


def _from_hex(name: str, value: bytes) -> bytes:
    try:
        return bytes.fromhex(_HEX_MARKS.sub(" ", value.decode()))
    except ValueError as error:
        raise UsageError(
            f"{name} is not hexadecimal: pairs of the digits 0 to 9 and a to f",
            hint="0x, colons, commas and spaces may stand between pairs",
        ) from error


def _halves(name: str, value: bytes) -> list[Pattern]:
    """Two halves of a secret: wherever one border of a page cuts it, one of them is still in one piece."""
    if len(value) < _LEAST_HALVED:
        raise UsageError(f"{name} has {len(value)} bytes: halves of less than {_LEAST_HALVED // 2} are found by chance")
    middle = len(value) // 2
    return [Pattern(value[:middle], name=f"{name} (first half)"), Pattern(value[middle:], name=f"{name} (second half)")]


def _utf16(name: str, value: bytes) -> bytes:
    try:
        return value.decode().encode("utf-16-le")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8: it has no form in UTF-16", hint="leave --wide out") from error


def _lines(name: str) -> list[tuple[int, bytes]]:
    """The lines of a file that are not empty, with their numbers, without line ends and byte order mark."""
    from sevkit import textfile

    lines = enumerate(textfile.plain(*textfile.read_bytes(name)).split(b"\n"), 1)
    return [(number, line) for number, line in lines if line]
