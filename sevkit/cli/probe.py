"""``sevkit probe``: what this CPU and host can do for encrypted guests, and why not."""

from typing import Any

import click

from sevkit.cli.output import finish, json_option
from sevkit.errors import UsageError
from sevkit.probe.answer import MODES, Request, answer
from sevkit.result import Result

FORMATS = ("human", "json", "cpuid", "prometheus", "nfd", "junit")


@click.group("probe", invoke_without_command=True)
@json_option
@click.option("--short", is_flag=True, help="One line for each mode, and what blocks it.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="human", help="How to print the answer.")
@click.option("--from", "source", metavar="FILE", help="Read a CPUID dump or a saved host instead of this machine.")
@click.option("--log", metavar="FILE", help="Judge a saved kernel log alone.")
@click.option("--save", metavar="FILE", help="Save everything that was read, to judge it elsewhere.")
@click.option("--require", type=click.Choice(MODES), help="Exit 1, naming what blocks it, unless the mode can be used.")
@click.option(
    "--host", "hosts", metavar="SPEC", multiple=True, help="Probe other hosts (ssh://, docker://, ansible://, …)."
)
@click.pass_context
def command(
    ctx: click.Context, as_json: bool, short: bool, form: str, hosts: tuple[str, ...], **asked: str | None
) -> None:
    """What this CPU and host can do for encrypted guests, and why not."""
    if ctx.invoked_subcommand:
        return
    del short, hosts
    result = answer(Request(**asked))
    show(result, "json" if as_json else form)


def show(result: Result, form: str) -> None:
    """Print a result in the form asked for, and end."""
    finish(result, as_json=form == "json", human=lambda data: click.echo(text(data, form), nl=False))


def text(data: dict[str, Any], form: str) -> str:
    """The report in one of the text formats."""
    if form == "cpuid":
        from sevkit.probe.leaf import Registers
        from sevkit.render.cpuid import render

        raw = data["leaf"]["raw"]
        return render(Registers(**raw) if raw else None)
    raise UsageError(f"--format {form} is not here yet")
