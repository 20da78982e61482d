"""``sevkit container``: sevkit in containers."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.cli.output import reporting
from sevkit.cli.progress import progress
from sevkit.container.payload import BuildPlan, BuiltImages
from sevkit.result import Result


@click.group(name="container")
def command() -> None:
    """Run sevkit in a container."""


@command.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--dry-run", is_flag=True, help="Show what would be built, and ask no engine.")
@reporting
def build(images: tuple[str, ...], dry_run: bool) -> Result[BuiltImages] | Result[BuildPlan]:
    """Build images: tools (the default), test, guest-build.

    The base image is pulled; where no registry can be reached it is made from Debian's packages.
    """
    from sevkit.container.engine import find
    from sevkit.container.images import build as build_images

    if dry_run:
        from sevkit.container import command_line

        plan: BuildPlan = {"dry_run": True, "command_lines": command_line.of_build(images or ("tools",))}
        return Result("container build", plan, human=_show_plan)
    with find() as engine, progress("building") as say:
        built = build_images(engine, images or ("tools",), say)
        data: BuiltImages = {
            "engine": {"where": engine.where, "version": engine.version},
            "images": [{"name": b.name, "id": b.ident, "size": b.size, "seconds": b.seconds} for b in built],
        }
    return Result("container build", data, human=_show)


def _show_plan(data: BuildPlan) -> Iterator[str]:
    from sevkit import processes

    yield from map(processes.pasteable, data["command_lines"])


def _show(data: BuiltImages) -> Iterator[str]:
    for image in data["images"]:
        yield f"{image['name']}  {image['size'] / 1e6:.0f} MB  built in {image['seconds']:.0f} s"


@command.command(context_settings={"allow_interspersed_args": False})  # what follows the first word is sevkit's
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- ARGS...")
@click.option("--host-pids", is_flag=True, help="See and trace the host's processes (root in the container).")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Mount this directory at /out, for reports and core files to keep.",
)
@click.option(
    "--room", default=4096, show_default=True, metavar="MIB", help="Size of /tmp, which holds core files in memory."
)
@click.option("--dry-run", is_flag=True, help="Show the command line of docker, and ask no engine.")
def run(words: tuple[str, ...], host_pids: bool, folder: Path | None, room: int, dry_run: bool) -> None:
    """Run any sevkit command in a container, such as: sevkit container run -- attack run leak --modes nosev.

    The container has no network, no capability, and nothing to write to but memory; it gets /dev/kvm and /dev/sev where
    they exist. The exit status is the command's.
    """
    from sevkit.container import run as runner
    from sevkit.container.engine import find

    passed = tuple((name, os.environ[name]) for name in ("NO_COLOR", "COLUMNS") if name in os.environ)
    wish = runner.Wish(host_pids=host_pids, folder=folder, room_mib=room, environment=passed)
    if dry_run:
        from sevkit import processes
        from sevkit.container import command_line

        click.echo(processes.pasteable(command_line.of_run(words, wish)))
        click.echo(f"# {command_line.volume_note()}")
        return
    with find() as engine:
        status = runner.run(engine, words, wish, runner.to_streams)
    sys.stdout.flush()
    raise SystemExit(status)
