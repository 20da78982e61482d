"""``sevkit probe``: what this CPU and host can do for encrypted guests, and why not."""

import json
import sys
from collections.abc import Mapping
from typing import Any

import click

from sevkit.cli.output import colour, json_wanted, reporting, want_json
from sevkit.cli.refuse import misplaced
from sevkit.errors import ExitCode, UsageError
from sevkit.probe.answer import MODES, Request, answer
from sevkit.probe.payload import Difference, Fleet, LogReport, Report
from sevkit.result import Result

FORMATS = ("human", "json", "cpuid", "prometheus", "nfd", "junit", "jsonl")
_HOSTS_HELP = "Probe another host: ssh://, docker://, podman://, kubectl://, ansible://; repeatable."
_REQUIRE_HELP = "Exit 1, naming what blocks it, unless this mode can be used."


@click.group("probe", invoke_without_command=True)
@reporting
@click.option("--all", "everything", is_flag=True, help="List the checks that were not reached, too.")
@click.option("--short", is_flag=True, help="One line for each mode, and what blocks it.")
@click.option("--format", "form", type=click.Choice(FORMATS), default="human", help="How to print the answer.")
@click.option("--from", "source", metavar="FILE", help="Read a CPUID dump or a saved host instead of this machine.")
@click.option("--log", metavar="FILE", help="Judge a saved kernel log alone.")
@click.option("--save", metavar="FILE", help="Save everything that was read, to judge it elsewhere.")
@click.option("--require", type=click.Choice(MODES), help=_REQUIRE_HELP)
@click.option("--host", "hosts", metavar="SPEC", multiple=True, help=_HOSTS_HELP)
@click.pass_context
def command(
    ctx: click.Context, /, everything: bool, short: bool, form: str, hosts: tuple[str, ...], **asked: str | None
) -> Result[Report] | Result[LogReport] | Result[Fleet] | None:
    """What this CPU and host can do for encrypted guests, and why not.

    Reads this machine, or what --from, --log or --host name. A reading that fails is unknown, never "off".
    """
    if ctx.invoked_subcommand:
        misplaced(ctx, "form")
        return None
    form = "json" if json_wanted() else "short" if short and form == "human" else form
    _refuse_contradictions(form, hosts, asked)
    if form == "json":
        want_json()
    result = _fleet(hosts) if hosts else answer(Request(**asked))
    saved = [f"saved to {asked['save']}"] if asked["save"] else []
    return result.shown_as(lambda data: [text(data, form, everything=everything), *saved])


@command.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@reporting
@click.pass_context
def diff(ctx: click.Context, /, a: str, b: str) -> Result[Difference]:
    """Explain what differs between two saved hosts (or CPUID dumps), and which of it matters."""
    from sevkit.probe.diff import compare
    from sevkit.probe.sources import read_source

    form = ctx.parent.params["form"] if ctx.parent else "human"
    if form not in {"human", "json"}:
        raise UsageError(f"--format {form} does not go with diff", hint="use --json")
    if form == "json":
        want_json()
    data = compare(read_source(a), read_source(b), (a, b))
    return Result("probe diff", data, human=lambda data: [text(data, "diff")])


def _fleet(hosts: tuple[str, ...]) -> Result[Fleet]:
    from sevkit.probe.hosts import probe_hosts

    data, errors = probe_hosts(hosts)
    lost = len(errors) == len(data["hosts"])
    return Result("probe", data, errors[0].exit_code if lost else ExitCode.DONE, errors)


def _refuse_contradictions(form: str, hosts: tuple[str, ...], asked: dict[str, str | None]) -> None:
    given = [f"--{'from' if name == 'source' else name}" for name in ("source", "log") if asked[name] is not None]
    given += ["--host"] if hosts else []
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", hint="ask about one thing at a time")
    if (hosts or asked["log"] is not None) and (asked["save"] or asked["require"]):
        raise UsageError(f"--save and --require do not go with {given[0]}", hint="leave them out")
    fits = ("human", "short", "json", *(("prometheus", "jsonl", "junit") if hosts else ()))
    if (hosts or asked["log"] is not None) and form not in fits:
        raise UsageError(f"--format {form} does not go with {given[0]}", hint="use --json")


def text(data: Mapping[str, Any], form: str, *, everything: bool = False) -> str:
    """The report in one of the text formats."""
    if form == "cpuid":
        return _cpuid(data)
    if form == "jsonl":
        return "".join(f"{json.dumps(row)}\n" for row in data.get("hosts", [data]))
    if form == "prometheus":
        from sevkit.render import prometheus

        return prometheus.fleet(data) if "hosts" in data else prometheus.render(data)
    if form == "nfd":
        from sevkit.render.nfd import render as nfd

        return nfd(data)
    if form == "junit":
        from sevkit.render import junit

        if "hosts" in data:
            from sevkit.probe.checks import readiness

            return junit.fleet(data, readiness.advice())
        return junit.render(data)
    from sevkit.render import probe

    if form == "diff" or "hosts" in data:
        from sevkit.render import fleet

        return fleet.diff(data) if form == "diff" else fleet.table(data, colour=colour(sys.stdout))
    if form == "short":
        return probe.short(data, colour=colour(sys.stdout))
    return probe.human(data, colour=colour(sys.stdout), everything=everything)


def _cpuid(data: Mapping[str, Any]) -> str:
    from sevkit.probe.leaf import Registers
    from sevkit.render.cpuid import render

    raw = data["leaf"]["raw"]
    return render(Registers(**raw) if raw else None)
