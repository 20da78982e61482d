"""``sevkit attack``: run the attacks, and see which of them each mode stops."""

import click

from sevkit.cli.attack.explain import explain
from sevkit.cli.attack.listing import list_attacks
from sevkit.cli.attack.matrix import matrix
from sevkit.cli.attack.run import run


@click.group()
def command() -> None:
    """Run the attacks, and see what each mode stops."""


for each in (list_attacks, run, matrix, explain):
    command.add_command(each)
