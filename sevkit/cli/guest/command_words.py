"""Commands of sevkit's whose last words are a command in a guest: whose options are whose, and what it printed."""

import base64

import click

from sevkit.errors import UsageError
from sevkit.guest.result import CommandResult
from sevkit.hypervisor.payload import Outputs


class PassesOn(click.Command):
    """Before `--` stand sevkit's options; without it, what follows the first word belongs to the guest's command.

    So `guest exec g ls -t` lists by time, and a misspelt option of sevkit's is an error, never a word for the guest.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options; raises UsageError for one between the guest's name and the command."""
        split = "--" in args
        ctx.allow_interspersed_args = split
        rest = super().parse_args(ctx, args)
        words = ctx.params.get("words") or ()
        if not split and words and words[0].startswith("-"):
            raise UsageError(
                f"{words[0]} stands where the guest's command begins",
                hint="options come first; or set the command off: NAME OPTIONS -- CMD",
            )
        return rest


def outputs(done: CommandResult) -> Outputs:
    """The output of a command for JSON, which has no bytes: as text, and in base64 what is no text."""
    found: Outputs = {
        "stdout": done.stdout.decode(errors="replace"),
        "stderr": done.stderr.decode(errors="replace"),
    }
    if found["stdout"].encode() != done.stdout:
        found["stdout_base64"] = base64.b64encode(done.stdout).decode()
    if found["stderr"].encode() != done.stderr:
        found["stderr_base64"] = base64.b64encode(done.stderr).decode()
    return found
