"""The command line. Each command lives in a file of its own and is imported only when it is called."""

import importlib
import os
import signal
import sys
from typing import NoReturn

import click

from sevkit import __version__

# command -> (module, one line of help): kept here so that `sevkit --help` imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "probe": ("sevkit.cli.probe", "What this CPU and host can do for encrypted guests, and why not."),
    "attack": ("sevkit.cli.attack", "Run the attacks, and see what each mode stops."),
    "guest": ("sevkit.cli.guest", "Launch and use guests in every mode."),
    "scan": ("sevkit.cli.scan", "Search the memory of a process or a core file for secrets."),
    "memory": ("sevkit.cli.memory", "Guest memory as a picture, and as a file."),
    "bench": ("sevkit.cli.bench", "Benchmarks whose numbers can be believed."),
    "emulator": ("sevkit.cli.emulator", "Build and inspect the memory-encrypting QEMU."),
    "container": ("sevkit.cli.container", "Run sevkit in a container."),
    "doctor": ("sevkit.cli.doctor", "What works here as this user, and what is missing for the rest."),
}


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
    stem = os.path.join(here, module.rpartition(".")[2])  # noqa: PTH118
    return os.path.exists(stem + ".py") or os.path.isdir(stem)  # noqa: PTH110, PTH112


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sevkit")
@click.option("--debug", is_flag=True, help="Show tracebacks, and each command line that is run.")
@click.pass_context
def root(ctx: click.Context, debug: bool) -> None:
    """Probe, launch, attack and benchmark AMD SEV guests: on hardware, in an emulator, or in a software model."""
    ctx.ensure_object(dict)["debug"] = debug
    if debug:
        from sevkit import proc

        proc.observer = lambda line: click.echo(f"+ {line}", err=True)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, _terminated)
    from sevkit.cli.output import run_root

    sys.exit(run_root(root, argv if argv is not None else sys.argv[1:]))


def _terminated(number: int, frame: object) -> None:
    """A polite request to end is an interruption: let every `finally` run."""
    del number, frame
    raise KeyboardInterrupt
