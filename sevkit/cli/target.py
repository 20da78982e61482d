"""The options that say whose memory is meant, shared by the commands that read memory."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from sevkit.errors import UsageError
from sevkit.memory.gpa import GuestMap
from sevkit.memory.source import MemorySource


def target_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--pid``, ``--core``, ``--qmp`` and ``--hold``."""
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
    ):
        function = option(function)
    return function


@contextmanager
def opened(pid: int | None, core: Path | None, *, hold: bool = False) -> Iterator[MemorySource]:
    """The memory that the options name."""
    if (pid is None) == (core is None):
        raise UsageError("whose memory?", hint="give either --pid or --core")
    source: MemorySource
    if core is not None:
        from sevkit.memory.core import CoreMemory

        source = CoreMemory(core)
    else:
        from sevkit.memory.live import LiveMemory

        assert pid is not None
        source = LiveMemory(pid, stop=hold)
    with source:
        yield source


def find_guest(source: MemorySource, pid: int | None, qmp: Path | None) -> GuestMap | None:
    """Guest RAM in the memory, by the surest way there is; None when there seems to be none."""
    if qmp is not None:
        from sevkit.memory.qmp import guest_map

        return guest_map(qmp)
    if getattr(source, "physical", False):
        from sevkit.memory.picture import physical_map

        return physical_map(source)
    from sevkit.memory.gpa import command_line_of, guess, guess_largest

    if pid is not None:
        return guess(source.regions(), command_line_of(pid))
    return guess_largest(source.regions())


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
