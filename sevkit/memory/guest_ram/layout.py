"""Translate between host addresses in the VMM and guest-physical addresses."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from sevkit.memory.sources.base import Region

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sevkit.memory.sources.base import Range

_LETTERS = {"": 1 << 20, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_UNITS = {letter + end: size for letter, size in _LETTERS.items() for end in ("", "i", "ib", "b")}
GIB = 1 << 30
# As options of QEMU's command line, or in JSON: {"driver":"pc-dimm",...} (quotes removed).
_DEVICE = re.compile(r"(\{.*driver:)?(pc-dimm|nvdimm|virtio-mem|virtio-pmem)\b")
_BACKEND = re.compile(r"(\{.*qom-type:)?memory-backend-")


class GuestRange(NamedTuple):
    """A stretch of guest RAM in a VMM. Sizes and addresses in bytes."""

    name: str
    gpa: int
    size: int
    host_address: int | None


class GuestAddress(NamedTuple):
    """A host address as guest memory: its RAM block and guest-physical address."""

    block: str
    gpa: int


class GuestMap:
    """The layout of guest RAM in the VMM. ``origin``: where from (``qmp``, ``hypervisor``, ``guess``, ``core``)."""

    def __init__(self, blocks: Iterable[GuestRange], origin: str = "hypervisor") -> None:
        self.blocks: tuple[GuestRange, ...] = tuple(sorted(blocks, key=lambda block: block.gpa))
        self.origin = origin
        self._mapped = sorted(
            ((block.host_address, block) for block in self.blocks if block.host_address is not None),
            key=lambda pair: pair[0],
        )
        self._starts = [start for start, _ in self._mapped]

    @property
    def size(self) -> int:
        """Bytes of guest RAM."""
        return sum(block.size for block in self.blocks)

    def host_ranges(self) -> list[Range]:
        """The host addresses that hold guest RAM."""
        return [(start, start + block.size) for start, block in self._mapped]

    def place(self, host: int) -> GuestAddress | None:
        """The guest-physical address of a host address; None if it is not guest RAM."""
        index = bisect_right(self._starts, host) - 1
        # Host memory can be mapped at several guest addresses (aliases), so earlier blocks may contain `host` as well.
        while index >= 0:
            start, block = self._mapped[index]
            if host < start + block.size:
                return GuestAddress(block.name, block.gpa + host - start)
            index -= 1
        return None

    def host(self, gpa: int) -> int | None:
        """The host address of a guest-physical address; None if the VMM has none."""
        for block in self.blocks:
            if block.gpa <= gpa < block.gpa + block.size and block.host_address is not None:
                return block.host_address + gpa - block.gpa
        return None


def split(ram: int, machine: str) -> list[tuple[int, int, int]]:
    """How QEMU's PC machines lay out RAM: (guest-physical address, offset in the block, size).

    hw/i386/pc_piix.c and pc_q35.c: there is a hole for PCI devices below 4 GiB. RAM of less than 3.5 GiB (pc) or
    2.75 GiB (q35) is all below the hole. Of more RAM, 3 GiB (pc) or 2 GiB (q35) are below the hole, and the rest begins
    at 4 GiB. Example, q35 with 5 GiB: guest addresses 0 to 2 GiB, and 4 to 7 GiB.
    """
    if "q35" in machine:
        low = 0x80000000 if ram >= 0xB0000000 else 0xB0000000
    else:
        low = 0xC0000000 if ram >= 0xE0000000 else 0xE0000000
    if ram <= low:
        return [(0, 0, ram)]
    return [(0, 0, low), (4 * GIB, low, ram - low)]


def guess(regions: Sequence[Region], command_line: Sequence[str]) -> GuestMap | None:
    """Guess guest RAM without asking QEMU: the mapping of the size given by ``-m``, laid out as by ``split``.

    The map is labelled as a guess. None if no mapping or several have this size, or if the command line adds memory.
    """
    ram, machine = ram_size(command_line), _option(command_line, "machine", "M") or "pc"
    if not ram or _more_memory(command_line):
        return None
    fits = [region for region in _joined(regions) if region.size == ram]
    named = [region for region in fits if _named_as_ram(region.name)]
    chosen = named or fits
    if len(chosen) != 1:
        return None
    start = chosen[0].start
    return GuestMap([GuestRange("ram", gpa, size, start + at) for gpa, at, size in split(ram, machine)], "guess")


def _more_memory(command_line: Sequence[str]) -> bool:
    """Whether guest RAM has more than one block: DIMMs, virtio-mem, NUMA nodes with separate memory."""
    values = [value.replace('"', "") for value in command_line]
    devices = any(_DEVICE.match(value) for value in values)
    backends = sum(bool(_BACKEND.match(value)) for value in values)
    return devices or backends > 1


def _named_as_ram(name: str) -> bool:
    """Whether a mapping's name is one that VMMs use for guest RAM."""
    known = any(word in name for word in ("memory-backend", "pc.ram", "/dev/shm", "hugepages"))  # noqa: S108
    return known or "ram" in name.partition("qemu")[2]


def guess_largest(regions: Sequence[Region], machine: str = "pc") -> GuestMap | None:
    """Guess guest RAM in a core, which has no command line: the largest region, if it is much larger than the others.

    Its size must be a whole number of MiB, at least 16 MiB, and at least twice that of the next region.
    """
    ordered = sorted((region for region in regions if region.readable), key=lambda region: -region.size)
    if not ordered or ordered[0].size < 16 << 20 or ordered[0].size % (1 << 20):
        return None
    if len(ordered) > 1 and ordered[0].size < 2 * ordered[1].size:
        return None
    start, ram = ordered[0].start, ordered[0].size
    return GuestMap([GuestRange("ram", gpa, size, start + at) for gpa, at, size in split(ram, machine)], "guess")


def _joined(regions: Sequence[Region]) -> list[Region]:
    """All regions, and in addition runs of adjacent regions of one name, joined: madvise(2) splits mappings."""
    found: list[Region] = []
    for region in regions:
        last = found[-1] if found else None
        if last and last.end == region.start and last.name == region.name and "w" in last.perms and "w" in region.perms:
            found[-1] = Region(last.start, region.end, last.name, last.perms, last.offset)
        else:
            found.append(region)
    seen = {(region.start, region.end) for region in found}
    return found + [region for region in regions if (region.start, region.end) not in seen]


def ram_size(command_line: Sequence[str]) -> int | None:
    """The size of guest RAM given by QEMU's ``-m``, in bytes; None if it is missing or not understood."""
    value = _option(command_line, "m")
    if value is None:
        return None
    size = value.partition(",")[0].removeprefix("size=").lower()
    number = size.rstrip("bkmgti")
    unit = size[len(number) :]
    return int(number) * _UNITS[unit] if number.isascii() and number.isdecimal() and unit in _UNITS else None


def _option(command_line: Sequence[str], *names: str) -> str | None:
    for word, value in itertools.pairwise(command_line):
        if word.lstrip("-") in names and word.startswith("-"):
            return value
    return None


def command_line_of(pid: int) -> list[str]:
    """The command line of a process; empty if it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - pathlib would cost start-up time
            raw = file.read()
    except OSError:
        return []
    return [word.decode(errors="replace") for word in raw.split(b"\0")[:-1]]
