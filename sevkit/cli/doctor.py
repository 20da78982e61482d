"""``sevkit doctor``."""

import sys
from collections.abc import Iterator

import click

from sevkit.cli.output import colour, reporting
from sevkit.doctor.payload import Examination
from sevkit.errors import ExitCode
from sevkit.result import Result


@click.command(name="doctor")
@reporting
def command() -> Result[Examination]:
    """Say what works here as this user, and what is missing for the rest.

    Exits 0 when the core works: probing, the leak experiment in the software model, and searching memory; 4 otherwise.
    """
    from sevkit import doctor

    data = doctor.examine()
    code = ExitCode.DONE if data["core_works"] else ExitCode.ENVIRONMENT
    return Result("doctor", data, code, human=_show)


def _show(data: Examination) -> Iterator[str]:
    good, bad, plain = ("\x1b[32m", "\x1b[33m", "\x1b[0m") if colour(sys.stdout) else ("", "", "")
    who = "root" if data["user"]["root"] else f"user {data['user']['uid']}"
    yield f"As {who}{' in a container' if data['user']['container'] else ''}, Python {data['python']}:"
    for ability in data["abilities"]:
        mark = f"{good}yes{plain}" if ability["works"] else f"{bad}no {plain}"
        yield f"  {mark}  {ability['what']}  ({ability['command']})"
        if ability["missing"]:
            yield f"         missing: {', '.join(ability['missing'])}"
    missing = [need for need in data["needs"] if not need["works"]]
    if missing:
        yield "\nWhat is missing:"
    for need in missing:
        yield f"  {need['name']}: {need['what']}: {need['found']}"
        if need["hint"]:
            yield f"    hint: {need['hint']}"
    yield "\nWhat is there:"
    for need in data["needs"]:
        if need["works"]:
            yield f"  {need['name']}: {need['found']}"
