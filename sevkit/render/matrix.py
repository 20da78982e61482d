"""The attack matrix and the story of one cell for people: text, Markdown, HTML."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from sevkit.render import provenance
from sevkit.render.page import page

_COLOURS = {"works": "bold red", "stopped": "green", "n/a": "dim", "inconclusive": "bold yellow"}
_SIGNS = {"works": "works", "stopped": "stopped", "n/a": "n/a", "inconclusive": "?"}


Row = tuple[dict[str, Any], list[list[dict[str, Any]]]]


def _rows(data: Mapping[str, Any]) -> list[Row]:
    """Each attack with its cells by column; a column has one cell per level with a result."""
    by_place: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in data["cells"]:
        by_place.setdefault((cell["attack"], cell["column"]), []).append(cell)
    return [
        (attack, [by_place.get((attack["name"], column), []) for column in data["columns"]])
        for attack in data["attacks"]
    ]


_TABLE_WIDTH = 112  # a narrower terminal would break the words in the cells


def text(data: Mapping[str, Any], *, colour: bool = False, width: int = 100) -> str:
    """The matrix as a table, or as a list where a table does not fit."""
    console = Console(file=io.StringIO(), force_terminal=colour, width=width, highlight=False, no_color=not colour)
    title = f"Attacks by mode, at level {' and '.join(data['levels'])}"
    (_table if width >= _TABLE_WIDTH else _list)(console, data, title, width)
    _summary(console, data)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def _table(console: Console, data: Mapping[str, Any], title: str, width: int) -> None:
    """One row per attack; with several levels, every cell has one line per level."""
    table = Table(title=title, title_justify="left", pad_edge=False)
    table.add_column("attack", no_wrap=True)
    for column in data["columns"]:
        table.add_column(column.replace(" + ", "\n+ "), overflow="fold")
    for attack, columns in _rows(data):
        room = max(12, (width - 24) // len(columns) - 3)
        table.add_row(attack["name"], *[_cells(cells, len(data["levels"]) > 1, room) for cells in columns])
    console.print(table)


def _list(console: Console, data: Mapping[str, Any], title: str, _width: int) -> None:
    """One paragraph per attack, in which modes with the same outcome share a line."""
    console.print(title, end="\n\n")
    named = len(data["levels"]) > 1
    for attack, columns in _rows(data):
        console.print(attack["name"], style="bold")
        same: dict[str, tuple[Text, list[str]]] = {}
        for column, cells in zip(data["columns"], columns, strict=True):
            for cell in cells:
                shown = _cell(cell, named, 2000)
                same.setdefault(shown.plain, (shown, []))[1].append(column)
        for shown, where in same.values():
            what, *more = shown.plain.split("\n")
            remarks = ", ".join(more)
            line = Text.assemble(shown[: len(what)], ": ", ", ".join(where), (remarks and f" ({remarks})", "dim"))
            console.print(Padding(line, (0, 0, 0, 2), expand=False))


def _cells(cells: list[dict[str, Any]], named: bool, room: int) -> Text:
    return Text("\n").join(_cell(cell, named, room) for cell in cells)


def _cell(cell: dict[str, Any], named: bool, room: int) -> Text:
    """One cell in ``room`` columns."""
    word = _SIGNS[cell["observed"]] + ("" if cell["as_expected"] else f" (expected: {cell['expected']})")
    shown = Text(word, style=_COLOURS[cell["observed"]])
    if named:
        shown = Text.assemble((f"{cell['level']}: ", "dim"), shown)
    if cell["observed"] in ("works", "stopped"):
        shown.append("\n" + textwrap.fill(cell["check"], room), style="dim")
    if cell["agrees"] is not None:
        shown.append("\nagrees with model" if cell["agrees"] else "\nDISAGREES with model", style="dim")
    return shown


def _summary(console: Console, data: Mapping[str, Any]) -> None:
    console.print(counts(data["cells"]))
    for line in _comparison(data):
        console.print(line)
    broken = [cell for cell in data["contradicted_claims"] if cell["mode"] == "sev-snp"]
    for line in dict.fromkeys(map(_contradiction, broken)):
        console.print(line, style="yellow")
    for words in provenance.lines(cell["provenance"] for cell in data["cells"]):
        console.print(words, style="dim")


def counts(cells: Sequence[Mapping[str, Any]]) -> str:
    """How many of the experiments that were performed ended as expected; where an attack does not apply, none was."""
    performed = [cell for cell in cells if cell["observed"] != "n/a"]
    total, right = len(performed), sum(cell["as_expected"] for cell in performed)
    said = f"All {total} experiments are" if right == total else f"{right} of {total} experiments are"
    idle = len(cells) - total
    return f"{said} as expected." + (
        f" In {idle} cells nothing was performed: the attack does not apply." if idle else ""
    )


def _contradiction(cell: Mapping[str, Any]) -> str:
    """A claim that a cell contradicts; with the missing fix, for a column of an unpatched platform."""
    lacking = cell["column"].partition(" + ")[2]
    where = f" without the fix of {lacking}" if lacking and lacking != "mitigations" else ""
    return f"SEV-SNP is claimed to stop {cell['attack']}, and does not{where}: {cell['cites']}"


def _comparison(data: Mapping[str, Any]) -> list[str]:
    """Compare real guests with the model, and list what is missing."""
    cells, wrong = data["cells"], data["disagreements"]
    agree = sum(cell["agrees"] is True for cell in cells)
    return [
        *([f"Real guests agree with the model in {agree} cells."] if agree else []),
        *(f"DISAGREEMENT: {c['attack']} in {c['mode']}: level {c['level']} says {c['observed']}" for c in wrong),
        *(f"not compared: {c['attack']} in {c['mode']}: {c['not_compared']}" for c in cells if c["not_compared"]),
        *(f"no guests of {u['mode']} at level {u['level']}: {u['reason']}" for u in data["unavailable"]),
    ]


def markdown(data: Mapping[str, Any]) -> str:
    """The matrix as Markdown, with a citation for every cell in which SEV-SNP fails."""
    head = "| attack | " + " | ".join(data["columns"]) + " |"
    kinds = provenance.lines(cell["provenance"] for cell in data["cells"])
    lines = [
        "# Attacks by mode",
        "",
        *(f"Provenance: {words}." for words in kinds),
        "",
        counts(data["cells"]),
        "",
        head,
    ]
    lines.append("|---|" + "---|" * len(data["columns"]))
    named = len(data["levels"]) > 1
    for attack, columns in _rows(data):
        cells = ["<br>".join(_markdown_cell(cell, named) for cell in column) for column in columns]
        lines.append(f"| {attack['title']} (`{attack['name']}`) | " + " | ".join(cells) + " |")
    lines += ["", "Where SEV-SNP fails:", ""]
    lines += [f"- `{cell['attack']}` ({cell['column']}): {cell['cites']}" for cell in data["cells"] if _fails(cell)]
    return "\n".join(lines) + "\n"


def _fails(cell: dict[str, Any]) -> bool:
    return bool(cell["mode"] == "sev-snp" and cell["observed"] == "works" and cell["level"] == "model")


def _markdown_cell(cell: dict[str, Any], named: bool) -> str:
    level = f"{cell['level']}: " if named else ""
    if cell["observed"] == "n/a":
        return f"{level}n/a"
    word = f"**{cell['observed']}**" if cell["observed"] == "works" else cell["observed"]
    return f"{level}{word} `{cell['check']}`" + ("" if cell["as_expected"] else f" (expected: {cell['expected']})")


def html(data: Mapping[str, Any]) -> str:
    """The matrix as one self-contained HTML page."""
    failures = [cell for cell in data["cells"] if _fails(cell)]
    kinds = provenance.lines(cell["provenance"] for cell in data["cells"])
    return page(
        "matrix.html.j2",
        data=data,
        rows=_rows(data),
        failures=failures,
        kinds=kinds,
        counts=counts(data["cells"]),
        comparison=_comparison(data),
    )


def story(data: Mapping[str, Any], *, colour: bool = False, width: int = 100) -> str:
    """One cell, step by step."""
    out = [_bold(f"{data['title']} — {data['column']}", colour), ""]
    out += textwrap.wrap(data["summary"], width)
    out += [f"Needs: {'; '.join(data['preconditions'])}"] if data["preconditions"] else []
    out += [f"Mitigations on: {', '.join(data['mitigations_on'])}"] if data["mitigations_on"] else []
    stage = None
    for step in data["steps"]:
        if step["stage"] != stage:
            stage = step["stage"]
            out += ["", _bold(stage, colour)]
        out += step_lines(step, width)
    out += ["", *ending(data, colour=colour, width=width)]
    return "\n".join(out) + "\n"


def step_lines(step: dict[str, Any], width: int) -> list[str]:
    """One entry of a notebook."""
    lines = textwrap.wrap(step["text"], width - 4, initial_indent="  ", subsequent_indent="  ")
    return lines + ([f"      {step['data']}"] if step["data"] else [])


def ending(data: Mapping[str, Any], *, colour: bool = False, width: int = 100) -> list[str]:
    """The outcome, the expected outcome, AMD's claim, and references."""
    fit = "as expected" if data["as_expected"] else f"NOT as expected ({data['expected']})"
    ended = f"The attack {_verb(data['observed'])}: {data['check']} ({fit}: {data['why']})."
    if data["observed"] == "n/a":
        ended = f"Nothing was performed: the attack does not apply: {data['why']}."
    lines = [_bold(ended, colour)]
    if data["claim"] is not None:
        threat = THREAT_LINE.format(data["claim"])
        lines += [threat]
    if data["cites"]:
        lines += textwrap.wrap(f"Shown on real parts: {data['cites']}", width)
    lines += [f"Sources: {data['sources'][0]}", *(f"         {source}" for source in data["sources"][1:])]
    return lines + textwrap.wrap(f"Provenance: {data['provenance']}: {provenance.WORDS[data['provenance']]}.", width)


THREAT_LINE = "AMD's table of claims for this threat and mode: {}."


def _verb(outcome: str) -> str:
    return {"works": "works", "stopped": "is stopped"}.get(outcome, "is undecided")


def _bold(line: str, colour: bool) -> str:
    return f"\x1b[1m{line}\x1b[0m" if colour else line
