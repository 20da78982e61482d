"""``sevkit container``: sevkit in containers."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.cli.output import reporting
from sevkit.cli.progress import progress
from sevkit.container.payload import BuiltImages
from sevkit.result import Result


@click.group(name="container")
def command() -> None:
    """Run sevkit in a container."""


@command.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@reporting
def build(images: tuple[str, ...]) -> Result[BuiltImages]:
    """Build images: tools (the default), test, guest-build.

    The base image is pulled; where no registry can be reached it is made from Debian's packages.
    """
    from sevkit.container.engine import find
    from sevkit.container.images import build as build_images

    with find() as engine, progress("building") as say:
        built = build_images(engine, images or ("tools",), say)
        data: BuiltImages = {
            "engine": {"where": engine.where, "version": engine.version},
            "images": [{"name": b.name, "id": b.ident, "size": b.size, "seconds": b.seconds} for b in built],
        }
    return Result("container build", data, human=_show)


def _show(data: BuiltImages) -> Iterator[str]:
    for image in data["images"]:
        yield f"{image['name']}  {image['size'] / 1e6:.0f} MB  built in {image['seconds']:.0f} s"


@command.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- ARGS...")
@click.option("--host-pids", is_flag=True, help="See and trace the host's processes (root in the container).")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A directory of the host, at /out: for reports and cores that shall be kept.",
)
@click.option("--room", default=4096, show_default=True, metavar="MIB", help="Room for cores; it is memory.")
def run(words: tuple[str, ...], host_pids: bool, folder: Path | None, room: int) -> None:
    """Run any sevkit command in a container, such as: sevkit container run -- attack run leak --modes nosev.

    The container has no network, no capability, and nothing to write to but memory; it gets /dev/kvm and /dev/sev where
    they exist. The exit status is the command's.
    """
    from sevkit.container import run as runner
    from sevkit.container.engine import find

    passed = tuple((name, os.environ[name]) for name in ("NO_COLOR", "COLUMNS") if name in os.environ)
    wish = runner.Wish(host_pids=host_pids, folder=folder, room_mib=room, environment=passed)
    with find() as engine:
        status = runner.run(engine, words, wish, runner.to_streams)
    sys.stdout.flush()
    raise SystemExit(status)
