"""Options that click would silently ignore: all but the last of an option that counts once, and those of a group.

`scan --core a --core b` would search b alone, and `report verify --policy strict --policy lax` would judge by the
second policy: both answers would look complete.
"""

from collections import Counter
from collections.abc import Sequence

import click

from sevkit.errors import UsageError


def repeated(command: click.Command, words: Sequence[str], context: click.Context | None = None) -> str | None:
    """The first option in a command line that counts once and was given more often; None for a line that is wrong.

    Such a line is left to the command, which says what is wrong with it.
    """
    here = command.context_class(command, parent=context, info_name=command.name, **command.context_settings)
    try:
        _, rest, order = command.make_parser(here).parse_args(list(words))
        often = Counter(item for item in order if isinstance(item, click.Option) and _counts_once(item))
        for option, times in often.items():
            if times > 1:
                return max(option.opts, key=len)
        if not isinstance(command, click.Group) or not rest:
            return None
        _, below, after = command.resolve_command(here, rest)
    except click.ClickException:
        return None
    return repeated(below, after, here) if below is not None else None


def _counts_once(option: click.Option) -> bool:
    return not (option.multiple or option.is_flag or option.count)


def given(ctx: click.Context) -> list[click.Parameter]:
    """What stands on the command line itself, in the order of the command's parameters."""
    source = click.core.ParameterSource.COMMANDLINE
    return [each for each in ctx.command.params if each.name and ctx.get_parameter_source(each.name) is source]


def misplaced(ctx: click.Context, *allowed: str) -> None:
    """Raise UsageError for options of a group that its command would not see; ``allowed`` are those it does."""
    if any(each.name in ctx.params and each.name not in allowed for each in given(ctx)):  # --json is for both
        raise UsageError(f"options of `{ctx.command.name} {ctx.invoked_subcommand}` stand behind its name")
