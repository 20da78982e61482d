"""``sevkit attack list``."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from sevkit.attacks.payload import ListData, ListedAttack
from sevkit.cli.attack.options import attacks_option
from sevkit.cli.output import reporting
from sevkit.errors import UsageError
from sevkit.result import Result

LINES = ("naples", "rome", "milan", "genoa", "bergamo", "siena", "turin", "venice")
_COMPONENTS = ("bootloader", "tee", "snp", "microcode", "fmc")  # of a TCB version (SEV-SNP firmware ABI, TCB_VERSION)


@click.command("list")
@click.option(
    "--generation", type=click.Choice(LINES, case_sensitive=False), help="Say what applies to these processors."
)
@click.option("--tcb", metavar="LIST", help="With --generation: firmware versions, such as snp=24,microcode=219.")
@attacks_option
@reporting
def list_attacks(generation: str | None, tcb: str | None, folder: Path | None) -> Result[ListData]:
    """List the attacks, and at which levels each can be performed.

    With --generation, say for each published attack whether it applies to guests of those processors' strongest mode,
    as far as the table of bulletins tells: yes, no or unknown, with the reason.
    """
    from sevkit import attacks

    if tcb is not None and generation is None:
        raise UsageError("--tcb says nothing without --generation")
    rows: list[ListedAttack] = [
        {"name": a.name, "title": a.title, "summary": a.summary, "levels": [str(each) for each in a.levels]}
        for a in attacks.discover(folder).values()
    ]
    data: ListData = {"attacks": rows}
    if generation is not None:
        data["generation"] = generation
        data["mode"], data["published"] = _published(generation, _levels(tcb))
    return Result("attack list", data, human=_show)


def _levels(text: str | None) -> dict[str, int] | None:
    """Security version numbers by the name of the component; raises UsageError."""
    if text is None:
        return None
    try:
        pairs = [word.split("=") for word in text.split(",")]
        levels = {name.strip().lower(): int(value, 0) for name, value in pairs}
    except ValueError as error:
        raise UsageError(
            f"--tcb: {text!r} is not a list of NAME=NUMBER", hint="such as snp=24,microcode=219"
        ) from error
    for name, value in levels.items():
        if name not in _COMPONENTS or not 0 <= value <= 255:
            raise UsageError(f"--tcb: {name}={value} is no level", hint=f"{', '.join(_COMPONENTS)}: 0 to 255")
    return levels


def _published(generation: str, tcb: dict[str, int] | None) -> tuple[str, list[dict[str, Any]]]:
    """The processors' strongest mode, and every bulletin judged for it, with the attacks that perform it here."""
    from sevkit.attestation.tcb import judge, table
    from sevkit.attestation.tcb.known import Known

    line = generation.capitalize()
    mode = table.strongest_mode(line)
    known = Known(line=line, tcb=tcb, current_tcb=tcb, origin="command line")
    rows = [dict(each.as_dict()) for each in judge.judge_all(known, mode)]
    return str(mode), rows


def _show(data: Mapping[str, Any]) -> Iterator[str]:
    if "published" in data:
        yield from _show_published(data)
        return
    width = max(len(each["name"]) for each in data["attacks"])
    for each in data["attacks"]:
        yield f"{each['name']:<{width}}  {each['title']}  [{', '.join(each['levels'])}]"


def _show_published(data: Mapping[str, Any]) -> Iterator[str]:
    yield f"Published attacks on {data['mode']} guests, on {data['generation']}:"
    for each in data["published"]:
        here = f"  [sevkit attack explain {each['attacks'][0]}]" if each["attacks"] else ""
        yield f"{each['applies']:<8} {each['name']} ({each['id']}, {each['how_sure']}){here}"
        yield f"         {each['why']}"
