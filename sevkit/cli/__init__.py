"""The command line. Each command lives in a file of its own and is imported only when it is called."""

from __future__ import annotations

import gc
import os
import sys

from sevkit.light import TYPE_CHECKING, signal

if TYPE_CHECKING:
    from typing import Any, NoReturn

    from sevkit.cli.tree import root as root

# command -> (module, one line of help): kept here so that `sevkit --help` imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "probe": ("sevkit.cli.probe", "What this CPU and host can do for encrypted guests, and why not."),
    "attack": ("sevkit.cli.attack", "Run the attacks, and see what each mode stops."),
    "guest": ("sevkit.cli.guest", "Launch and use guests in every mode."),
    "scan": ("sevkit.cli.scan", "Search the memory of a process or a core file for secrets."),
    "memory": ("sevkit.cli.memory", "Guest memory as a picture, and as a file."),
    "measure": ("sevkit.cli.attestation.measure", "The launch digest that a guest will report, and why one differs."),
    "report": ("sevkit.cli.attestation.report", "Attestation reports: every field, and whether to believe them."),
    "bench": ("sevkit.cli.bench", "Benchmarks whose numbers can be believed."),
    "emulator": ("sevkit.cli.emulator", "Build and inspect the memory-encrypting QEMU."),
    "container": ("sevkit.cli.container", "Run sevkit in a container."),
    "doctor": ("sevkit.cli.doctor", "What works here as this user, and what is missing for the rest."),
}


def __getattr__(name: str) -> Any:
    """``root``, the click command, imported when somebody asks for it."""
    if name == "root":
        from sevkit.cli.tree import root as tree_root

        return tree_root
    raise AttributeError(name)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its status.

    What is asked again and again, `sevkit probe --json` and `sevkit scan --json`, is answered without click, whose
    import takes longer than the answer; every other command line, and every mistake in these, goes the whole way.
    """
    words = sys.argv[1:] if argv is None else argv
    _on_signals()
    if words[:1] in (["probe"], ["scan"]) and "--json" in words:
        status = _quick_way(words)
        if status is not None:
            if argv is None:  # all is said and closed: taking the interpreter apart takes longer than probing
                os._exit(status)
            sys.exit(status)
    sys.exit(_whole_way(words))


def _quick_way(words: list[str]) -> int | None:
    gc.disable()  # looking for cycles on the way, where there are none, takes longer than reading /proc
    try:
        from sevkit.cli.quick import quick_answer

        return quick_answer(words[0], words[1:])
    except BaseException as error:  # noqa: BLE001 - told of as the whole way does
        from sevkit.cli.output import failed

        return failed(words, error)
    finally:
        gc.enable()


def _on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, _terminated)


def _whole_way(words: list[str]) -> int:
    from sevkit.cli.output import run_root
    from sevkit.cli.tree import root as tree_root

    return run_root(tree_root, words)


def _terminated(number: int, frame: object) -> None:
    """A polite request to end is an interruption: let every `finally` run."""
    del number, frame
    raise KeyboardInterrupt
