"""A run of an attack for people: as text, and as an HTML page."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from sevkit.memory.guest_ram.picture import Picture
from sevkit.render import leak, leak_report, matrix, provenance
from sevkit.render.page import page


def text(data: Mapping[str, Any], *, colour: bool = False, width: int = 100, told: bool = False) -> str:
    """The run as text. ``told``: the steps were printed during the run, so only the ending is left."""
    if _captured(data):
        return leak.text(data, colour=colour, width=width)
    parts = []
    for each in data["experiments"]:
        story = {**_about(data), **each, "column": column(each)}
        heading = f"{each['mode']}: "
        ending = heading + "\n".join(matrix.ending(story, colour=colour, width=width)) + "\n"
        parts.append(ending if told else matrix.story(story, colour=colour, width=width))
    if len({each["provenance"] for each in data["experiments"]}) > 1:
        parts.append(provenance.lines(each["provenance"] for each in data["experiments"])[-1] + "\n")
    return "\n".join(parts)


def html(data: Mapping[str, Any], pictures: Sequence[Picture | None] = ()) -> str:
    """The run as one self-contained HTML page."""
    if _captured(data):
        return leak_report.render(data, pictures)
    stories = [_story(each) for each in data["experiments"]]
    kinds = dict.fromkeys(each["provenance"] for each in data["experiments"])
    words = [(kind, provenance.WORDS[kind]) for kind in kinds]
    kind, outcome = _outcome(data)
    return page(
        "attack_report.html.j2", data=data, stories=stories, provenances=words, outcome_kind=kind, outcome=outcome
    )


def _outcome(data: Mapping[str, Any]) -> tuple[str, str]:
    """The class of the banner, and the outcome of all modes in words."""
    observed = {each["observed"] for each in data["experiments"]}
    if "inconclusive" in observed:
        return "open", "The run is inconclusive."
    if observed == {"n/a"}:
        return "open", "Nothing was performed: the attack does not apply."
    as_expected = bool(data["as_predicted"])
    return ("good", "The outcome is as expected.") if as_expected else ("bad", "The outcome is not as expected.")


def _story(experiment: dict[str, Any]) -> dict[str, Any]:
    """One experiment with everything that the template shows."""
    details = experiment["details"]
    command = shlex.join(details.get("command_line", []))
    return {**experiment, "column": column(experiment), "command_line": command, "notes": details.get("notes", [])}


def column(experiment: dict[str, Any]) -> str:
    """The heading of one mode: with the enabled options, and the place where it ran."""
    on = " + mitigations" if experiment["mitigations_on"] else ""
    return f"{experiment['mode']}{on} [{experiment['level']}]"


def _captured(data: Mapping[str, Any]) -> bool:
    """Whether the attack captured the VMM's memory in every mode, so that a table can be shown."""
    return all("coverage" in each for each in data["experiments"])


def _about(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: data[key] for key in ("title", "summary", "preconditions", "sources")}
