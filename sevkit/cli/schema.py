"""``sevkit schema``: the JSON Schema of a command's output with --json."""

import json
import typing
from collections.abc import Iterator

import click

from sevkit.errors import UsageError


@click.command(name="schema")
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
def command(words: tuple[str, ...]) -> None:
    """Print the JSON Schema of the envelope that COMMAND prints with --json, such as: sevkit schema guest list.

    Without COMMAND, list the commands that have one.
    """
    from sevkit.cli.tree import root

    known = dict(reporting_commands(root, click.Context(root, info_name="sevkit")))
    name = " ".join(words)
    if not name:
        click.echo("\n".join(sorted(known)))
        return
    if name not in known:
        raise UsageError(f"no command {name!r} reports in JSON", hint="`sevkit schema` lists those that do")
    click.echo(json.dumps(schema_of(name, known[name]), indent=2))


def reporting_commands(group: click.Group, ctx: click.Context) -> Iterator[tuple[str, click.Command]]:
    """The commands with --json under a group, by the words that call them."""
    for name in group.list_commands(ctx):
        found = group.get_command(ctx, name)
        assert found is not None
        inner = click.Context(found, info_name=name, parent=ctx)
        if any("--json" in parameter.opts and not parameter.expose_value for parameter in found.params):
            yield inner.command_path.removeprefix("sevkit "), found
        if isinstance(found, click.Group):
            yield from reporting_commands(found, inner)


def schema_of(name: str, found: click.Command) -> dict[str, typing.Any]:
    """The schema of one command."""
    from sevkit.schema import envelope_schema

    assert found.callback is not None
    return envelope_schema(name, typing.get_type_hints(found.callback)["return"])
