"""``sevkit guest ssh``, and a terminal for ``guest exec -t``."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from sevkit.cli.guest.command_words import PassesOn
from sevkit.errors import UnsupportedModeError


@click.command(cls=PassesOn)
@click.argument("name")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[--] [CMD]...")
def ssh(name: str, words: tuple[str, ...]) -> None:
    """Open a shell in a guest, or run a command there, by ssh: the VMM sees nothing in clear.

    The key is made for this guest alone; the host key is learned through the agent.
    """
    become_ssh(name, words, terminal=sys.stdin.isatty() and sys.stdout.isatty())


def become_ssh(name: str, words: Sequence[str], *, terminal: bool) -> NoReturn:
    """Replace this process by ssh into the guest: its exit status is the command's."""
    from sevkit.hypervisor.qemu.guest import QemuGuest
    from sevkit.hypervisor.select import attach

    guest = attach(name)
    if not isinstance(guest, QemuGuest):
        raise UnsupportedModeError("guests of the mock have no ssh server", hint="sevkit guest exec NAME -- CMD")
    argv = guest.ssh_command(words, terminal=terminal)
    sys.stdout.flush()
    os.execv(argv[0], argv)  # noqa: S606 - the terminal and the exit status are ssh's
