"""``sevkit attack list``."""

from typing import Any

import click

from sevkit import attacks
from sevkit.cli.output import finish, json_option
from sevkit.result import Result


@click.command("list")
@json_option
def list_attacks(as_json: bool) -> None:
    """List the attacks."""
    data = {"attacks": [{"name": a.name, "title": a.title, "summary": a.summary} for a in attacks.discover().values()]}
    finish(Result("attack list", data), as_json=as_json, human=_show)


def _show(data: dict[str, Any]) -> None:
    width = max(len(each["name"]) for each in data["attacks"])
    for each in data["attacks"]:
        click.echo(f"{each['name']:<{width}}  {each['title']}")
