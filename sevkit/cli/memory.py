"""``sevkit memory``: draw guest memory, or write it to a file."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sevkit.cli.output import colour, reporting
from sevkit.cli.target import byte_progress, of_guest, target_options
from sevkit.errors import ExitCode, InconclusiveError, SevkitError, UsageError
from sevkit.memory.payload import Extract, Maps
from sevkit.memory.search.request import find_guest, make_patterns, opened, told_by
from sevkit.result import Result

if TYPE_CHECKING:
    from sevkit.memory.guest_ram.layout import GuestMap
    from sevkit.memory.guest_ram.picture import Picture
    from sevkit.memory.sources.base import MemorySource

_KINDS = (".png", ".svg", ".html", ".json")


@click.group()
def command() -> None:
    """Guest memory as a picture, and as a file."""


@command.command(name="map")
@click.option("--guest", "names", multiple=True, metavar="NAME", help="A guest that sevkit launched, live.")
@click.option("--pid", "pids", type=click.IntRange(1), multiple=True, metavar="PID", help="A running VMM, live.")
@click.option(
    "--core", "cores", type=click.Path(path_type=Path), multiple=True, metavar="FILE", help="A core of a VMM."
)
@click.option(
    "--qmp",
    "sockets",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="SOCKET",
    help="QMP socket, one per --pid.",
)
@click.option("--title", "titles", multiple=True, help="Title of the picture, one per input, in order.")
@click.option("--secrets-file", metavar="FILE", help="Mark where lines of a file are found; '-': standard input.")
@click.option(
    "--secret", "secrets", multiple=True, metavar="TEXT", help="Mark where this text is found (visible to `ps`)."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="A .png, .svg, .html or .json file."
)
@reporting
def map_(
    names: Sequence[str],
    pids: Sequence[int],
    cores: Sequence[Path],
    sockets: Sequence[Path],
    titles: Sequence[str],
    secrets_file: str | None,
    secrets: Sequence[str],
    output: Path | None,
) -> Result[Maps]:
    """Draw guest memory, one point per page, in classes plaintext, ciphertext, zero and hole.

    Several inputs are drawn side by side (guests, then PIDs, then cores). Without -o a short form is printed.
    """
    if not names and not pids and not cores:
        raise UsageError("no memory is named", hint="give --guest NAME, --pid PID or --core FILE, one or more")
    if output is not None and output.suffix not in _KINDS:
        raise UsageError(f"cannot draw to {output.name}", hint=f"choose a name that ends in {', '.join(_KINDS)}")
    if len(sockets) > len(pids):
        raise UsageError("more --qmp than --pid", hint="give a --qmp for each --pid, in order")
    found = list(_pictures(_inputs(names, pids, cores, sockets), titles, _patterns(secrets, secrets_file)))
    pictures = [picture for picture, _ in found]
    if output is not None:
        _draw(pictures, output)
    doubts = [InconclusiveError(f"{p.title}: {why}", hint="the map is incomplete") for p, ways in found for why in ways]
    data: Maps = {"maps": [picture.as_dict() for picture in pictures], "output": str(output) if output else None}
    code = ExitCode.INCONCLUSIVE if doubts else ExitCode.DONE
    return Result("memory map", data, code, doubts, human=lambda _: _show(pictures, output))


def _patterns(secrets: Sequence[str], secrets_file: str | None) -> list[Any]:
    return make_patterns(secrets, secrets_file, (), wide=False) if secrets or secrets_file else []


class _Input(NamedTuple):
    """A memory to draw."""

    pid: int | None = None
    core: Path | None = None
    qmp: Path | None = None
    guest: "GuestMap | None" = None
    title: str | None = None


def _inputs(names: Sequence[str], pids: Sequence[int], cores: Sequence[Path], sockets: Sequence[Path]) -> list[_Input]:
    guests = [_Input(*_named(name), title=name) for name in names]
    asked: list[Path | None] = [*sockets, *[None] * (len(pids) - len(sockets))]
    processes = [_Input(pid, qmp=socket) for pid, socket in zip(pids, asked, strict=True)]
    return [*guests, *processes, *(_Input(core=core) for core in cores)]


def _named(name: str) -> "tuple[int, None, None, GuestMap]":
    found = of_guest(name)
    assert found is not None
    return found[0], None, None, found[1]


def _pictures(
    inputs: Sequence[_Input], titles: Sequence[str], patterns: Sequence[Any]
) -> "Iterator[tuple[Picture, list[str]]]":
    """A picture of each input, with what it cannot show."""
    for index, each in enumerate(inputs):
        known = each.guest or told_by(each.qmp)
        with opened(each.pid, each.core) as source:
            guest = known or _guest(source, each.pid)
            title = titles[index] if index < len(titles) else each.title or source.title
            yield _picture(source, guest, title, patterns)


def _picture(
    source: "MemorySource", guest: "GuestMap", title: str, patterns: Sequence[Any]
) -> "tuple[Picture, list[str]]":
    from sevkit.memory.guest_ram.picture import draw, guest_pages
    from sevkit.memory.search.scan import scan

    doubts: list[str] = []
    hits: list[tuple[int, str]] = []
    with byte_progress(f"looking at {title}") as progress:
        pages = guest_pages(source, guest, progress=progress)
    if patterns:
        result = scan(source, patterns, within=guest.host_ranges())
        placed = [(guest.place(hit.address), patterns[hit.pattern].label(hit.pattern)) for hit in result.hits]
        hits = [(place.gpa, label) for place, label in placed if place]
        doubts += [f"the search stopped: {result.stopped}"] if result.stopped else []
    unread = pages.counts()["unread"]
    doubts += [f"{unread} pages could not be read"] if unread else []
    doubts += [pages.stopped] if pages.stopped else []
    how = "place of guest RAM guessed" if guest.origin == "guess" else ""
    return draw(pages, title, how, hits), doubts


def _guest(source: "MemorySource", pid: int | None) -> "GuestMap":
    guest = find_guest(source, pid)
    if guest is None:
        raise UsageError(f"no guest RAM was found in {source.title}", hint="is it a VMM? give --qmp to ask QEMU itself")
    return guest


def _draw(pictures: "Sequence[Picture]", output: Path) -> None:
    from sevkit.render import memory_map

    if output.suffix == ".html":
        data = memory_map.html(pictures).encode()
    elif output.suffix == ".json":
        import json

        data = (json.dumps({"maps": [picture.as_dict() for picture in pictures]}) + "\n").encode()
    else:
        data = memory_map.figure(pictures, output.suffix[1:])
    try:
        output.write_bytes(data)
    except OSError as error:
        raise SevkitError(f"cannot write {output}: {error.strerror}") from error


def _show(pictures: "Sequence[Picture]", output: Path | None) -> Iterator[str]:
    from sevkit.render import memory_map

    if output is not None:
        yield "\n".join(memory_map.summary(picture, colour=colour(sys.stdout)) for picture in pictures)
        yield f"written to {output}"
        return
    width = shutil.get_terminal_size((80, 24)).columns
    for picture in pictures:
        yield memory_map.text(picture, width=width, colour=colour(sys.stdout))


@command.command(name="extract")
@target_options
@click.option(
    "--format",
    "layout",
    type=click.Choice(["lime", "padded", "raw"]),
    default="lime",
    show_default=True,
    help="lime and padded are read by Volatility 3.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Output file, with mode 0600.",
)
@reporting
def extract(
    name: str | None, pid: int | None, core: Path | None, qmp: Path | None, hold: bool, layout: str, output: Path
) -> Result[Extract]:
    """Write a guest's RAM, by guest-physical address, to a file that memory forensics reads.

    The file contains the guest's secrets: protect it, and delete it after use.
    """
    from sevkit.memory.guest_ram.extract import Format
    from sevkit.memory.guest_ram.extract import extract as write

    with ExitStack() as stack:
        found = of_guest(name, pid=pid, core=core, qmp=qmp)
        pid, known = found or (pid, told_by(qmp))
        source = stack.enter_context(opened(pid, core, hold=hold))
        guest = known or _guest(source, pid)
        progress = stack.enter_context(byte_progress("extracting"))
        done = write(source, guest, output, Format(layout), progress=progress)
        data: Extract = done.as_dict(guest.origin, source.moved(guest.host_ranges()))
    errors = []
    if done.missing_bytes:
        errors.append(InconclusiveError(f"{done.missing_bytes} bytes of guest RAM are not there and stand as zeros"))
    code = ExitCode.INCONCLUSIVE if errors else ExitCode.DONE
    return Result("memory extract", data, code, errors, human=_extracted)


def _extracted(data: Extract) -> Iterator[str]:
    yield (f"{data['path']}: {data['read_bytes']} of {data['guest_ram_bytes']} bytes of guest RAM ({data['format']})")
    if data["origin"] == "guess":
        yield "the place of guest RAM is a guess: give --guest or --qmp to be sure"
    yield from (f"the file is of no single moment: {limit}" for limit in data["limits"])
