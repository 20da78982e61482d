"""The tree of commands, as click sees it. Imported only when a command line is parsed in full."""

import importlib
import os

import click

from sevkit import __version__
from sevkit.cli import COMMANDS


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands whose module is part of this installation."""
        del ctx
        return [name for name, (module, _) in COMMANDS.items() if _exists(module)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        del ctx
        if cmd_name not in COMMANDS or not _exists(COMMANDS[cmd_name][0]):
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _exists(module: str) -> bool:
    here = os.path.dirname(__file__)  # noqa: PTH120 - pathlib would be a third of the start-up time
    stem = os.path.join(here, *module.split(".")[2:])  # noqa: PTH118
    return os.path.exists(stem + ".py") or os.path.isdir(stem)  # noqa: PTH110, PTH112


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sevkit")
@click.option("--debug", is_flag=True, help="Show tracebacks, and each command line that is run.")
@click.pass_context
def root(ctx: click.Context, debug: bool) -> None:
    """Probe, launch, attack and benchmark AMD SEV guests: on hardware, in an emulator, or in a software model."""
    ctx.ensure_object(dict)["debug"] = debug
    if debug:
        from sevkit import processes

        processes.observer = lambda line: click.echo(f"+ {line}", err=True)
