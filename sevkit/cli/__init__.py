"""The command line. Each command lives in a file of its own and is imported only when it is called."""

import os
import signal
import sys
from typing import NoReturn

# command -> (module, one line of help): kept here so that `sevkit --help` imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "probe": ("sevkit.cli.probe", "What this CPU and host can do for encrypted guests, and why not."),
    "attack": ("sevkit.cli.attack", "Run the attacks, and see what each mode stops."),
    "lab": ("sevkit.cli.lab", "The exercises of the course, checked by experiment."),
    "guest": ("sevkit.cli.guest", "Launch and use guests in every mode."),
    "top": ("sevkit.cli.top", "The running guests, live: mode, processor, memory by class."),
    "scan": ("sevkit.cli.scan", "Search the memory of a process or a core file for secrets."),
    "memory": ("sevkit.cli.memory", "Guest memory as a picture, and as a file."),
    "measure": ("sevkit.cli.attestation.measure", "The launch digest that a guest will report, and why one differs."),
    "report": ("sevkit.cli.attestation.report", "Attestation reports: every field, and whether to believe them."),
    "tcb": ("sevkit.cli.attestation.tcb", "Which published attacks apply to a host, a guest and its policy."),
    "bench": ("sevkit.cli.bench", "Benchmarks whose numbers can be believed."),
    "emulator": ("sevkit.cli.emulator", "Build and inspect the memory-encrypting QEMU."),
    "container": ("sevkit.cli.container", "Run sevkit in a container."),
    "doctor": ("sevkit.cli.doctor", "What works here as this user, and what is missing for the rest."),
    "report-check": ("sevkit.cli.report_check", "Recompute what an HTML report says, and check its signature."),
    "completion": ("sevkit.cli.completion", "The completion script of bash, zsh or fish."),
    "schema": ("sevkit.cli.schema", "The JSON Schema of what a command prints with --json."),
}


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status."""
    words = sys.argv[1:] if argv is None else argv
    _open_standard_streams()
    _on_signals()
    if words == ["probe", "--json"]:  # monitoring calls this often, and importing click takes longer than probing
        from sevkit.cli.output import shown
        from sevkit.probe.answer import Request, answer

        sys.exit(shown(words, lambda: answer(Request())))
    from sevkit.cli.tree import run

    sys.exit(run(words))


def _open_standard_streams() -> None:
    """Open /dev/null in place of closed standard streams, else the first files opened would take their numbers.

    Names that are not UTF-8, or that the locale cannot show, are printed with escapes.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            assert os.open(os.devnull, os.O_RDWR) == number  # the lowest free number: all lower ones are open
            os.set_inheritable(number, True)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _terminated)


def _terminated(number: int, frame: object) -> None:
    """A polite request to end is an interruption: let every `finally` run."""
    del number, frame
    raise KeyboardInterrupt
