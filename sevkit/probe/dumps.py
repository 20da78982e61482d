"""Readers of CPUID text dumps: `cpuid -r` (Todd Allen), and the style of InstLatx64 and AIDA64. Pure.

A dump is somebody else's file. What is not understood is an error that names the line; it is never guessed at, since a
guess could turn into a wrong "supported".
"""

import re
from typing import NamedTuple, NoReturn

from sevkit import textfile
from sevkit.errors import BadInputError
from sevkit.probe.leaf import LEAF, Registers

MAX_BYTES = 32 << 20  # 1,024 CPUs of `cpuid -r` are 10 MB
MAX_CPUS = 8192
MAX_LINE = 4096

_HEX = r"([0-9a-fA-F]{8})"
_RAW_LINE = re.compile(
    rf"\s*0x{_HEX}(?:\s+0x([0-9a-fA-F]{{1,8}}))?:"
    rf"\s+eax=0x{_HEX}\s+ebx=0x{_HEX}\s+ecx=0x{_HEX}\s+edx=0x{_HEX}\s*"
)
_RAW_HEADER = re.compile(r"\s*CPU(?:\s+([0-9]{1,9}))?:\s*")
_RAW_START = re.compile(r"\s*0x[0-9a-fA-F]{4}")
_INST_LINE = re.compile(
    rf"\s*CPUID\s+{_HEX}(?:[.:]([0-9a-fA-F]{{1,8}}))?:\s+{_HEX}-{_HEX}-{_HEX}-{_HEX}(?:\s+\[([^\]]*)\]?)?\s*(?:\[[^\]]*\]?)?\s*"
)
_INST_START = re.compile(r"\s*CPUID\s+[0-9a-fA-F]{4,}")
_INST_HEADER = re.compile(r"(?:Logical CPU\s*#?|CPUID Registers.*CPU\s*#?|^\s*CPU\s*#)([0-9]{1,9})", re.IGNORECASE)
_SUBLEAF = re.compile(r"SL\s+([0-9a-fA-F]{1,8})")

_DUPLICATE_MATTERS = {(0, 0), (1, 0), (0x80000000, 0), (LEAF, 0)}


class CpuDump(NamedTuple):
    """The leaves of one logical CPU, under the number that the dump gives it."""

    cpu: int
    leaves: dict[tuple[int, int], Registers]


class Dump(NamedTuple):
    """A decoded dump: its style (``cpuid-r`` or ``instlatx64``) and its CPUs, in the order of the file."""

    style: str
    cpus: tuple[CpuDump, ...]


def read_dump(data: bytes, name: str = "the dump") -> Dump:
    """Decode a dump of either style; raises BadInputError, with the line, for everything else."""
    lines = _lines(data, name)
    style = _style(lines, name)
    reader = _Reader(name)
    take = reader.raw_line if style == "cpuid-r" else reader.inst_line
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            _refuse(name, number, f"longer than {MAX_LINE} characters", "this is not a text dump of CPUID")
        if line and not line.isspace():
            take(number, line)
    cpus = reader.finished()
    if not cpus:
        _refuse(name, len(lines), "the dump names a CPU but holds no leaf", "record it again with `cpuid -r > FILE`")
    return Dump(style, tuple(cpus))


