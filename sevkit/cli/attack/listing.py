"""``sevkit attack list``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.cli.attack.options import attacks_option
from sevkit.cli.output import reporting
from sevkit.result import Result


@click.command("list")
@attacks_option
@reporting
def list_attacks(folder: Path | None) -> Result[dict[str, Any]]:
    """List the attacks, and at which levels each can be performed."""
    from sevkit import attacks

    rows = [
        {"name": a.name, "title": a.title, "summary": a.summary, "levels": [str(each) for each in a.levels]}
        for a in attacks.discover(folder).values()
    ]
    return Result("attack list", {"attacks": rows}, human=_show)


def _show(data: dict[str, Any]) -> Iterator[str]:
    width = max(len(each["name"]) for each in data["attacks"])
    for each in data["attacks"]:
        yield f"{each['name']:<{width}}  {each['title']}  [{', '.join(each['levels'])}]"
