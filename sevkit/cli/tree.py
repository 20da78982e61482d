"""The tree of click commands, and its execution. Imported only when a command line is parsed in full."""

import sys
from collections.abc import Sequence
from typing import Any

import click

from sevkit import __version__
from sevkit.cli import output
from sevkit.cli.commands import COMMANDS
from sevkit.cli.lazy import LazyGroup
from sevkit.cli.refuse import repeated
from sevkit.errors import ExitCode, SevkitError, UsageError
from sevkit.result import Result


class _Root(LazyGroup):
    table = COMMANDS


@click.command(cls=_Root, context_settings={"help_option_names": ["-h", "--help"]})
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
    stdout = sys.stdout
    twice = repeated(root, argv)
    if twice is not None:
        return output.failed(argv, UsageError(f"{twice} is given twice, and only one can count", hint="give it once"))
    try:
        status = root.main(args=list(argv), prog_name="sevkit", standalone_mode=False)
    except SystemExit as done:
        status = done.code
        if sys.stdout is not stdout:  # click replaces it where the reader has gone
            status = ExitCode.DONE
    except BrokenPipeError:  # the reader of a stream closed it
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
