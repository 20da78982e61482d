"""``sevkit attack explain``."""

import shutil
import sys
from typing import Any

import click

from sevkit.cli.attack.step import mitigations_option, parse_mitigations, perform
from sevkit.cli.output import colour, finish, json_option
from sevkit.errors import ExitCode
from sevkit.result import Result
from sevkit.vocabulary import Mode


@click.command()
@click.argument("name")
@click.option("--mode", type=click.Choice(list(map(str, Mode))), default="sev", show_default=True)
@click.option("--seed", default=1, show_default=True)
@mitigations_option
@json_option
def explain(name: str, mode: str, seed: int, mitigations: str | None, as_json: bool) -> None:
    """Tell the story of one attack in one mode, step by step, from an experiment in the software model.

    Exits 0 when the outcome is as expected, 1 when it is not.
    """
    from sevkit import attacks

    data = perform(attacks.find(name), Mode(mode), parse_mitigations(mitigations), seed)
    code = ExitCode.DONE if data["as_expected"] else ExitCode.NO
    finish(Result("attack explain", data, code), as_json=as_json, human=_show)


def _show(data: dict[str, Any]) -> None:
    from sevkit.render import matrix as renderer

    width = min(110, shutil.get_terminal_size((100, 24)).columns)
    click.echo(renderer.story(data, colour=colour(sys.stdout), width=width), nl=False)
