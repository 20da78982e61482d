"""The command line. Each command lives in a file of its own and is imported only when it is called."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from sevkit.cli.commands import COMMANDS

__all__ = ["COMMANDS", "main"]


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    words = sys.argv[1:] if argv is None else argv
    _open_standard_streams()
    _on_signals()
    try:
        status = _run(words)
    except KeyboardInterrupt as error:  # while the command was still being imported
        from sevkit.cli.output import failed

        status = failed(words, error)
    sys.exit(status)


def _run(words: list[str]) -> int:
    if words == ["probe", "--json"]:  # monitoring calls this often, and importing click takes longer than probing
        from sevkit.cli.output import shown
        from sevkit.probe.answer import Request, answer

        return shown(words, lambda: answer(Request()))
    from sevkit.cli.tree import run

    return run(words)


def _open_standard_streams() -> None:
    """Open /dev/null in place of closed standard streams, else the first files opened would take their numbers.

    In place of standard output it is opened for reading: an answer that cannot be printed is an error (as for GNU's
    programs), and a write says so. Names that are not UTF-8, or that the locale cannot show, are printed with escapes.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            flags = os.O_RDONLY if name == "stdout" else os.O_RDWR
            assert os.open(os.devnull, flags) == number  # the lowest free number: all lower ones are open
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _terminated)
    if sys.unraisablehook is not _dropped:
        _other_hooks.append(sys.unraisablehook)
        sys.unraisablehook = _dropped


_other_hooks: list[Callable[["sys.UnraisableHookArgs"], object]] = []


def _dropped(error: "sys.UnraisableHookArgs") -> None:
    """Interrupt again, a little later, where Python drops the exception of a signal.

    It does so in callbacks: at a fork, in a finaliser, at a garbage collection. The signal would have no effect.
    """
    if issubclass(error.exc_type, KeyboardInterrupt):
        signal.signal(signal.SIGALRM, _terminated)
        signal.setitimer(signal.ITIMER_REAL, 0.01)  # seconds: after the callback
    else:
        _other_hooks[-1](error)


def _terminated(number: int, frame: object) -> None:
    """A polite request to end is an interruption: let every `finally` run."""
    del number, frame
    raise KeyboardInterrupt
