"""Ask a running QEMU for the layout of guest RAM, over QMP.

The answers come from ``info ramblock`` (host addresses) and ``info mtree -f`` (guest-physical layout); no other command
of QEMU has them. Their output is text for people, so the parsers take the lines they know and skip the others.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit.errors import DeadlineError, HypervisorError
from sevkit.memory.guest_ram.layout import GuestMap, GuestRange
from sevkit.qemu.qmp import NOT_QMP, connected

_VIEW_LINE = re.compile(
    r"^\s+(?P<start>[0-9a-f]{16})-(?P<end>[0-9a-f]{16}) \(prio -?\d+, (?P<kind>\w+)\): (?P<name>\S+)"
    r"(?: @(?P<offset>[0-9a-f]{16}))?"
)
_BLOCK_LINE = re.compile(
    r"^\s*(?P<name>\S+)\s+\d+ [KMG]iB\s+0x[0-9a-f]+\s+0x[0-9a-f]+\s+0x(?P<size>[0-9a-f]+)(?P<rest>.*)$"
)
_MOST, _TOP = 1 << 46, 1 << 64  # upper limits of guest-physical addresses (64 TiB) and of host addresses
_MAIN = frozenset({"pc.ram", "ram", "microvm.ram", "mach-virt.ram", "ppc_spapr.ram", "s390.ram"})


@dataclass(frozen=True)
class HostBlock:
    """A RAM block of QEMU: its name, size in bytes, and host address if QEMU reports it (since 5.2)."""

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
    """Guest RAM from QEMU's output: the memory devices, at their guest-physical addresses.

    ``memory_devices`` are the ids from query-memdev. Video memory and firmware flash are not guest RAM.
    """
    wanted = _MAIN | set(memory_devices)
    hosts = {_short(block.name): block.host_address for block in parse_ramblocks(ramblocks)}
    pieces = []
    for gpa, size, name, offset in parse_flat_view(flat_view):
        if _short(name) in wanted:
            base = hosts.get(_short(name))
            pieces.append((gpa, size, name, None if base is None else base + offset))
    return join(pieces)


def join(pieces: Sequence[tuple[int, int, str, int | None]]) -> list[GuestRange]:
    """Join pieces (gpa, size, block, host address) of one block if host address - gpa is the same for them."""
    found: list[GuestRange] = []
    for gpa, size, name, host in pieces:
        last = found[-1] if found else None
        if last and last.name == _short(name) and _goes_on(last, gpa, host):
            found[-1] = GuestRange(last.name, last.gpa, gpa + size - last.gpa, last.host_address)
        else:
            found.append(GuestRange(_short(name), gpa, size, host))
    return found


def _short(name: str) -> str:
    """``/objects/ram0`` and ``ram0`` are the same block under different machine versions."""
    return name.rpartition("/")[2]


def _goes_on(last: GuestRange, gpa: int, host: int | None) -> bool:
    """Whether a piece continues the last one, also across a gap: RAM below the windows of VGA and firmware counts."""
    if last.host_address is None or host is None:
        return last.host_address is host and last.gpa + last.size == gpa
    return host - last.host_address == gpa - last.gpa


def guest_map(socket: Path, *, timeout: float = 10.0) -> GuestMap:
    """Guest RAM of the QEMU behind a QMP socket. Raises HypervisorError or DeadlineError."""
    import asyncio

    from qemu.qmp import QMPError

    try:
        found = asyncio.run(asyncio.wait_for(_talk(socket), timeout))
    except TimeoutError as error:
        raise DeadlineError(
            f"QEMU did not answer on {socket} within {timeout:g} s",
            hint="a QMP socket serves one client at a time: give QEMU a second one for this",
        ) from error
    except (OSError, QMPError, *NOT_QMP) as error:
        raise HypervisorError(
            f"cannot ask QEMU on {socket}", hint="is it a QMP socket, and does QEMU run?", detail=str(error)
        ) from error
    if not found.blocks:
        raise HypervisorError(f"the QEMU on {socket} shows no guest RAM")
    return found


def ask(execute: Callable[[str, dict[str, str]], Any]) -> GuestMap:
    """Guest RAM of a QEMU; ``execute(command, arguments)`` sends a QMP command to it."""

    def monitor(line: str) -> str:
        return str(execute("human-monitor-command", {"command-line": line}))

    devices = [str(device["id"]) for device in execute("query-memdev", {}) if "id" in device]
    blocks, view = monitor("info ramblock"), monitor("info mtree -f")
    if all(block.host_address is not None for block in parse_ramblocks(blocks)):
        return _checked(guest_ranges(blocks, view, devices))
    # Older QEMU does not report host addresses of blocks, but gpa2hva translates single guest addresses.
    pieces = [piece for piece in parse_flat_view(view) if _short(piece[2]) in _MAIN | set(devices)]
    hosts = [parse_gpa2hva(monitor(f"gpa2hva {gpa:#x}")) for gpa, *_ in pieces]
    found = join([(gpa, size, name, host) for (gpa, size, name, _), host in zip(pieces, hosts, strict=True)])
    return _checked(found)


def _checked(ranges: Sequence[GuestRange]) -> GuestMap:
    """The map, if it is possible; raises HypervisorError otherwise: the peer on the socket may be any program."""
    total = sum(block.size for block in ranges)
    odd = any(block.size <= 0 or block.gpa + block.size > _MOST for block in ranges)
    odd |= any((block.host_address or 0) + block.size > _TOP for block in ranges)
    if odd or total > _MOST:
        raise HypervisorError("what QEMU says of its memory cannot be true", hint="is it a QEMU on that socket?")
    return GuestMap(ranges, "qmp")


async def _talk(socket: Path) -> GuestMap:
    import asyncio

    loop = asyncio.get_running_loop()
    async with connected(socket) as client:

        def execute(command: str, arguments: dict[str, str]) -> Any:
            return asyncio.run_coroutine_threadsafe(client.execute(command, arguments), loop).result()

        return await asyncio.to_thread(ask, execute)


def parse_gpa2hva(text: str) -> int | None:
    """The host address in the answer to ``gpa2hva``."""
    match = re.search(r" is 0x([0-9a-f]+)", text)
    return int(match[1], 16) if match else None
