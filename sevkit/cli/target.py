"""Options that select the memory to read, shared by the commands that read memory."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevkit.errors import UsageError

if TYPE_CHECKING:
    from sevkit.memory.guest_ram.layout import GuestMap


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--guest``, ``--pid``, ``--core``, ``--qmp`` and ``--hold``."""
    for option in (
        click.option("--hold", is_flag=True, help="Stop the process while it is read, so that nothing moves."),
        click.option(
            "--qmp",
            type=click.Path(path_type=Path),
            metavar="SOCKET",
            help="Ask this QEMU where guest RAM lies (without: found in the mappings, a guess).",
        ),
        click.option("--core", type=click.Path(path_type=Path), metavar="FILE", help="Read an ELF core file."),
        click.option("--pid", type=click.IntRange(1), metavar="PID", help="Read a running process, live."),
        click.option("--guest", "name", metavar="NAME", help="Read a guest that sevkit launched, live."),
    ):
        function = option(function)
    return function


def of_guest(name: str | None, **others: object) -> "tuple[int, GuestMap] | None":
    """The VMM of the guest called ``name`` and where its RAM lies, as the hypervisor says; None without a name.

    Raises UsageError when another memory is named too.
    """
    if name is None:
        return None
    given = [f"--{option}" for option, value in others.items() if value]
    if given:
        raise UsageError(f"--guest does not go with {', '.join(given)}", hint="the guest's name says it all")
    from sevkit.hypervisor.select import attach
    from sevkit.memory.guest_ram.layout import GuestMap

    guest = attach(name)
    return guest.pid, GuestMap(guest.ram_blocks(), "hypervisor")


@contextmanager
def byte_progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar in bytes on stderr, only on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    from rich.console import Console

    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
