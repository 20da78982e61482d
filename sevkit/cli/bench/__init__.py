"""`sevkit bench`: run, import, compare, report and lint benchmarks."""

import importlib

import click

# command -> (module, one line of help): each is imported only when it is called.
_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Measure: modes interleaved, guest boots as the unit, all raw values kept; resumes when killed."),
    "compare": ("compare", "Ratios with intervals and verdicts, as a table or JSON."),
    "report": ("report", "The whole campaign as one self-contained HTML page."),
    "lint": ("lint", "What is wrong with how results were measured (fio JSON, tables, scripts, own results)."),
    "import": ("imports", "Take over results of fio, hyperfine, pyperf, and the published study's tables."),
    "list": ("listing", "The suites, workloads and profiles."),
    "selftest": ("selftest", "Try the statistics on simulated campaigns whose truth is known."),
    "published": ("published", "The published study's numbers, and what others published."),
}


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"sevkit.cli.bench.{_COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command("bench", cls=_Group)
def command() -> None:
    """Benchmarks whose numbers can be believed: nosev against sev, sev-es and sev-snp, with intervals."""
