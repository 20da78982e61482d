"""Options that the attack commands share, and their values as types."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevkit.errors import UsageError
from sevkit.vocabulary import Level, Mode

if TYPE_CHECKING:
    from sevkit.attacks.mitigations import Mitigation


def attacks_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--attacks``."""
    return click.option(
        "--attacks",
        "folder",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="Take attacks of your own from the Python files in this folder as well.",
    )(function)


def level_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--level``."""
    return click.option(
        "--level",
        type=click.Choice(["auto", *map(str, Level)]),
        default="auto",
        show_default=True,
        help="What the attack is performed on; auto: the strongest that works here, mode by mode.",
    )(function)


def mitigations_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--mitigations``."""
    return click.option("--mitigations", metavar="LIST", help="Mitigations to switch on: names with commas, or all.")(
        function
    )


def parse_mitigations(text: str | None) -> "frozenset[Mitigation]":
    """The mitigations that the option names; raises UsageError with the names there are."""
    from sevkit.attacks.mitigations import Mitigation

    if text is None or text == "none":
        return frozenset()
    if text == "all":
        return frozenset(Mitigation)
    try:
        return frozenset(Mitigation(word.strip()) for word in text.split(","))
    except ValueError as error:
        raise UsageError(f"--mitigations: {error}", hint=f"known: all, {', '.join(Mitigation)}") from error


def parse_modes(text: str, strongest: Callable[[], Mode]) -> list[Mode]:
    """The modes that the option names, each once; raises UsageError with the modes there are.

    The word ``strongest`` stands for the mode that ``strongest`` returns.
    """
    return list(dict.fromkeys(_mode(word.strip(), strongest) for word in text.split(",")))


def _mode(word: str, strongest: Callable[[], Mode]) -> Mode:
    if word == "strongest":
        return strongest()
    try:
        return Mode(word)
    except ValueError as error:
        raise UsageError(f"{word!r} is not a mode", hint=f"modes: {', '.join(Mode)}, strongest") from error


def width(most: int = 110) -> int:
    """Columns to print in."""
    return min(most, shutil.get_terminal_size((100, 24)).columns)
