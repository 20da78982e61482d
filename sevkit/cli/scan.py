"""``sevkit scan``: search the memory of a process or a core file for secrets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from sevkit.cli.output import reporting
from sevkit.cli.target import byte_progress, of_guest, target_options
from sevkit.memory.payload import Scan
from sevkit.result import Result

_SHOWN, _NAMED = 50, 5


@click.command(name="scan")
@target_options
@click.option("--secret", "secrets", multiple=True, metavar="TEXT", help="Search for this text (visible to `ps`).")
@click.option("--secrets-file", metavar="FILE", help="Search for each line of a file; '-' is standard input.")
@click.option("--regex", "regexes", multiple=True, metavar="RE", help="Search for a regular expression.")
@click.option("--wide", is_flag=True, help="Search for secrets as UTF-16 too, as Windows guests keep text.")
@click.option("--hex", "hexadecimal", is_flag=True, help="Secrets are given as hexadecimal digits: keys, hashes.")
@click.option("--halves", is_flag=True, help="Search for each half too: the pages of a guest need not be side by side.")
@click.option("--ram-only", is_flag=True, help="Search guest RAM only, not the rest of the VMM.")
@click.option("--show", is_flag=True, help="Show the bytes at and around each hit.")
@click.option("--max-hits", default=100_000, show_default=True, type=click.IntRange(1), help="Stop after so many hits.")
@click.option("--threads", type=click.IntRange(1, 256), help="Number of threads [default: one per core, at most 16].")
@reporting
def command(
    name: str | None,
    pid: int | None,
    core: Path | None,
    qmp: Path | None,
    hold: bool,
    secrets: Sequence[str],
    secrets_file: str | None,
    regexes: Sequence[str],
    wide: bool,
    hexadecimal: bool,
    halves: bool,
    ram_only: bool,
    show: bool,
    max_hits: int,
    threads: int | None,
) -> Result[Scan]:
    """Search the memory of a process or a core file for secrets.

    A running process is read where it is, without a file and without a debugger; pages that were never populated are
    skipped and counted. Give real secrets by --secrets-file, not on the command line.

    Exit status: 0 the search is conclusive, with or without hits; 3 something that was not found might still be there:
    a part of the memory could not be searched, or the process ran meanwhile (--hold stops it).
    """
    from sevkit.memory.search.request import Request, answer

    found = of_guest(name, pid=pid, core=core, qmp=qmp)
    pid, guest = found or (pid, None)
    request = Request(
        pid,
        core,
        qmp,
        hold,
        secrets,
        secrets_file,
        regexes,
        wide,
        hexadecimal,
        halves,
        ram_only,
        show,
        max_hits,
        threads,
        guest,
    )
    with byte_progress("searching") as progress:
        result = answer(request, progress)
    return result.shown_as(_human)


def _human(data: Scan) -> Iterator[str]:
    from sevkit import cleantext as clean

    found = data["hits"]
    named = len(data["patterns"])
    yield f"{clean.line(data['target'])}: {len(found)} hits for {named} pattern{'s' if named != 1 else ''}"
    for hit in found[:_SHOWN]:
        where = f"{clean.line(hit['region'] or '')} {hit['perms'] or ''}".strip()
        if hit["gpa"] is not None:
            where = f"guest-physical {hit['gpa']:#x} in {hit['ram_block']}"
        yield f"  {hit['address']:#x}  {hit['pattern']}, {where}"
        yield f"      {hit['context']}"
    if len(found) > _SHOWN:
        yield f"  … and {len(found) - _SHOWN} more (--json has all)"
    yield from _human_coverage(data)


def _human_coverage(data: Scan) -> Iterator[str]:
    coverage, ram = data["coverage"], data["guest_ram"]
    rate = coverage["read_bytes"] / max(data["seconds"], 1e-9) / 1e9
    yield (
        f"searched {_size(coverage['read_bytes'])} of {_size(coverage['mapped_bytes'])} mapped in"
        f" {data['seconds']:.2f} s ({rate:.1f} GB/s); {_size(coverage['skipped_unpopulated_bytes'])} never populated,"
        f" {_size(coverage['unreadable_bytes'])} unreadable"
    )
    if ram:
        how = {
            "qmp": "by QMP",
            "core": "by the dump",
            "guess": "a guess: give --guest or --qmp to be sure",
            "hypervisor": "as the hypervisor says",
        }
        yield f"guest RAM: {_size(ram['bytes'])} ({how.get(ram['origin'], ram['origin'])})"
    yield from _human_verdict(data)


def _human_verdict(data: Scan) -> Iterator[str]:
    """The answer with what qualifies it: a reader of one line must not take it for more than it is."""
    missing = [row["name"] for row in data["patterns"] if not row["hits"]]
    if not missing:
        return
    names = ", ".join(missing[:_NAMED]) + (f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else "")
    if data["verdict"] == "inconclusive":
        yield f"inconclusive: {names} not found, which proves nothing here"
    else:
        yield f"not found: {names}, in what was searched. This does not cover:"
        yield from (f"  {limit}" for limit in data["limits"])


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
