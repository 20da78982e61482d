"""``sevkit attack explain``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import click

from sevkit.attacks.payload import Explained
from sevkit.cli.attack.options import attacks_option, mitigations_option, parse_mitigations, width
from sevkit.cli.output import colour, reporting
from sevkit.result import Result
from sevkit.vocabulary import Mode


@click.command()
@click.argument("name")
@click.option("--mode", type=click.Choice(list(map(str, Mode))), default="sev", show_default=True)
@click.option("--seed", default=1, show_default=True)
@mitigations_option
@attacks_option
@reporting
def explain(name: str, mode: str, seed: int, mitigations: str | None, folder: Path | None) -> Result[Explained]:
    """Explain one attack in one mode, step by step, by running it in the software model.

    Exits 0 when the outcome is as expected, 1 when it is not, 3 when it is inconclusive.
    """
    from sevkit import attacks
    from sevkit.attacks import runner

    attack, switched_on = attacks.find(name, folder), parse_mitigations(mitigations)
    done = runner.in_model(attack, Mode(mode), switched_on, seed=seed)
    column = f"{mode} + mitigations" if switched_on else mode
    data = cast("Explained", {**runner.about(attack), **done.as_dict(), "column": column})
    return Result("attack explain", data, runner.exit_code([done]), human=_show)


def _show(data: Mapping[str, Any]) -> Iterator[str]:
    from sevkit.render import matrix as renderer

    yield renderer.story(data, colour=colour(sys.stdout), width=width())
