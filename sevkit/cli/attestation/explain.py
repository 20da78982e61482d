"""``sevkit measure explain``: why a report has another digest than the one computed."""

import sys
from pathlib import Path
from typing import Any

import click

from sevkit.cli.attestation import files
from sevkit.cli.attestation.launch_options import Hex, launch_inputs, launch_options
from sevkit.cli.output import finish, json_option
from sevkit.errors import ExitCode
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
@click.option("--changes", type=click.IntRange(1, 4), default=3, show_default=True, help="Changed inputs at most.")
@click.option("--max-vcpus", type=click.IntRange(1, 4096), default=512, show_default=True)
@json_option
def explain(as_json: bool, **options: Any) -> None:
    """Find the smallest change of inputs that gives the digest that was reported.

    Exits 0 when a change was found or the digests are equal, 1 when every candidate was ruled out, 3 when the search
    ended before it was complete.
    """
    from sevkit.attestation.measure.explain import Limits
    from sevkit.attestation.measure.explain import explain as search

    inputs = launch_inputs(options)
    expected = _expected(options)
    limits = Limits(changes=options["changes"], vcpus=options["max_vcpus"])
    progress = _progress if sys.stderr.isatty() and not as_json else None
    answer = search(inputs, expected, material=_material(options), limits=limits, progress=progress)
    code = ExitCode.DONE if answer.found is not None else ExitCode.NO if answer.complete else ExitCode.INCONCLUSIVE
    finish(Result("measure explain", answer.as_dict(), code), as_json=as_json, human=_show)


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

    def gather(paths: tuple[Path, ...]) -> dict[str, bytes]:
        return {name: data for path in paths for name, data in files.files_under(path, _MOST_FIRMWARE)}

    return Material(
        firmware=gather(options["also_ovmf"]),
        kernels=gather(options["also_kernel"]),
        initrds=gather(options["also_initrd"]),
        cmdlines=options["also_append"],
    )


def _progress(done: int, text: str) -> None:
    click.echo(f"\r\x1b[K{done} candidates, {text}", err=True, nl=False)


def _show(data: dict[str, Any]) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if data["equal"]:
        click.echo(f"equal: {data['launch_digest']}")
        return
    click.echo(f"computed: {data['launch_digest']}\nreported: {data['expected']}")
    if data["found"] is None:
        click.echo(f"nothing explains it among {data['tried']} candidates. Ruled out:")
        for line in data["ruled_out"]:
            click.echo(f"  {line}")
        if not data["complete"]:
            click.echo("  the search was cut short: give fewer --also files or --changes")
        return
    for number, changes in enumerate([data["found"], *data["others"]]):
        click.echo("explained by:" if not number else "or by:")
        for change in changes:
            click.echo(f"  {change['input']}: {change['given']} -> {change['actual']}")
