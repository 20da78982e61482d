"""``sevkit top``: the running guests, live."""

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from sevkit.cli.guest.manage import NONE, not_listed
from sevkit.cli.output import json_wanted, reporting
from sevkit.cli.sizes import SECONDS
from sevkit.hypervisor.payload import Glance, GuestGlance
from sevkit.result import Result
from sevkit.vocabulary import Mode

if TYPE_CHECKING:
    from rich.table import Table

_CLASSES = ("plaintext", "ciphertext", "zero", "hole", "unread")


@click.command("top")
@click.option(
    "--interval", type=SECONDS, default=2.0, show_default=True, metavar="SECONDS", help="Time between updates."
)
@click.option("--once", is_flag=True, help="Print once and exit; also without a terminal and with --json.")
@reporting
def command(interval: float, once: bool) -> Result[Glance] | None:
    """Show the running guests: mode, processor, and their memory by class as the host sees it now. Ctrl-C ends it.

    LOOKS names what most of the used memory looks like; "!" says that this does not fit the mode. It is not a verdict:
    that needs a secret and controls, as in `sevkit attack run leak`.
    """
    from sevkit.hypervisor.overview import Overview
    from sevkit.hypervisor.unlisted import unlisted

    overview = Overview()
    if once or json_wanted() or not sys.stdout.isatty():
        guests = overview.look()
        data: Glance = {"guests": guests, "unlisted": unlisted({guest["pid"] for guest in guests})}
        return Result("top", data, human=_lines)
    from rich.console import Console
    from rich.live import Live

    with contextlib.suppress(KeyboardInterrupt), Live(console=Console(), screen=True, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            live.update(_table(overview.look()), refresh=True)
            # Reading memory must not become the load that is shown: pause at least as long as one reading takes.
            time.sleep(max(interval, time.monotonic() - began))
    return None


def shares(pages: dict[str, int] | None) -> dict[str, float]:
    """Per cent of the guest's pages by class."""
    if not pages or not sum(pages.values()):
        return {}
    return {name: 100 * count / sum(pages.values()) for name, count in pages.items()}


def _cells(row: GuestGlance) -> list[str]:
    found = shares(row["pages"])
    cpu = "-" if row["cpu_percent"] is None else f"{row['cpu_percent']:.0f}"
    parts = [f"{found[name]:.1f}" if name in found else "-" for name in _CLASSES]
    return [row["name"], row["mode"], row["provenance"], str(row["pid"]), cpu, *parts, _looks(row)]


def _looks(row: GuestGlance) -> str:
    """What used memory looks like, with "!" where that does not fit the mode."""
    from sevkit.attacks.leak import verdict

    if not row["pages"]:
        return "-"
    seen, fitting = verdict.fits(Mode(row["mode"]), row["pages"])
    return "-" if seen is None else f"{seen}{'' if fitting else ' !'}"


_HEADS = ("NAME", "MODE", "PROVENANCE", "PID", "CPU%", "PLAIN%", "CIPHER%", "ZERO%", "HOLE%", "UNREAD%", "LOOKS")


def _lines(data: Glance) -> Iterator[str]:
    if not data["guests"]:
        yield NONE
        yield from not_listed(data["unlisted"])
        return
    rows = [list(_HEADS), *map(_cells, data["guests"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for guest in data["guests"]:
        if guest["problem"]:
            yield f"{guest['name']}: {guest['problem']}"
    yield from not_listed(data["unlisted"])


def _table(guests: list[GuestGlance]) -> "Table":
    from rich.table import Table

    table = Table(title=f"{len(guests)} guests, {time.strftime('%H:%M:%S')}", expand=False)
    for head in _HEADS:
        table.add_column(head, justify="left" if head in _HEADS[:3] else "right")
    for guest in guests:
        table.add_row(*_cells(guest))
    return table
