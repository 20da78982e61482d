"""Questions to a running QEMU over QMP, through the qemu.qmp library; each one connects, asks, and leaves."""

import asyncio
import re
from pathlib import Path
from typing import Any

from sevkit.errors import HypervisorError
from sevkit.hypervisor.base import RamBlock

_TIMEOUT = 10.0


def execute(socket: Path, command: str, arguments: dict[str, Any] | None = None, *, timeout: float = _TIMEOUT) -> Any:
    """Run one QMP command and return its answer; raises HypervisorError with QEMU's words."""
    return execute_all(socket, [(command, arguments)], timeout=timeout)[0]


def execute_all(
    socket: Path, commands: list[tuple[str, dict[str, Any] | None]], *, timeout: float = _TIMEOUT
) -> list[Any]:
    """Run several QMP commands over one connection."""
    import logging

    from qemu.qmp import QMPClient, QMPError

    logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # it logs what it also raises

    async def ask() -> list[Any]:
        client = QMPClient("sevkit")
        await client.connect(str(socket))
        try:
            return [await client.execute(command, arguments) for command, arguments in commands]
        finally:
            await client.disconnect()

    names = ", ".join(command for command, _ in commands)
    try:
        return asyncio.run(asyncio.wait_for(ask(), timeout))
    except TimeoutError as error:
        raise HypervisorError(f"QEMU did not answer {names} within {timeout:g} s") from error
    except (QMPError, OSError) as error:
        raise HypervisorError(f"QEMU refused {names}", detail=str(error)) from error


def monitor(socket: Path, line: str) -> str:
    """The text that QEMU's human monitor prints for a line (for what QMP does not offer)."""
    return str(execute(socket, "human-monitor-command", {"command-line": line}))


def ram_blocks(socket: Path, backend: str = "ram0") -> list[RamBlock]:
    """Where the guest's RAM lies: guest-physical ranges from the flat memory view, host addresses from gpa2hva."""
    ranges = parse_flat_view(monitor(socket, "info mtree -f"), backend)
    if not ranges:
        raise HypervisorError(f"QEMU's memory view shows no RAM block {backend}")
    asked = execute_all(socket, [("human-monitor-command", {"command-line": f"gpa2hva {gpa:#x}"}) for gpa, _ in ranges])
    blocks: list[RamBlock] = []
    for (gpa, size), answer in zip(ranges, asked, strict=True):
        match = re.search(r"is (0x[0-9a-f]+)", str(answer))
        blocks.append(RamBlock(backend, gpa, size, int(match[1], 16) if match else None))
    return _joined(blocks)


def _joined(blocks: list[RamBlock]) -> list[RamBlock]:
    """Blocks as stretches of one mapping: RAM that lies below the firmware's ROM and VGA windows is still guest RAM."""
    joined: list[RamBlock] = []
    for block in blocks:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.host_address is not None
            and block.host_address is not None
            and block.host_address - last.host_address == block.gpa - last.gpa
        ):
            joined[-1] = RamBlock(last.name, last.gpa, block.gpa + block.size - last.gpa, last.host_address)
        else:
            joined.append(block)
    return joined


def parse_flat_view(text: str, backend: str) -> list[tuple[int, int]]:
    """Guest-physical ranges (address, size) that RAM block ``backend`` fills in ``info mtree -f``, sorted.

    Only the view of the address space ``memory`` counts.
    """
    ranges: set[tuple[int, int]] = set()
    for view in re.split(r"^FlatView #\d+$", text, flags=re.MULTILINE):
        if not re.search(r'^ AS "memory"', view, flags=re.MULTILINE):
            continue
        for match in re.finditer(
            rf"^  ([0-9a-f]{{16}})-([0-9a-f]{{16}}) \(prio -?\d+, ram\): {re.escape(backend)}\b",
            view,
            flags=re.MULTILINE,
        ):
            start, end = int(match[1], 16), int(match[2], 16)
            ranges.add((start, end + 1 - start))
    return sorted(ranges)


def forwarded_port(socket: Path, guest_port: int = 22) -> int:
    """The port on the host's loopback that user networking forwards to ``guest_port``."""
    text = monitor(socket, "info usernet")
    match = re.search(rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{guest_port}\s", text)
    if match is None:
        raise HypervisorError(f"QEMU forwards no port to the guest's port {guest_port}", detail=text)
    return int(match[1])
