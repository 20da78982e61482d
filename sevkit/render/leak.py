"""A leak run for people: the modes side by side, then what each verdict rests on."""

import io
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sevkit.render import provenance

_COLOURS = {"leaked": "bold red", "protected": "bold green", "inconclusive": "bold yellow"}
_HYPERVISORS = {"qemu": "QEMU", "emulated": "QEMU with engine", "mock": "software model"}
_WORTH_SHOWING = ("plaintext", "ciphertext", "zero", "hole")


def text(data: dict[str, Any], *, colour: bool = False, width: int = 100) -> str:
    """The run as text."""
    console = Console(file=io.StringIO(), force_terminal=colour, width=width, highlight=False, no_color=not colour)
    experiments = data["experiments"]
    table = Table(title="What the host reads of a guest", title_justify="left", show_lines=False, pad_edge=False)
    table.add_column("", style="dim", no_wrap=True)
    for e in experiments:
        table.add_column(Text.assemble((e["mode"], "bold"), f"\n{_what(e)}"))
    for label, cell in _ROWS:
        table.add_row(label, *[cell(e) for e in experiments])
    console.print(table)
    for e in experiments:
        line = Text.assemble((f"{e['mode']}: ", "bold"), (e["verdict"], _COLOURS[e["verdict"]]))
        console.print(line, Text(f"— {'; '.join(e['reasons'])}"))
        for reason in e["details"]["passed_over"]:
            console.print(f"  passed over {reason}", style="dim")
        for note in e["details"]["notes"]:
            console.print(f"  note: {note}", style="dim")
        for confound in e["details"]["confounds"]:
            console.print(f"  also differs from nosev: {confound}", style="dim")
    for words in provenance.lines(e["provenance"] for e in experiments):
        console.print(words, style="dim")
    seconds = data["seconds"]
    outcome = "as predicted" if data["as_predicted"] else "NOT as predicted"
    console.print(f"The outcome is {outcome}, in {seconds:.1f} s.", style="bold")
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def _what(e: dict[str, Any]) -> str:
    d = e["details"]
    return f"{e['provenance']}: {_HYPERVISORS.get(d['hypervisor'], d['hypervisor'])}, {d['accel']}"


def _dump(e: dict[str, Any]) -> str:
    capture = e["details"]["capture"]
    size = capture["dump_bytes"]
    return f"{capture['command']}" + (f"\n{size / 1e6:,.0f} MB in {e['phases']['capture']:.1f} s" if size else "")


def _search(e: dict[str, Any]) -> str:
    if not e["hits"]:
        return "secret not found"
    places = sorted({hit["secret"] for hit in e["hits"]})
    return f"secret found {len(e['hits'])} times\n({', '.join(places)})"


def _first_hit(e: dict[str, Any]) -> str:
    placed = next((hit for hit in e["hits"] if hit["gpa"] is not None), None)
    if placed is not None:
        return f"guest-physical {placed['gpa']:#x}\nin {placed['region']}"
    return e["hits"][0]["region"] if e["hits"] else "—"


def _pages(e: dict[str, Any]) -> str:
    total = sum(e["pages"].values()) or 1
    shown = [(word, e["pages"].get(word, 0)) for word in _WORTH_SHOWING]
    return "\n".join(f"{count / total:6.1%} {word}" for word, count in shown if count)


def _coverage(e: dict[str, Any]) -> str:
    c = e["coverage"]
    seen = c["read_bytes"] + c.get("unpopulated_bytes", 0)
    share = seen / c["guest_ram_bytes"] if c["guest_ram_bytes"] else 0.0
    return f"{share:.1%} of {c['guest_ram_bytes'] >> 20} MiB guest RAM"


def _controls(e: dict[str, Any]) -> str:
    names = {"positive": "positive", "negative": "negative", "secret_alive": "secret alive"}
    return "\n".join(f"{'ok    ' if e['controls'][key] else 'FAILED'} {name}" for key, name in names.items())


def _verdict(e: dict[str, Any]) -> Text:
    return Text(e["verdict"] + (f" ({e['evidence']})" if e["evidence"] else ""), _COLOURS[e["verdict"]])


_ROWS = (
    ("capture", _dump),
    ("search", _search),
    ("first hit", _first_hit),
    ("guest RAM looks like", _pages),
    ("coverage", _coverage),
    ("controls", _controls),
    ("verdict", _verdict),
    ("time", lambda e: f"{e['seconds']:.1f} s"),
)
