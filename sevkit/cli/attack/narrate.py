"""Print the steps of an experiment while it runs, for ``--step``."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from sevkit.cli.attack.options import width
from sevkit.cli.output import colour

if TYPE_CHECKING:
    from sevkit.attacks.experiment import Attack, Step
    from sevkit.attacks.plan import Planned


def narrator(attack: "Attack") -> "Callable[[Planned], Callable[[Step], None]]":
    """For each mode a listener that prints every entry of the notebook as it is written.

    It waits for a key after each, where there is somebody to press it.
    """
    from sevkit.render import matrix as renderer

    waits = sys.stdin.isatty() and sys.stdout.isatty()

    def begin(planned: "Planned") -> "Callable[[Step], None]":
        click.echo(_bold(f"\n=== {attack.title}: {planned.mode} [{planned.level}] ==="))
        stage: list[str] = []

        def tell(step: "Step") -> None:
            if stage[-1:] != [str(step.stage)]:
                stage.append(str(step.stage))
                click.echo("\n" + _bold(str(step.stage)))
            click.echo("\n".join(renderer.step_lines({"text": step.text, "data": step.data}, width())))
            if waits:
                click.pause("    [press a key]")

        return tell

    return begin


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour(sys.stdout) else text
