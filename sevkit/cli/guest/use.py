"""``sevkit guest exec``, ``copy``, ``console`` and ``log``."""

import os
import select as io_select
import socket
import sys
import time
from pathlib import Path

import click

from sevkit.cli.guest.command_words import PassesOn, outputs
from sevkit.cli.guest.shell import become_ssh
from sevkit.cli.output import interrupted, json_wanted, lose_stdout, pass_on, reporting
from sevkit.cli.sizes import SECONDS
from sevkit.errors import UsageError
from sevkit.guest.copy import copy_in, copy_out
from sevkit.hypervisor.payload import Copied, Executed, GuestLog
from sevkit.hypervisor.protocols import Guest
from sevkit.result import Result


def _guest(name: str) -> Guest:
    from sevkit.hypervisor.select import attach

    return attach(name)


@click.command("exec", cls=PassesOn)
@click.argument("name")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD...")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input to the command.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal, by ssh (with -i: docker's -it).")
@click.option("--private", is_flag=True, help="Go by ssh, so that the VMM sees nothing in clear.")
@click.option("--timeout", type=SECONDS, default=3600.0, show_default=True, metavar="SECONDS")
@reporting
def execute(
    name: str, words: tuple[str, ...], interactive: bool, tty: bool, private: bool, timeout: float
) -> Result[Executed] | int:
    """Run a command in a guest. The exit status is the command's."""
    if tty:
        if json_wanted():
            raise UsageError("--tty does not go with --json", hint="leave one of them out")
        become_ssh(name, words, terminal=True)
    stdin = sys.stdin.buffer.read() if interactive else b""
    try:
        done = _guest(name).run(list(words), stdin=stdin, timeout=timeout, private=private)
    except KeyboardInterrupt:
        raise interrupted(f"the command goes on in {name}: others wait until it ends, or its --timeout does") from None
    if not json_wanted():
        return pass_on(done.stdout, done.stderr, done.status)
    data: Executed = {"status": done.status, **outputs(done)}
    return Result("guest exec", data, done.status)


@click.command()
@click.argument("source")
@click.argument("target")
@reporting
def copy(source: str, target: str) -> Result[Copied]:
    """Copy a file or folder to a guest or from it, like `cp -r`; the guest's side is NAME:PATH."""
    inward, outward = _is_guests(target), _is_guests(source)
    if inward == outward:
        raise UsageError("one of the two must be NAME:PATH", hint="sevkit guest copy FILE NAME:/path, or the other way")
    name, _, path = (target if inward else source).partition(":")
    local = Path(source if inward else target)
    guest = _guest(name)
    if inward:
        path, size = copy_in(guest, local, path)
    else:
        local, size = copy_out(guest, path, local)
    data: Copied = {"guest": name, "guest_path": path, "host_path": str(local), "bytes": size}
    return Result("guest copy", data)


def _is_guests(path: str) -> bool:
    """Whether a path is NAME:PATH; a file of this host whose name has a colon is written with a slash before it."""
    name, colon, _ = path.partition(":")
    return bool(colon) and "/" not in name


@click.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Print new output until the guest ends.")
@reporting
def log(name: str, follow: bool) -> Result[GuestLog] | None:
    """Show what a guest has printed on its console."""
    guest = _guest(name)
    if json_wanted():
        return Result("guest log", {"console": guest.console()})
    shown = 0
    while True:
        text = guest.console()
        click.echo(text[shown:], nl=False)
        shown = len(text)
        if not follow or not guest.alive() or _nobody_reads():
            return None
        time.sleep(0.2)


def _nobody_reads() -> bool:
    """Whether the reader of standard output has gone (`| grep -m1 login:`); a quiet console would never tell."""
    watched = io_select.poll()
    watched.register(sys.stdout.fileno(), 0)
    gone = any(event & io_select.POLLERR for _, event in watched.poll(0))
    if gone:
        lose_stdout()
    return gone


@click.command()
@click.argument("name")
def console(name: str) -> None:
    """Use a guest's console; Ctrl-] leaves it. What is typed there passes through the VMM in clear."""
    import termios
    import tty

    from sevkit.hypervisor import registry

    registry.read(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.connect(str(registry.folder(name) / "console"))
        except OSError as error:
            raise UsageError(f"the guest {name} has no console to connect to") from error
        terminal = sys.stdin.fileno()
        saved = termios.tcgetattr(terminal) if sys.stdin.isatty() else None
        if saved is not None:
            click.echo(f"connected to {name}; Ctrl-] leaves", err=True)
            tty.setraw(terminal)
        try:
            _relay(terminal, stream)
        finally:
            if saved is not None:
                termios.tcsetattr(terminal, termios.TCSADRAIN, saved)


def _relay(terminal: int, stream: socket.socket) -> None:
    """Pass bytes both ways until the guest ends, the user types Ctrl-], or standard input has had its say."""
    sources = [terminal, stream.fileno()]
    patience = None
    while True:
        ready, _, _ = io_select.select(sources, [], [], patience)
        if not ready:
            return
        if stream.fileno() in ready:
            data = stream.recv(4096)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if terminal in ready:
            typed = os.read(terminal, 4096)
            if b"\x1d" in typed:
                return
            if typed:
                stream.sendall(typed)
            else:  # end of input: commands may still print
                sources, patience = [stream.fileno()], 1.0
