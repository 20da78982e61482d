"""A leak run for people: the modes side by side, then the reasons of each verdict."""

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sevkit.render import provenance

_COLOURS = {"leaked": "bold red", "protected": "bold green", "inconclusive": "bold yellow"}
_HYPERVISORS = {"qemu": "QEMU", "emulated": "QEMU with engine", "mock": "software model"}
_TEXT = '"$TEXT"'
_WORTH_SHOWING = ("plaintext", "ciphertext", "zero", "hole")


def text(data: Mapping[str, Any], *, colour: bool = False, width: int = 100) -> str:
    """The run as text; four modes fit into 100 columns."""
    console = Console(file=io.StringIO(), force_terminal=colour, width=width, highlight=False, no_color=not colour)
    experiments = data["experiments"]
    console.print(_table(experiments))
    for e in experiments:
        _reasons(console, e)
    for words in provenance.lines(e["provenance"] for e in experiments):
        console.print(words, style="dim")
    outcome = "as predicted" if data["as_predicted"] else "NOT as predicted"
    console.print(f"The outcome is {outcome}, in {data['seconds']:.1f} s.", style="bold")
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def _table(experiments: list[dict[str, Any]]) -> Table:
    table = Table(title="What the host reads of a guest", title_justify="left", pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("", style="dim", max_width=12, overflow="fold")
    for e in experiments:
        table.add_column(Text.assemble((e["mode"], "bold"), f"\n{_what(e)}"), overflow="fold")
    for label, cell in _ROWS:
        table.add_row(label, *[cell(e) for e in experiments])
    return table


def _reasons(console: Console, e: dict[str, Any]) -> None:
    """The reasons of one mode's verdict; the guest's own report comes first."""
    line = Text.assemble((f"{e['mode']}: ", "bold"), (e["verdict"], _COLOURS[e["verdict"]]))
    console.print(line, Text(f"— {'; '.join(e['reasons'])}"))
    for logged in e["guest_log"]:
        console.print(Text(f"  guest's dmesg: {logged}"), style="cyan", soft_wrap=True)
    for name, pages in e["details"].get("mappings", {}).items():
        console.print(f"  {name} as the VMM maps it: {', '.join(_shares(pages))}", style="cyan")
    for reason in e["details"]["passed_over"]:
        console.print(f"  passed over {reason}", style="dim")
    for note in e["details"]["notes"]:
        console.print(f"  note: {note}", style="dim")
    for confound in e["details"]["confounds"]:
        console.print(f"  also differs from nosev: {confound}", style="dim")


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
    return "\n".join(_shares(e["pages"]))


def _shares(pages: Mapping[str, int]) -> list[str]:
    """The share of each class of pages that occurs, as text."""
    total = sum(pages.values()) or 1
    return [f"{pages[word] / total:.1%} {word}" for word in _WORTH_SHOWING if pages.get(word)]


def _coverage(e: dict[str, Any]) -> str:
    c = e["coverage"]
    seen = c["read_bytes"] + c.get("unpopulated_bytes", 0)
    share = seen / c["guest_ram_bytes"] if c["guest_ram_bytes"] else 0.0
    return f"{share:.1%} of {c['guest_ram_bytes'] >> 20} MiB"


def _controls(e: dict[str, Any]) -> str:
    names = {"positive": "positive", "negative": "negative", "secret_alive": "secret alive"}
    return "\n".join(f"{'ok    ' if e['controls'][key] else 'FAILED'} {name}" for key, name in names.items())


def _guest_says(e: dict[str, Any]) -> str:
    """The features that the guest's kernel reports as active."""
    features = [line.rpartition("active:")[2].strip() for line in e["guest_log"] if "active:" in line]
    return features[0] if features else "nothing of SEV"


def _verdict(e: dict[str, Any]) -> Text:
    return Text(e["verdict"] + (f" ({e['evidence']})" if e["evidence"] else ""), _COLOURS[e["verdict"]])


_ROWS: tuple[tuple[str, Callable[[dict[str, Any]], str | Text]], ...] = (
    ("guest says", _guest_says),
    ("capture", _dump),
    ("search", _search),
    ("first hit", _first_hit),
    ("guest RAM", _pages),
    ("coverage", _coverage),
    ("controls", _controls),
    ("verdict", _verdict),
    ("time", lambda e: f"{e['seconds']:.1f} s"),
)


def as_published(data: Mapping[str, Any]) -> Iterator[str]:
    """The published article's own commands, with the PIDs of this run and what each gave.

    The guest generates the text itself: typed text would pass through the VMM, and would be in its
    memory regardless of the guest's protection.
    """
    for e in data["experiments"]:
        yield f"\n# {e['mode']} [{e['provenance']}], guest {e['details']['guest']}"
        yield from _in_guest(e["details"]["capture"]["guest"], e["details"]["nonce"])
        yield from _on_host(e)
        yield f"=> {e['verdict']}" + (f" ({e['evidence']})" if e["evidence"] else "") + f": {'; '.join(e['reasons'])}"


def _in_guest(ran: Mapping[str, Any], nonce: str) -> Iterator[str]:
    yield f"guest$ {ran['dmesg']['command']}"
    yield from (f"  {line}" for line in ran["dmesg"]["lines"] or ["(nothing)"])
    yield f"guest$ echo {_TEXT} > /root/sevkit-secret      # made in the guest from the public nonce {nonce}"
    yield f"guest$ {ran['cat']['command']}"
    yield from (f"  {line}" for line in ran["cat"]["lines"] or ["(nothing)"])


def _on_host(e: dict[str, Any]) -> Iterator[str]:
    capture, pid = e["details"]["capture"], e["details"]["vmm_pid"]
    core = f"core.{pid}"
    yield f"host$  gcore {pid}"
    yield f"  {core}: {_size(e)}"
    yield f"host$  grep -a -o -b {_TEXT} {core}"
    if capture.get("grep") is None:
        yield "  not run: " + ("there is no core" if capture["method"] == "live" else "there is no grep here")
        return
    yield from (f"  a match, at byte {at:,} of the core" for at in capture["grep"])
    if not capture["grep"]:
        yield "  (nothing)"


def _size(e: dict[str, Any]) -> str:
    size = e["details"]["capture"]["dump_bytes"]
    return f"{size / 1e6:,.0f} MB" if size else "not written: the memory was read live"
