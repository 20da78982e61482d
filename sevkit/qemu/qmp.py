"""Query a running QEMU over QMP, with the qemu.qmp library; each query opens and closes its own connection."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sevkit.errors import HypervisorError

_TIMEOUT = 10.0
# What qemu.qmp, and the reading of answers, raise if the peer is not QEMU or disconnects.
NOT_QMP = (AssertionError, EOFError, ValueError, LookupError, TypeError, AttributeError)


@asynccontextmanager
async def connected(socket: Path) -> AsyncIterator[Any]:
    """A connected QMPClient of the qemu.qmp library; also raises the errors in NOT_QMP."""
    import logging

    from qemu.qmp import QMPClient

    logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # it logs errors that it also raises
    client = QMPClient("sevkit")
    client.negotiate = False  # the library's own way takes an event that comes before the answer for a refusal
    await client.connect(str(socket))
    try:
        await client.execute("qmp_capabilities")
        yield client
    finally:
        await client.disconnect()


def execute(socket: Path, command: str, arguments: dict[str, Any] | None = None, *, timeout: float = _TIMEOUT) -> Any:
    """Run one QMP command and return its answer; raises HypervisorError with QEMU's message."""
    from qemu.qmp import QMPError

    async def ask() -> Any:
        async with connected(socket) as client:
            return await client.execute(command, arguments)

    try:
        return asyncio.run(asyncio.wait_for(ask(), timeout))
    except TimeoutError as error:
        raise HypervisorError(f"QEMU did not answer {command} within {timeout:g} s") from error
    except (QMPError, OSError, *NOT_QMP) as error:
        raise HypervisorError(f"QEMU refused {command}", detail=str(error)) from error


def monitor(socket: Path, line: str) -> str:
    """The output of a command of QEMU's human monitor (for data that QMP does not offer)."""
    return str(execute(socket, "human-monitor-command", {"command-line": line}))


def forwarded_port(socket: Path, guest_port: int = 22) -> int:
    """The port on the host's loopback that user networking forwards to ``guest_port``."""
    text = monitor(socket, "info usernet")
    match = re.search(rf"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+{guest_port}\s", text)
    if match is None:
        raise HypervisorError(f"QEMU forwards no port to the guest's port {guest_port}", detail=text)
    return int(match[1])
