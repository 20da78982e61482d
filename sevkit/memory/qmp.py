"""Ask a running QEMU where guest RAM lies, over QMP.

The answers come from ``info ramblock`` (host addresses) and ``info mtree -f`` (guest-physical layout), the only places
where QEMU tells them; both are meant for people, so that the readers here take what they know and skip the rest.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit.errors import DeadlineError, HypervisorError
from sevkit.memory.gpa import GuestMap, GuestRange

_VIEW_LINE = re.compile(
    r"^\s+(?P<start>[0-9a-f]{16})-(?P<end>[0-9a-f]{16}) \(prio -?\d+, (?P<kind>\w+)\): (?P<name>\S+)"
    r"(?: @(?P<offset>[0-9a-f]{16}))?"
)
_BLOCK_LINE = re.compile(
    r"^\s*(?P<name>\S+)\s+\d+ [KMG]iB\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+0x(?P<size>[0-9a-f]+)(?P<rest>.*)$"
)
_MAIN = frozenset({"pc.ram", "ram", "microvm.ram", "mach-virt.ram", "ppc_spapr.ram", "s390.ram"})


@dataclass(frozen=True)
class HostBlock:
    """A RAM block of QEMU: its name, size in bytes, and host address where QEMU tells it (since 5.2)."""

    name: str
    size: int
    host_address: int | None


def parse_ramblocks(text: str) -> list[HostBlock]:
    """The blocks in the text of ``info ramblock``."""
    found = []
    for line in text.splitlines():
        if match := _BLOCK_LINE.match(line):
            address = re.match(r"\s+0x([0-9a-f]+)", match["rest"])
            found.append(HostBlock(match["name"], int(match["size"], 16), int(address[1], 16) if address else None))
    return found


def parse_flat_view(text: str, space: str = "memory") -> list[tuple[int, int, str, int]]:
    """The RAM in the flat view of an address space, from ``info mtree -f``: (gpa, size, block, offset in the block)."""
    for view in re.split(r"^FlatView #\d+\s*$", text, flags=re.MULTILINE)[1:]:
        if not re.search(rf'^\s*AS "{re.escape(space)}"', view, re.MULTILINE):
            continue
        found = []
        for line in view.splitlines():
            match = _VIEW_LINE.match(line)
            if match and match["kind"] in ("ram", "rom", "romd", "nv"):
                start, end = int(match["start"], 16), int(match["end"], 16)
                found.append((start, end + 1 - start, match["name"], int(match["offset"] or "0", 16)))
        return found
    return []


def guest_ranges(ramblocks: str, flat_view: str, memory_devices: Sequence[str] = ()) -> list[GuestRange]:
    """Guest RAM from QEMU's own words: the memory devices, where the guest sees them.

    ``memory_devices`` are the ids that query-memdev names. Video memory and firmware flash are no guest RAM.
    """
    wanted = _MAIN | set(memory_devices)
    hosts = {block.name.rpartition("/")[2]: block for block in parse_ramblocks(ramblocks)}
    found: list[GuestRange] = []
    for gpa, size, name, offset in parse_flat_view(flat_view):
        short = name.rpartition("/")[2]
        if short not in wanted:
            continue
        block = hosts.get(short)
        host = block.host_address + offset if block and block.host_address is not None else None
        last = found[-1] if found else None
        if last and last.name == short and _goes_on(last, gpa, host):
            found[-1] = GuestRange(short, last.gpa, gpa + size - last.gpa, last.host_address)
        else:
            found.append(GuestRange(short, gpa, size, host))
    return found


def _goes_on(last: GuestRange, gpa: int, host: int | None) -> bool:
    """Whether a stretch continues the last one: what lies under the windows of VGA and firmware is guest RAM too."""
    if last.host_address is None or host is None:
        return last.host_address is host and last.gpa + last.size == gpa
    return host - last.host_address == gpa - last.gpa


def ask(execute: Callable[..., Any]) -> GuestMap:
    """Guest RAM by a function that executes a QMP command: ``execute(name, arguments)`` gives its return value."""
    ramblocks = execute("human-monitor-command", {"command-line": "info ramblock"})
    flat_view = execute("human-monitor-command", {"command-line": "info mtree -f"})
    devices = [device["id"] for device in execute("query-memdev", {}) if "id" in device]
    ranges = guest_ranges(str(ramblocks), str(flat_view), devices)
    if any(block.host_address is None for block in ranges):
        ranges = [_with_host(execute, block) for block in ranges]
    return GuestMap(ranges, "qmp")


def _with_host(execute: Callable[..., Any], block: GuestRange) -> GuestRange:
    """Older QEMU names no host addresses of blocks but translates single ones."""
    words = str(execute("human-monitor-command", {"command-line": f"gpa2hva {block.gpa:#x}"}))
    match = re.search(r" is 0x([0-9a-f]+)", words)
    return GuestRange(block.name, block.gpa, block.size, int(match[1], 16) if match else None)


def guest_map(socket: Path, *, timeout: float = 10.0) -> GuestMap:
    """Guest RAM of the QEMU behind a QMP socket. Raises HypervisorError or DeadlineError."""
    import asyncio

    from qemu.qmp import QMPClient, QMPError

    async def talk() -> GuestMap:
        client = QMPClient("sevkit")
        await client.connect(str(socket))
        try:
            answers = {}
            for name, arguments in _QUESTIONS:
                answers[name, arguments.get("command-line", "")] = await client.execute(name, arguments)
            return ask(lambda name, given: answers.get((name, given.get("command-line", "")), ""))
        finally:
            await client.disconnect()

    try:
        return asyncio.run(asyncio.wait_for(talk(), timeout))
    except TimeoutError as error:
        raise DeadlineError(
            f"QEMU did not answer on {socket} within {timeout:g} s",
            hint="QMP sockets serve one client at a time: give QEMU a second one for this",
        ) from error
    except (OSError, QMPError) as error:
        raise HypervisorError(
            f"cannot ask QEMU on {socket}: {error}", hint="is it a QMP socket, and does QEMU run?"
        ) from error


_QUESTIONS: tuple[tuple[str, dict[str, str]], ...] = (
    ("human-monitor-command", {"command-line": "info ramblock"}),
    ("human-monitor-command", {"command-line": "info mtree -f"}),
    ("query-memdev", {}),
)
