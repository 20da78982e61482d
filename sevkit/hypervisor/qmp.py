"""Questions to a running QEMU over QMP, through the qemu.qmp library; each one connects, asks, and leaves."""

import asyncio
import re
from pathlib import Path
from typing import Any

from sevkit.errors import HypervisorError
from sevkit.hypervisor.base import RamBlock
from sevkit.memory import qmp as guest_memory

_TIMEOUT = 10.0


def execute(socket: Path, command: str, arguments: dict[str, Any] | None = None, *, timeout: float = _TIMEOUT) -> Any:
    """Run one QMP command and return its answer; raises HypervisorError with QEMU's words."""
    from qemu.qmp import QMPError

    async def ask() -> Any:
        async with guest_memory.connected(socket) as client:
            return await client.execute(command, arguments)

    try:
        return asyncio.run(asyncio.wait_for(ask(), timeout))
    except TimeoutError as error:
        raise HypervisorError(f"QEMU did not answer {command} within {timeout:g} s") from error
    except (QMPError, OSError, *guest_memory.NOT_QMP) as error:
        raise HypervisorError(f"QEMU refused {command}", detail=str(error)) from error


def monitor(socket: Path, line: str) -> str:
    """The text that QEMU's human monitor prints for a line (for what QMP does not offer)."""
    return str(execute(socket, "human-monitor-command", {"command-line": line}))


def ram_blocks(socket: Path) -> list[RamBlock]:
    """Where the guest's RAM lies: guest-physical ranges and host addresses."""
    return list(guest_memory.guest_map(socket).blocks)


def forwarded_port(socket: Path, guest_port: int = 22) -> int:
    """The port on the host's loopback that user networking forwards to ``guest_port``."""
    text = monitor(socket, "info usernet")
    match = re.search(rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{guest_port}\s", text)
    if match is None:
        raise HypervisorError(f"QEMU forwards no port to the guest's port {guest_port}", detail=text)
    return int(match[1])
