"""``sevkit measure explain``: why a report's digest differs from the computed one."""

import sys
from pathlib import Path
from typing import Any

import click

from sevkit.attestation.payload import Explanation
from sevkit.cli.attestation import files
from sevkit.cli.attestation.launch_options import Hex, launch_inputs, launch_options
from sevkit.cli.output import json_wanted, reporting
from sevkit.errors import BadInputError, ExitCode
from sevkit.render import attestation as text
from sevkit.result import Result

_PLACE = click.Path(exists=True, path_type=Path)
_MOST_FIRMWARE = 64 << 20


@click.command("explain")
@launch_options
@click.option("--expected", type=Hex(), help="The digest that was reported, in hex or base64.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Take the digest from a report.",
)
@click.option("--also-ovmf", multiple=True, type=_PLACE, help="A firmware image, or a folder of them, to try.")
@click.option("--also-kernel", multiple=True, type=_PLACE, help="A kernel, or a folder of them, to try.")
@click.option("--also-initrd", multiple=True, type=_PLACE, help="An initrd, or a folder of them, to try.")
@click.option("--also-append", multiple=True, metavar="TEXT", help="A command line to try.")
@click.option(
    "--changes", type=click.IntRange(1, 4), default=3, show_default=True, help="Maximum number of changed inputs."
)
@click.option("--max-vcpus", type=click.IntRange(1, 4096), default=512, show_default=True)
@reporting
def explain(**options: Any) -> Result[Explanation]:
    """Find the smallest change of inputs that gives the digest that was reported.

    Exits 0 when a change was found or the digests are equal, 1 when every candidate was ruled out, 3 when the search
    ended before it was complete.
    """
    from sevkit.attestation.measure.explain import Limits
    from sevkit.attestation.measure.explain import explain as search

    inputs = launch_inputs(options)
    expected = _expected(options)
    limits = Limits(changes=options["changes"], vcpus=options["max_vcpus"])
    progress = _progress if sys.stderr.isatty() and not json_wanted() else None
    answer = search(inputs, expected, material=_material(options), limits=limits, progress=progress)
    if progress is not None:
        click.echo("\r\x1b[K", err=True, nl=False)
    code = ExitCode.DONE if answer.found is not None else ExitCode.NO if answer.complete else ExitCode.INCONCLUSIVE
    return Result("measure explain", answer.as_dict(), code, human=text.explanation)


def _expected(options: dict[str, Any]) -> bytes:
    from sevkit.attestation.report.evidence import read
    from sevkit.attestation.report.parse import parse
    from sevkit.errors import UsageError

    if (options["expected"] is None) == (options["report_file"] is None):
        raise UsageError("give --expected HEX or --report FILE")
    if options["expected"] is not None:
        expected: bytes = options["expected"]
        return expected
    return parse(read(files.read(options["report_file"])).report).bytes_of("measurement")


def _material(options: dict[str, Any]) -> Any:
    from sevkit.attestation.measure.alternatives import Material

    return Material(
        firmware=_gather(options["also_ovmf"]),
        kernels=_gather(options["also_kernel"]),
        initrds=_gather(options["also_initrd"]),
        cmdlines=options["also_append"],
    )


def _gather(paths: tuple[Path, ...]) -> dict[str, bytes]:
    found = {name: data for path in paths for name, data in files.files_under(path, _MOST_FIRMWARE)}
    for name, data in found.items():
        if len(data) > _MOST_FIRMWARE:
            raise BadInputError(
                f"{name} is larger than {_MOST_FIRMWARE >> 20} MiB", hint="name the files instead of their folder"
            )
    return found


def _progress(done: int, text: str) -> None:
    click.echo(f"\r\x1b[K{done} candidates, {text}", err=True, nl=False)
