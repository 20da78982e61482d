"""`sevkit probe --json` and `sevkit scan --json` without click: the same request, the same answer, in half the time."""

from __future__ import annotations

import sys

from sevkit.light import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sevkit.result import Result

    Words = dict[str, Any]


class Quick(NamedTuple):
    """A command whose options are few: option -> (name in the request, kind). ``answer`` takes the request's values."""

    options: dict[str, tuple[str, str]]  # kind: flag, text, texts (given more than once) or number (from 1 on)
    answer: Callable[[Words], Result]
    usable: Callable[[Words], bool]


def _probe(asked: Words) -> Result:
    from sevkit.probe.answer import Request, answer

    return answer(Request(**asked))


def _probe_usable(asked: Words) -> bool:
    from sevkit.probe.answer import MODES

    return asked.get("require", "sev") in MODES and ("log" not in asked or len(asked) == 1)


def _scan(asked: Words) -> Result:
    from sevkit.memory.search.request import Request, answer

    return answer(Request(**asked))


COMMANDS = {
    "probe": Quick(
        {
            "--from": ("source", "text"),
            "--log": ("log", "text"),
            "--save": ("save", "text"),
            "--require": ("require", "text"),
        },
        _probe,
        _probe_usable,
    ),
    "scan": Quick(
        {
            "--pid": ("pid", "number"),
            "--core": ("core", "text"),
            "--qmp": ("qmp", "text"),
            "--hold": ("hold", "flag"),
            "--secret": ("secrets", "texts"),
            "--secrets-file": ("secrets_file", "text"),
            "--regex": ("regexes", "texts"),
            "--wide": ("wide", "flag"),
            "--ram-only": ("ram_only", "flag"),
            "--show": ("show", "flag"),
            "--max-hits": ("max_hits", "number"),
            "--threads": ("threads", "number"),
        },
        _scan,
        lambda asked: asked.get("threads", 1) <= 256 and not sys.stderr.isatty(),  # there, progress is shown
    ),
}


def parse(command: str, words: list[str]) -> Words | None:
    """The request's values, or None for a command line that needs the whole parser."""
    quick = COMMANDS[command]
    asked: Words = {}
    rest = iter(words)
    for word in rest:
        if word == "--json":
            continue
        option, equals, value = word.partition("=")
        name, kind = quick.options.get(option, ("", ""))
        if not name or (name in asked and kind != "texts") or (kind == "flag" and equals):
            return None
        if kind == "flag":
            asked[name] = True
            continue
        value = value if equals else next(rest, "")
        if not value or value.startswith("--") or (kind == "number" and not (value.isascii() and value.isdecimal())):
            return None
        if kind == "texts":
            asked.setdefault(name, []).append(value)
        else:
            asked[name] = int(value) if kind == "number" else value
            if asked[name] == 0:
                return None
    return asked if quick.usable(asked) else None


def quick_answer(command: str, words: list[str]) -> int | None:
    """Answer, print the envelope, and return the exit status; None when this is not for us."""
    asked = parse(command, words)
    if asked is None:
        return None
    result = COMMANDS[command].answer(asked)
    sys.stdout.write(result.to_json())
    sys.stdout.flush()
    return result.exit_code
