"""Stand-in for the returning of results until the rest of the command line has it."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import click

from sevkit.cli.output import finish, json_option
from sevkit.result import Result


def reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``; print the result that the command returns, and end with its exit code."""

    @json_option
    @functools.wraps(function)
    def call(*args: Any, as_json: bool, **options: Any) -> None:
        click.get_current_context().meta["sevkit.json"] = as_json
        result, human = function(*args, **options)

        def show(data: Any) -> None:
            for line in human(data):
                click.echo(line)

        finish(result, as_json=as_json, human=show)

    return call


def shown(result: Result, human: Callable[[Any], Iterable[str]]) -> Any:
    """A result with its text for people."""
    return result, human


def json_wanted() -> bool:
    """Whether ``--json`` was given."""
    return bool(click.get_current_context().meta.get("sevkit.json"))
