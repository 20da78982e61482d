"""``sevkit report-check``: recompute the figures and the verdict of a report."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.cli.output import reporting
from sevkit.errors import ExitCode
from sevkit.evidence.payload import Checked
from sevkit.result import Result

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("report-check")
@click.argument("report", type=_FILE)
@click.option("--key", type=_FILE, help="The public key (Ed25519, PEM or OpenSSH) of the signature REPORT.sig.")
@reporting
def command(report: Path, key: Path | None) -> Result[Checked]:
    """Check an HTML report of `attack run`: its embedded result, its summary, files that are here, its signature.

    Exits 0 when nothing is wrong, 1 when something is. What cannot be checked here is listed as open.
    """
    from sevkit import evidence

    data = evidence.check(report, key)
    return Result("report-check", data, ExitCode.DONE if data["sound"] else ExitCode.NO, human=_show)


def _show(data: Checked) -> Iterator[str]:
    """What the report itself says stays within its line: it could claim a finding of its own in the next one."""
    from sevkit.cleantext import line

    yield line(f"{data['report']}: {'nothing is wrong' if data['sound'] else 'SOMETHING IS WRONG'}")
    host, operator, ticket = data["host"]["name"], data["operator"] or "-", data["ticket"] or "-"
    yield line(f"  host {host}, operator {operator}, ticket {ticket}")
    for each in data["findings"]:
        yield line(f"  {each['state']:<9}  {each['what']}: {each['detail']}")
