"""``sevkit attack run NAME`` for the attacks that are performed in the software model, narrated if asked for."""

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from sevkit.cli.output import colour, finish
from sevkit.errors import ExitCode, UsageError
from sevkit.result import Result
from sevkit.vocabulary import Mode, Provenance

if TYPE_CHECKING:
    from sevkit.attacks.experiment import Attack, Mitigation, Step


def mitigations_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--mitigations``."""
    return click.option("--mitigations", metavar="LIST", help="Mitigations to switch on: names with commas, or all.")(
        function
    )


def parse_mitigations(text: str | None) -> "frozenset[Mitigation]":
    """The mitigations that the option names; raises UsageError with the names there are."""
    from sevkit.attacks.experiment import Mitigation

    if text is None or text == "none":
        return frozenset()
    if text == "all":
        return frozenset(Mitigation)
    try:
        return frozenset(Mitigation(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise UsageError(f"--mitigations: {error}", hint=f"known: all, {', '.join(Mitigation)}") from error


def perform(
    attack: "Attack",
    mode: Mode,
    mitigations: "frozenset[Mitigation]",
    seed: int,
    listener: "Callable[[Step], None] | None" = None,
) -> dict[str, Any]:
    """One experiment with its story."""
    from sevkit.attacks.experiment import Notebook
    from sevkit.attacks.matrix import make_cell, story

    notebook = Notebook(mode, mitigations, seed=seed, listener=listener)
    observation = attack.perform(notebook)
    return story(attack, notebook, make_cell(attack, notebook, bool(mitigations), observation))


def run_model(
    name: str, modes: Sequence[Mode], *, step: bool, mitigations: str | None, seed: int, as_json: bool
) -> None:
    """Perform an attack in the model in each mode; ``step`` tells it as it happens and waits for a key."""
    from sevkit import attacks
    from sevkit.render import matrix as renderer

    attack, chosen = attacks.find(name), parse_mitigations(mitigations)
    width = min(110, shutil.get_terminal_size((100, 24)).columns)
    experiments = []
    for mode in modes:
        listener = None
        if step and not as_json:
            click.echo(_bold(f"\n=== {attack.title}: {mode} ==="))
            listener = _narrator(width)
        experiments.append(perform(attack, mode, chosen, seed, listener))
        if listener is not None:
            click.echo("\n" + "\n".join(renderer.ending(experiments[-1], colour=colour(sys.stdout), width=width)))
    data = {
        "attack": name,
        "provenance": str(Provenance.MOCK),
        "experiments": experiments,
        "as_predicted": all(experiment["as_expected"] for experiment in experiments),
    }
    code = ExitCode.DONE if data["as_predicted"] else ExitCode.NO
    if any(experiment["observed"] == "inconclusive" for experiment in experiments):
        code = ExitCode.INCONCLUSIVE
    finish(Result("attack run", data, code), as_json=as_json, human=None if step else _show)


def _show(data: dict[str, Any]) -> None:
    from sevkit.render import matrix as renderer

    width = min(110, shutil.get_terminal_size((100, 24)).columns)
    for experiment in data["experiments"]:
        click.echo(renderer.story(experiment, colour=colour(sys.stdout), width=width))


def _narrator(width: int) -> "Callable[[Step], None]":
    """Prints each entry of the notebook as it is written, and waits for a key where there is somebody to press it."""
    from sevkit.render import matrix as renderer

    waits = sys.stdin.isatty() and sys.stdout.isatty()
    stage: list[str] = []

    def tell(step: "Step") -> None:
        if stage[-1:] != [str(step.stage)]:
            stage.append(str(step.stage))
            click.echo("\n" + _bold(str(step.stage)))
        lines = renderer.step_lines({"text": step.text, "data": step.data}, width)
        click.echo("\n".join(lines))
        if waits:
            click.pause("    [press a key]")

    return tell


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if colour(sys.stdout) else text
