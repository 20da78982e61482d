"""``sevkit guest``: launch and use guests in every mode."""

import click

from sevkit.cli.guest.attest import attest
from sevkit.cli.guest.certificates import certificates
from sevkit.cli.guest.launch import launch
from sevkit.cli.guest.lint import lint
from sevkit.cli.guest.manage import list_guests, stop, verify
from sevkit.cli.guest.run import run
from sevkit.cli.guest.shell import ssh
from sevkit.cli.guest.state import reboot, restore, resume, snapshot, suspend
from sevkit.cli.guest.use import console, copy, execute, log


@click.group()
def command() -> None:
    """Launch and use guests in every mode."""


_USE = (execute, ssh, copy, console, log, verify, attest, certificates)
for each in (launch, run, lint, list_guests, *_USE, suspend, resume, reboot, snapshot, restore, stop):
    command.add_command(each)
