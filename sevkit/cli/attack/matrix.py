"""``sevkit attack matrix``."""

import shutil
import sys
from pathlib import Path
from typing import Any

import click

from sevkit.cli.output import colour, finish, json_option
from sevkit.errors import ExitCode
from sevkit.result import Result


@click.command()
@click.argument("names", nargs=-1)
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path), help="Write the matrix as one HTML page.")
@click.option("--markdown", is_flag=True, help="Print the matrix as Markdown.")
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same experiments, byte for byte.")
@json_option
def matrix(names: tuple[str, ...], html: Path | None, markdown: bool, seed: int, as_json: bool) -> None:
    """Perform every attack in every mode in the software model: expected against observed.

    NAMES are attacks; the default is all. Exits 0 when every cell is as expected, 1 when one is not.
    """
    from sevkit import attacks
    from sevkit.attacks.matrix import as_data, run_matrix

    chosen = [attacks.find(name) for name in names] or list(attacks.discover().values())
    data = as_data(chosen, run_matrix(chosen, seed=seed), seed)
    if html is not None:
        from sevkit.render import matrix as renderer

        html.write_text(renderer.html(data))
    code = ExitCode.DONE if data["as_expected"] else ExitCode.NO
    finish(Result("attack matrix", data, code), as_json=as_json, human=lambda d: _show(d, markdown))


def _show(data: dict[str, Any], markdown: bool) -> None:
    from sevkit.render import matrix as renderer

    if markdown:
        click.echo(renderer.markdown(data), nl=False)
        return
    width = min(140, shutil.get_terminal_size((100, 24)).columns)
    click.echo(renderer.text(data, colour=colour(sys.stdout), width=width), nl=False)
