"""Comparisons as tables: for terminals, Markdown, CSV and LaTeX. Every row states which way is better."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sevkit import cleantext as clean

COLUMNS = ("workload", "storage", "metric", "mode", "baseline", "value", "ratio", "95 % interval", "better", "verdict")

_UNITS: dict[str, tuple[tuple[float, str], ...]] = {
    "B/s": ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1, "B/s")),
    "B": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
    "1/s": ((1e6, "M/s"), (1e3, "k/s"), (1, "/s")),
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")),
    "ms": ((1e3, "s"), (1, "ms"), (1e-3, "µs")),
    "s": ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
}


def quantity(value: float | None, unit: str) -> str:
    """A value with three significant digits and a suitable unit."""
    if value is None:
        return "-"
    for factor, name in _UNITS.get(unit, ((1, unit),)):
        if abs(value) >= factor:
            return f"{_digits(value / factor)} {name}"
    return f"{_digits(value)} {unit}"


def _digits(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def ratio(value: float | None) -> str:
    """A ratio with three digits after the point."""
    return "-" if value is None else f"{value:.3f}"


def interval(value: Sequence[float] | None) -> str:
    """An interval of a ratio, or a dash if it is unknown."""
    return "-" if value is None else f"{value[0]:.3f} to {value[1]:.3f}"


def row(comparison: Mapping[str, Any]) -> list[str]:
    """One comparison as cells, in the order of ``COLUMNS``."""
    unit = comparison["unit"]
    mode = f"{comparison['mode']} (again)" if comparison["control"] else comparison["mode"]
    conditions = ", ".join(f"{k}={v}" for k, v in comparison["conditions"].items())
    return [
        comparison["workload"] + (f" [{conditions}]" if conditions else ""),
        comparison["storage"] or "",
        comparison["metric"],
        mode,
        quantity(comparison["baseline_value"], unit),
        quantity(comparison["value"], unit),
        ratio(comparison["ratio"]),
        interval(comparison["interval"]) + (" (90 %)" if comparison["confidence"] == 0.9 else ""),
        comparison["direction"].split()[0],
        comparison["verdict"],
    ]


def text(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """A table for a terminal, columns aligned, with the reasons below it."""
    cells = [list(COLUMNS), *([clean.line(cell) for cell in row(c)] for c in comparisons)]
    notes = _notes(comparisons)
    return "\n".join([*_aligned(cells, right={4, 5, 6}), *(["", *notes] if notes else [])]) + "\n"


STUDY_COLUMNS = (
    *("family", "workload", "storage", "metric", "study", "here", "95 % interval", "better", "verdict"),
    "measured as, or why not",
)


def beside_study(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each row of the published study beside what was measured here, for a terminal; reasons where nothing was."""
    lines = [list(STUDY_COLUMNS), *([clean.line(cell) for cell in study_row(row)] for row in rows)]
    return "\n".join(_aligned(lines, right={4, 5})) + "\n"


def study_row(row: Mapping[str, Any]) -> list[str]:
    """One row of the study as cells, the last with the workload that stands in, or why there is nothing."""
    here = row["here"]
    cells = [row["family"], row["workload"], row["storage"] or "", row["metric"], ratio(row["study_ratio"])]
    if here is None:
        return [*cells, "-", "-", "-", "-", row["reason"]]
    same = here["workload"] == row["workload"]
    return [
        *cells,
        ratio(here["ratio"]),
        interval(here["interval"]) + (" (90 %)" if here["confidence"] == 0.9 else ""),
        here["direction"].split()[0],
        here["verdict"],
        "" if same else here["workload"],
    ]


def _aligned(cells: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(_pad(cell, widths[i], i in right) for i, cell in enumerate(line)).rstrip() for line in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def _pad(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


_MOST_NAMES = 4  # that a note lists


def _notes(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    """Reasons and warnings, each once, with the rows that it is about."""
    about: dict[str, list[str]] = {}
    for comparison in comparisons:
        reasons = [comparison["reason"]] if comparison["verdict"] == "refused" else []
        for note in {*reasons, *comparison["warnings"]} - {""}:
            about.setdefault(note, []).append(_name(comparison))
    return [f"note ({_which(names, len(comparisons))}): {clean.line(note)}" for note, names in sorted(about.items())]


def _name(comparison: Mapping[str, Any]) -> str:
    """The row as a sentence names it: its workload, and the storage if it has one."""
    return clean.line(" · ".join(filter(None, (comparison["workload"], comparison["storage"]))))


def _which(names: Sequence[str], rows: int) -> str:
    """The rows that a note is about, by name; their number alone if it is about most of them."""
    different = list(dict.fromkeys(names))
    if len(names) == rows:
        return "every row"
    if len(different) > _MOST_NAMES:
        return f"{len(names)} of {rows} rows"
    return ", ".join(different)


def provenance(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Where the values of a table come from: it may be shown without what stands around it."""
    return f"provenance: {', '.join(sorted({kind for c in comparisons for kind in c['provenance']}))}"


def markdown(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table, with the provenance below it."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "|".join(" --- " for _ in COLUMNS) + "|"]
    lines += ["| " + " | ".join(map(clean.markdown_cell, row(c))) + " |" for c in comparisons]
    return "\n".join([*lines, "", clean.markdown_cell(provenance(comparisons))]) + "\n"


_PLAIN = ("family", "workload", "storage", "metric", "unit", "direction", "baseline_mode", "mode", "control")
_FIGURES = ("ratio", "confidence", "p_value", "p_holm", "noise_floor", "smallest_detectable", "boots_for_margin")


def as_csv(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Full precision, one line per comparison, with all that distinguishes lines: conditions, control, provenance."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    counts = ("boots_baseline", "boots", "samples_baseline", "samples")
    values = ("baseline_value", "value", "interval_low", "interval_high")
    writer.writerow([*_PLAIN, "conditions", "provenance", *counts, *values, *_FIGURES, "verdict", "reason", "warnings"])
    for c in comparisons:
        conditions = "; ".join(f"{key}={value}" for key, value in c["conditions"].items())
        known = [conditions, "; ".join(c["provenance"]), *c["boots"], *c["samples"]]
        measured = [c["baseline_value"], c["value"], *(c["interval"] or ("", "")), *(c[name] for name in _FIGURES)]
        cells = [*(c[name] for name in _PLAIN), *known, *measured, c["verdict"], c["reason"], "; ".join(c["warnings"])]
        writer.writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def _cell(value: Any) -> Any:
    """A CSV cell: a number with ten digits, more than any measurement has; empty for None."""
    if isinstance(value, str):
        return clean.csv_cell(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else "" if value is None else value


def latex(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """A LaTeX tabular (booktabs), with the provenance as its last row."""
    lines = [r"\begin{tabular}{llllrrrlll}", r"\toprule", " & ".join(map(clean.tex, COLUMNS)) + r" \\", r"\midrule"]
    # After \\ a row that begins with [ or * would be taken for its argument.
    cells = ([clean.tex(cell) for cell in row(c)] for c in comparisons)
    lines += [("{}" if line[0][:1] in ("[", "*") else "") + " & ".join(line) + r" \\" for line in cells]
    last = rf"\multicolumn{{{len(COLUMNS)}}}{{l}}{{{clean.tex(provenance(comparisons))}}} \\"
    return "\n".join([*lines, r"\bottomrule", last, r"\end{tabular}"]) + "\n"


FORMATS: dict[str, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": as_csv,
    "latex": latex,
}
