"""Commands of sevkit's whose last words are a command in a guest: whose options are whose."""

import click

from sevkit.errors import UsageError


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
