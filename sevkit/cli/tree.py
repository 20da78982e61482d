"""The tree of commands, as click sees it, and how it is run. Imported only when a command line is parsed in full."""

import importlib
import os
from collections.abc import Sequence
from typing import Any

import click

from sevkit import __version__
from sevkit.cli import COMMANDS, output
from sevkit.errors import ExitCode, SevkitError, UsageError
from sevkit.result import Result


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


@root.result_callback()
def _print(answer: Result[Any] | int | None, **_: object) -> int:
    """Print what a command returned; commands that pass on another program's exit status return that instead."""
    if isinstance(answer, Result):
        return output.show(answer, as_json=output.json_wanted())
    return answer or ExitCode.DONE


def run(argv: Sequence[str]) -> int:
    """Run the command line; returns the exit status and never lets an exception out."""
    try:
        status = root.main(args=list(argv), prog_name="sevkit", standalone_mode=False)
    except SystemExit as done:
        status = done.code
    except BrokenPipeError:  # the reader of a stream went away
        output.lose_stdout()
        status = ExitCode.DONE
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        status = ExitCode.USAGE
    except BaseException as error:  # noqa: BLE001 - even a defect answers in the asked-for form
        return output.failed(argv, _without_click(error))
    return output.flushed(status if isinstance(status, int) else ExitCode.DONE)


def _without_click(error: BaseException) -> BaseException | SevkitError:
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "sevkit"
        return UsageError(error.format_message(), hint=f"see `{path} --help`")
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message())
    return output.interrupted() if isinstance(error, click.Abort) else error
