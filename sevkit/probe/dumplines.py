"""The lines of CPUID text dumps, in the forms of the programs that write them. Pure.

cpuid -r (Todd Allen); InstLatx64, AIDA64 and CPU-Z; Linux's kcpuid -r, x86info -r, cpuid_dump_rs, and libcpuid's raw
files; tycho's cpuid and FreeBSD's cpucontrol. A line that begins like a row but is not one is damaged. It is never
guessed, since a guess could lead to a wrong "supported". Any other line (a heading, a prompt, other registers of a
CPU) is ignored.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from sevkit.probe.leaf import Registers
from sevkit.probe.undress import uncoloured, unnumbered, unquoted

_V = r"(?:0x)?([0-9a-fA-F]{8})h?"
_X = r"0x([0-9a-fA-F]{8})"
_4 = rf"\s+{_X}" * 4
_4_NAMED = rf"\s+(?:e.x=)?{_V}" * 4
_SUB = r"(?:0x)?([0-9a-fA-F]{1,8})"
_NOTES = r"\s*(?:\[.*)?"


def _inst(between: str) -> re.Pattern[str]:
    """InstLatx64 and AIDA64: registers with hyphens or with blanks between them, with or without a colon."""
    return re.compile(
        rf"\s*CPUID\s+{_V}(?:[.:]([0-9a-fA-F]{{1,8}})(?=[\s:]))?(?:\s*:\s*|\s+)"
        rf"{_V}{between}{_V}{between}{_V}{between}{_V}{_NOTES}",
        re.IGNORECASE,
    )


# style -> the form of a row: leaf, subleaf (or None), four registers
_ROWS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("cpuid-r", re.compile(rf"\s*{_X}(?:\s+{_SUB})?:\s+eax={_X}\s+ebx={_X}\s+ecx={_X}\s+edx={_X}\s*")),
    ("instlatx64", _inst("-")),
    ("instlatx64", _inst(r"[ \t]+")),
    (
        "kcpuid",
        re.compile(
            rf"\s*{_X}(?:(?:_|\s+|\[){_SUB}\]?)?\s*:\s+EAX\s*=\s*{_X},?\s+EBX\s*=\s*{_X},?\s+ECX\s*=\s*{_X},?\s+EDX\s*=\s*{_X}\s*",
            re.IGNORECASE,
        ),
    ),
    ("cpuid-tycho", re.compile(rf"\s*CPUID {_V}:([0-9a-fA-F]{{1,8}}) = {_V} {_V} {_V} {_V}(?: \|.*)?\s*")),
    ("cpuid_dump", re.compile(rf"\s*{_V}_x([0-9a-fA-F]{{1,8}}):{_4_NAMED}{_NOTES}")),
    ("cpu-z", re.compile(rf"\s*{_X}()?{_4}\s*")),
    ("cpucontrol", re.compile(rf"\s*cpuid level 0x([0-9a-f]{{1,8}})()?:{_4}\s*")),
    ("cpuid_dump", re.compile(rf"\s*{_X}\s+0x([0-9a-fA-F]{{1,8}}):\s+{_X}\s+{_X}\s+{_X}\s+{_X}{_NOTES}")),
    (
        "x86info",
        re.compile(rf"\s*eax in:\s*{_X}()?,\s*eax = {_V}\s+ebx = {_V}\s+ecx = {_V}\s+edx = {_V}\s*"),
    ),
)
_LIBCPUID = re.compile(
    r"\s*(basic_cpuid|ext_cpuid|intel_fn4|intel_fn11|intel_fn12h|intel_fn14h|amd_fn8000001dh|amd_fn80000026h)"
    r"\[(\d{1,3})\]\s*=\s*([0-9a-fA-F]{8}) ([0-9a-fA-F]{8}) ([0-9a-fA-F]{8}) ([0-9a-fA-F]{8})\s*"
)
_LIBCPUID_LEAVES = {
    "intel_fn4": 4, "intel_fn11": 0xB, "intel_fn12h": 0x12, "intel_fn14h": 0x14,
    "amd_fn8000001dh": 0x8000001D, "amd_fn80000026h": 0x80000026,
}  # fmt: skip
_BEGINS = re.compile(
    r"\s*(?:CPUID\s+(?:0x)?[0-9a-fA-F]{4,8}[\s.:-]|0x[0-9a-fA-F]{4,}[\s:=_]|[0-9a-fA-F]{8}h_x|cpuid level 0x|eax in:"
    r"|(?:basic|ext)_cpuid\[|amd_fn8)"
)
_SUBLEAF = re.compile(r"\[SL\s+([0-9a-fA-F]{1,8})")

_BEGIN = re.compile(r"\s*CPU(?:[ \t]+([0-9]{1,9}))?:\s*")
_SECTION = re.compile(
    r"(?:Logical CPU\s*#?|CPUID Registers.*CPU\s*#?|^\s*CPU\s*#|^\s*CPU Thread\s+)([0-9]{1,9})(?![\w.])", re.IGNORECASE
)
_AFFINITY = re.compile(r"\s*Group:\s*0x([0-9a-fA-F]{1,8})\s+Affinity mask:\s*0x([0-9a-fA-F]{1,16})\s*")
_X2APIC = re.compile(r"\s*\[Pkg: *\d+,.*x2APIC: *(\d{1,9})\]\s*")


class Row(NamedTuple):
    """One leaf of one CPU."""

    style: str
    leaf: int
    sub: int
    registers: Registers


class Heading(NamedTuple):
    """The start of a CPU (or, for a ``section``, its continuation); ``cpu`` is None if the heading has no number."""

    cpu: int | None
    section: bool


def parse(line: str) -> Row | Heading | str | None:
    """A row, a heading, the text of a damaged line, or None for a line that is not about CPUID."""
    plain = unquoted(uncoloured(line))
    return _parsed(plain) or _parsed(unnumbered(plain))


def _parsed(line: str) -> Row | Heading | str | None:
    row = _row(line)
    if row:
        return row
    return line if _BEGINS.match(line) else _heading(line)


def _row(line: str) -> Row | None:
    for style, form in _ROWS:
        found = form.fullmatch(line)
        if not found:
            continue
        leaf, sub, *values = found.groups()
        marked = None if sub else _SUBLEAF.search(line)
        where = int(sub or (marked[1] if marked else "0"), 16)
        return Row(style, int(leaf, 16), where, Registers(*(int(value, 16) for value in values)))
    found = _LIBCPUID.fullmatch(line)
    if not found:
        return None
    array, index, *values = found.groups()
    number = int(index)
    leaf, sub = {"basic_cpuid": (number, 0), "ext_cpuid": (0x80000000 + number, 0)}.get(array, (-1, number))
    return Row(
        "libcpuid",
        _LIBCPUID_LEAVES[array] if leaf < 0 else leaf,
        sub,
        Registers(*(int(value, 16) for value in values)),
    )


def _heading(line: str) -> Heading | None:
    begin = _BEGIN.fullmatch(line)
    if begin:
        return Heading(int(begin[1]) if begin[1] else None, False)
    affinity = _AFFINITY.fullmatch(line)
    if affinity:
        mask = int(affinity[2], 16)
        return Heading(int(affinity[1], 16) * 64 + max(mask.bit_length() - 1, 0), True)
    named = _X2APIC.fullmatch(line) or _SECTION.search(line)
    return Heading(int(named[1]), True) if named else None
