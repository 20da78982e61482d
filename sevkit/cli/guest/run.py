"""``sevkit guest run``: a guest for one command."""

import secrets
import sys
from typing import Any

import click

from sevkit.cli.guest.command_words import PassesOn, outputs
from sevkit.cli.guest.launch import plan
from sevkit.cli.guest.options import (
    guest_options,
    make_spec,
    media_options,
    real_hypervisor_option,
    refuse_idle,
    storage_options,
)
from sevkit.cli.output import json_wanted, pass_on, reporting
from sevkit.cli.progress import progress
from sevkit.cli.sizes import SECONDS
from sevkit.errors import UsageError
from sevkit.hypervisor.payload import LaunchPlan, RanInGuest
from sevkit.result import Result
from sevkit.vocabulary import Mode


@click.command(cls=PassesOn)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD...")
@click.option("--mode", type=click.Choice(list(map(str, Mode))), default="nosev", show_default=True)
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="SECONDS", help="Limit for the start."
)
@click.option("--command-timeout", type=SECONDS, default=3600.0, show_default=True, metavar="SECONDS")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input to the command.")
@click.option("--dry-run", is_flag=True, help="Print the command line and launch nothing.")
@real_hypervisor_option
@guest_options
@storage_options
@media_options
@reporting
def run(
    words: tuple[str, ...],
    mode: str,
    timeout: float,
    command_timeout: float,
    interactive: bool,
    dry_run: bool,
    hypervisor: str,
    **options: Any,
) -> Result[RanInGuest] | Result[LaunchPlan] | int:
    """Launch a guest, run one command in it, and remove it. The exit status is the command's.

    Such as: sevkit guest run --mode sev-snp --kernel arch/x86/boot/bzImage -- dmesg
    """
    from sevkit.hypervisor import select

    refuse_idle(Mode(mode), options)
    spec = make_spec(f"run-{secrets.token_hex(4)}", Mode(mode), options)
    if not spec.has_agent:
        raise UsageError("a guest with an initrd or ISO image of its own runs no commands", hint="sevkit guest launch")
    if dry_run:
        return plan("guest run", [spec], hypervisor)
    stdin = sys.stdin.buffer.read() if interactive else b""
    with progress(f"launching a {mode} guest") as say:
        choice = select.choose(hypervisor, spec.mode, say, real=True)
        guest = choice.hypervisor.launch(spec, timeout=timeout)
    try:
        done = guest.run(list(words), stdin=stdin, timeout=command_timeout)
        provenance = str(guest.provenance)
    finally:
        guest.stop()
    if not json_wanted():
        return pass_on(done.stdout, done.stderr, done.status)
    data: RanInGuest = {
        "mode": mode,
        "hypervisor": choice.hypervisor.name,
        "provenance": provenance,
        "status": done.status,
        **outputs(done),
    }
    return Result("guest run", data, done.status)
