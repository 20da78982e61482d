"""Several hosts for people: the table of a fleet, and the difference between two hosts."""

from collections.abc import Mapping
from typing import Any

from sevkit.render.probe import Painter

_WORDS = {"ready": "ready", "not_ready": "no", "unknown": "unknown"}
_MODES = ("sme", "sev", "sev-es", "sev-snp")


def table(data: Mapping[str, Any], *, colour: bool = False) -> str:
    """One row per host, then the values that differ from the majority."""
    paint = Painter(colour)
    width = max([len(row["host"]) for row in data["hosts"]] + [4])
    lines = [f"{'host':<{width}}  {'leaf':<16}" + "".join(f"{mode:<9}" for mode in _MODES) + "first in the way"]
    for row in data["hosts"]:
        if row["status"] != "ok":
            lines.append(f"{row['host']:<{width}}  {paint('failed', 'fail')}")  # the error itself is on stderr
            continue
        verdicts = [(row["readiness"][mode]["verdict"]) for mode in _MODES]
        cells = "".join(paint(f"{_WORDS[word]:<9}", word) for word in verdicts)
        blocking = row["readiness"]["sev-snp"]["blocking"] or row["readiness"]["sev-snp"]["unknown"]
        lines.append(f"{row['host']:<{width}}  {row['leaf']['status'] or 'unknown':<16}{cells}{''.join(blocking[:1])}")
    lines += [""] if data["stands_out"] else []
    for entry in data["stands_out"]:
        odd = ", ".join(f"{item['host']} has {item['value']}" for item in entry["hosts"])
        common = f" (the others: {entry['common']})" if entry["common"] else ""
        lines.append(f"stands out: {entry['property']}: {odd}{common}")
    return "\n".join(lines) + "\n"


def diff(data: Mapping[str, Any]) -> str:
    """Verdicts with their causes first, then everything that differs."""
    lines = [
        f"A: {data['a']['file']} ({data['a']['recorded']})",
        f"B: {data['b']['file']} ({data['b']['recorded']})",
        "",
    ]
    for entry in data["verdicts"]:
        lines.append(f"{entry['mode']}: A {_WORDS[entry['a']]}, B {_WORDS[entry['b']]}")
        for cause in entry["causes"]:
            worse, better = entry["worse"].upper(), "A" if entry["worse"] == "b" else "B"
            lines.append(f"  {cause['check']}: {worse}: {cause['here']}; {better}: {cause['there']}")
            lines.append(f"    hint: {cause['hint']}")
    if not data["verdicts"]:
        lines.append("the verdicts are the same")
    for title, rows, name in (("CPU", "cpu", "field"), ("leaf", "leaf", "field"), ("readings", "readings", "name")):
        if data[rows]:
            lines += ["", title, *(f"  {row[name]}: A {_value(row['a'])}; B {_value(row['b'])}" for row in data[rows])]
    if data["checks"]:
        lines += ["", "checks"]
        lines += [f"  {row['id']}: A {row['a']['status']}; B {row['b']['status']}" for row in data["checks"]]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    return " ".join(map(str, value)) or "nothing" if isinstance(value, list) else str(value)
