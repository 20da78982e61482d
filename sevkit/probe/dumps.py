"""Read whole CPUID text dumps: assign lines to CPUs, and reject unusable dumps. Pure.

The forms of the lines are in `dumplines`. A dump comes from elsewhere: damage is an error that names the line.
"""

import re
from typing import NamedTuple, NoReturn

from sevkit import textfile
from sevkit.errors import BadInputError
from sevkit.probe import decoded
from sevkit.probe.dumplines import Heading, Row, parse
from sevkit.probe.leaf import LEAF, Registers

MAX_BYTES = 32 << 20  # 1,024 CPUs of `cpuid -r` are 10 MB
MAX_CPUS = 8192
MAX_LINE = 4096
FORMS = "cpuid -r, InstLatx64, AIDA64, kcpuid -r, x86info -r, cpuid_dump, CPU-Z, libcpuid, cpucontrol"
_RECORD = "record one with `cpuid -r > FILE`"
_EDITED = "is the file cut off or edited?"
_ONE_MACHINE = "give the dump of one machine at a time"

# Leaves for which a second, different value of one CPU is an error, and the registers that must agree.
# Leaf 1 EBX is not among them: it holds the number of the CPU.
_MUST_AGREE = {(0, 0): 4, (1, 0): 1, (0x80000000, 0): 4, (LEAF, 0): 4}


_MAY_BE = re.compile(r"cpuid|eax|\bCPU\b|0x[0-9a-f]{8}|h_x", re.IGNORECASE)


class CpuDump(NamedTuple):
    """The leaves of one logical CPU, with its number in the dump."""

    cpu: int
    leaves: dict[tuple[int, int], Registers]


class Dump(NamedTuple):
    """A decoded dump: the style of its first row and its CPUs, in the order of the file."""

    style: str
    cpus: tuple[CpuDump, ...]


def read_dump(data: bytes, name: str = "the dump") -> Dump:
    """Decode a dump of any known form; raises BadInputError, with the line, for everything else."""
    lines = _lines(data, name)
    reader = _Reader(name)
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LINE:
            _refuse(name, number, f"longer than {MAX_LINE} characters", "this is not a text dump of CPUID")
        if line and not line.isspace():
            reader.take(number, line)
    cpus = reader.finished()
    if cpus:
        return Dump(reader.style, tuple(cpus))
    registers = decoded.read(lines, name)
    if registers is None:
        _refuse_empty(name, lines, reader.headings)
    return Dump("cpuid", (CpuDump(0, {(LEAF, 0): registers}),))


def _refuse_empty(name: str, lines: list[str], headings: int) -> NoReturn:
    if headings:
        _refuse(name, len(lines), "the dump names a CPU but holds no leaf", "record it again with `cpuid -r > FILE`")
    first = next((n for n, line in enumerate(lines, 1) if line.strip()), 1)
    _refuse(name, first, f"no CPUID dump: no line has a form that is known ({FORMS})", _RECORD)


def looks_like_dump(data: bytes) -> bool:
    """Whether the beginning of a plain text (see `textfile.plain`) contains a row or a heading of a dump."""
    lines = data[: 1 << 20].decode("utf-8", "replace").split("\n")
    if any(decoded.HEADING in line for line in lines):
        return True
    found = (parse(line[:MAX_LINE]) for line in lines if _MAY_BE.search(line))
    return any(isinstance(item, (Row, str)) or (item is not None and not item.section) for item in found)


class _Reader:
    """Assigns rows to CPUs. Leaf 0, or the row that the current CPU's section began with, starts the next CPU."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.style = ""
        self.cpus: dict[int, CpuDump] = {}
        self.headings = 0
        self._current: int | None = None
        self._section: dict[tuple[int, int], None] = {}
        self._known: dict[str, Row | Heading | str | None] = {}  # CPUs of a machine share most of their lines

    def finished(self) -> list[CpuDump]:
        found = [cpu for cpu in self.cpus.values() if cpu.leaves]
        self._one_machine(found)
        return found

    def take(self, number: int, line: str) -> None:
        if line in self._known:
            item = self._known[line]
        else:
            item = self._known[line] = parse(line)
        if isinstance(item, Row):
            self._row(number, item)
        elif isinstance(item, Heading):
            self._heading(number, item)
        elif item is not None:
            _refuse(self.name, number, f"a damaged line of a CPUID dump: {_quote(item)}", _EDITED)

    def _heading(self, number: int, heading: Heading) -> None:
        self.headings += 1
        cpu = heading.cpu
        if cpu is None:  # "CPU:" of `cpuid -1`: the leaves of one CPU, one per call
            cpu = 0 if self._current is None else self._current
        elif not heading.section and cpu in self.cpus and self.cpus[cpu].leaves:
            _refuse(self.name, number, f"CPU {cpu} begins a second time", _ONE_MACHINE)
        self._begin(number, cpu)

    def _begin(self, number: int, cpu: int) -> None:
        if cpu not in self.cpus:
            if len(self.cpus) >= MAX_CPUS:
                _refuse(self.name, number, f"more than {MAX_CPUS} CPUs", "give the dump of one machine")
            self.cpus[cpu] = CpuDump(cpu, {})
        self._current = cpu
        self._section = {}

    def _row(self, number: int, row: Row) -> None:
        self.style = self.style or row.style
        where = row.leaf, row.sub
        if self._current is None:
            self._begin(number, 0)
        elif where in self._section and (where == (0, 0) or where == next(iter(self._section))):
            self._next_cpu(number, where)
        self._section[where] = None
        assert self._current is not None
        old = self.cpus[self._current].leaves.setdefault(where, row.registers)
        agree = _MUST_AGREE.get(where, 0)
        if old[:agree] != row.registers[:agree]:
            _refuse(
                self.name,
                number,
                f"leaf 0x{row.leaf:08x} of CPU {self._current} is given twice with different values",
                _ONE_MACHINE,
            )

    def _next_cpu(self, number: int, where: tuple[int, int]) -> None:
        """Leaf 0 again starts the next CPU, unless the CPU has only this row so far (the leaf was queried twice)."""
        if len(self._section) > 1 and where[0] in (0, 0x80000000):
            self._begin(number, max(self.cpus) + 1)

    def _one_machine(self, cpus: list[CpuDump]) -> None:
        """Reject a file with two machines: it would look like one machine with CPUs that differ."""
        signatures = {cpu.leaves[1, 0].eax >> 4 for cpu in cpus if (1, 0) in cpu.leaves}
        vendors = {cpu.leaves[0, 0][1:] for cpu in cpus if (0, 0) in cpu.leaves}
        if len(signatures) > 1 or len(vendors) > 1:
            raise BadInputError(f"{self.name}: CPUs of different models", hint=_ONE_MACHINE)


def _lines(data: bytes, name: str) -> list[str]:
    if not data.strip():
        raise BadInputError(f"{name}: the file is empty", hint=_RECORD)
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
