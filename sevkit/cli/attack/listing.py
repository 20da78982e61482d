"""``sevkit attack list``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.cli.attack.options import attacks_option
from sevkit.cli.attack.shim import reporting, shown
from sevkit.result import Result


@click.command("list")
@attacks_option
@reporting
def list_attacks(folder: Path | None) -> Any:
    """List the attacks, and at which levels each can be performed."""
    from sevkit import attacks

    rows = [
        {"name": a.name, "title": a.title, "summary": a.summary, "levels": [str(each) for each in a.levels]}
        for a in attacks.discover(folder).values()
    ]
    return shown(Result("attack list", {"attacks": rows}), _show)


def _show(data: dict[str, Any]) -> Iterator[str]:
    width = max(len(each["name"]) for each in data["attacks"])
    for each in data["attacks"]:
        yield f"{each['name']:<{width}}  {each['title']}  [{', '.join(each['levels'])}]"