def looks_like_dump(data: bytes) -> bool:
    """Whether the beginning of a plain text (see `textfile.plain`) has a line of either style."""
    return _first_style(data[: 1 << 20].decode("utf-8", "replace").split("\n")) is not None


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.cpus: list[CpuDump] = []
        self.seen: set[int] = set()
        # CPUs of one machine share most of their lines: each is parsed once.
        self.parsed: dict[str, tuple[tuple[int, int], Registers]] = {}

    def finished(self) -> list[CpuDump]:
        return [cpu for cpu in self.cpus if cpu.leaves]

    def raw_line(self, number: int, line: str) -> None:
        known = self.parsed.get(line)
        if known:
            self._add(number, *known)
            return
        found = _RAW_LINE.fullmatch(line)
        if found:
            leaf, sub, *values = found.groups()
            self._parsed(number, line, (int(leaf, 16), int(sub or "0", 16)), values)
            return
        header = _RAW_HEADER.fullmatch(line)
        if not header:
            _refuse(self.name, number, f"not a line of `cpuid -r`: {_quote(line)}", "is the file cut off or edited?")
        self._start(number, int(header[1]) if header[1] else len(self.cpus))

    def inst_line(self, number: int, line: str) -> None:
        known = self.parsed.get(line)
        if known:
            self._add(number, *known)
            return
        found = _INST_LINE.fullmatch(line)
        if found:
            leaf, sub, *rest = found.groups()
            marked = _SUBLEAF.match(rest[4] or "")
            where = int(leaf, 16), int(sub or (marked[1] if marked else "0"), 16)
            self._parsed(number, line, where, rest[:4])
        elif _INST_START.match(line):
            _refuse(self.name, number, f"a broken CPUID line: {_quote(line)}", "is the file cut off or edited?")
        else:
            header = _INST_HEADER.search(line)
            if header:
                self._start_section(number, int(header[1]))

    def _start(self, number: int, cpu: int) -> None:
        if cpu in self.seen:
            _refuse(self.name, number, f"CPU {cpu} begins a second time", "give the dump of one machine at a time")
        if len(self.cpus) >= MAX_CPUS:
            _refuse(self.name, number, f"more than {MAX_CPUS} CPUs", "give the dump of one machine")
        self.seen.add(cpu)
        self.cpus.append(CpuDump(cpu, {}))

    def _start_section(self, number: int, cpu: int) -> None:
        """InstLatx64 and AIDA64 files repeat a CPU's heading over each kind of table, not only over CPUID registers."""
        if self.cpus and not self.cpus[-1].leaves:
            self.cpus.pop()
        if cpu in self.seen:
            known = [x for x in self.cpus if x.cpu == cpu]
            if known:
                self.cpus.remove(known[0])
                self.cpus.append(known[0])
                return
            self.seen.discard(cpu)
        self._start(number, cpu)

    def _parsed(self, number: int, line: str, where: tuple[int, int], values: list[str]) -> None:
        registers = Registers(*(int(value, 16) for value in values))
        self.parsed[line] = where, registers
        self._add(number, where, registers)

    def _add(self, number: int, where: tuple[int, int], registers: Registers) -> None:
        if not self.cpus:
            self._start(number, 0)
        old = self.cpus[-1].leaves.setdefault(where, registers)
        if old != registers and where in _DUPLICATE_MATTERS:
            _refuse(
                self.name,
                number,
                f"leaf 0x{where[0]:08x} of CPU {self.cpus[-1].cpu} is given twice with different values",
                "give the dump of one machine at a time",
            )


def _style(lines: list[str], name: str) -> str:
    """Which of the two styles a file is in: the first line that only one of them has decides."""
    style = _first_style(lines)
    first = next((n for n, line in enumerate(lines, 1) if line.strip()), 1)
    if style is None:
        _refuse(
            name, first, "no CPUID dump: no line of `cpuid -r` or InstLatx64 style", "record one with `cpuid -r > FILE`"
        )
    return style


def _first_style(lines: list[str]) -> str | None:
    for line in lines:
        head = line[:MAX_LINE]
        if _INST_START.match(head):
            return "instlatx64"
        if _RAW_START.match(head) or _RAW_HEADER.fullmatch(head):
            return "cpuid-r"
    return None


def _lines(data: bytes, name: str) -> list[str]:
    if not data.strip():
        raise BadInputError(f"{name}: the file is empty", hint="record a dump with `cpuid -r > FILE`")
    if len(data) > MAX_BYTES:
        raise BadInputError(
            f"{name}: larger than {MAX_BYTES >> 20} MiB", hint="a CPUID dump is a few kilobytes per CPU"
        )
    return textfile.text(data, name, MAX_BYTES).split("\n")


def _quote(line: str) -> str:
    cut = line.strip()[:60]
    return ascii(cut + ("…" if len(line.strip()) > 60 else "")).replace("\\u2026", "…")


def _refuse(name: str, line: int, what: str, hint: str) -> NoReturn:
    raise BadInputError(f"{name}, line {line}: {what}", hint=hint)
