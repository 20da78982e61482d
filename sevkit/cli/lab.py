"""``sevkit lab``: the exercises of the course, checked by experiment."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any, cast

import click

from sevkit.attacks.payload import Exercises, LabChecked, Told
from sevkit.cli.attack.options import level_option, width
from sevkit.cli.output import colour, reporting
from sevkit.cli.progress import progress
from sevkit.errors import ExitCode
from sevkit.result import Result
from sevkit.vocabulary import Level


@click.group()
def command() -> None:
    """The exercises of the course: questions that an experiment answers."""


@command.command("list")
@reporting
def list_exercises() -> Result[Exercises]:
    """List the exercises."""
    from sevkit.attacks.course import EXERCISES

    return Result("lab list", {"exercises": [each.as_dict() for each in EXERCISES]}, human=_show_list)


@command.command()
@click.argument("number", type=int)
@click.argument("answer")
@level_option
@reporting
def check(number: int, answer: str, level: str) -> Result[LabChecked]:
    """Run the experiment of an exercise and check ANSWER against its outcome.

    Exits 0 when the answer is right, 1 when it is not, 3 when the experiment was inconclusive.
    """
    from sevkit.attacks import course, runner
    from sevkit.attacks.plan import Target

    target = Target(level=None if level == "auto" else Level(level), capture="live")
    with progress("performing the experiment") as say:
        marked = course.check(number, answer, target, say)
    data: LabChecked = {
        "exercise": marked.exercise.as_dict(),
        "answer": marked.answer,
        "right": marked.right,
        "experiment": cast(Told, {**runner.about(marked.run.attack), **marked.run.as_dict()}),
    }
    code = {True: ExitCode.DONE, False: ExitCode.NO, None: ExitCode.INCONCLUSIVE}[marked.right]
    return Result("lab check", data, code, human=_show)


def _show_list(data: Mapping[str, Any]) -> Iterator[str]:
    for each in data["exercises"]:
        yield f"{each['number']}  {each['title']}: {each['question']}"
        yield f"   answer with {each['answer_is']}: sevkit lab check {each['number']} ANSWER"


def _show(data: Mapping[str, Any]) -> Iterator[str]:
    from sevkit.render import attack, matrix

    told = data["experiment"]
    yield matrix.story({**told, "column": attack.column(told)}, colour=colour(sys.stdout), width=width())
    words = {True: "Right", False: "Not right", None: "Nothing can be said: the experiment was inconclusive"}
    yield f"{words[data['right']]}: {data['exercise']['question']} You said: {data['answer']}."
