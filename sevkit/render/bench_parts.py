"""What a cost consists of, and how it moves along a sweep: as text, and as charts with intervals."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape

from sevkit import cleantext as clean
from sevkit.bench.payload_parts import AttributedRow, CurveRow, Part
from sevkit.render import bench_axes as axes

_VERDICTS = {"worse": "adds", "better": "saves", "equivalent": "within the margin"}
_CHANGES = {"worse": "raises the cost", "better": "lowers the cost", "equivalent": "does not change the cost"}
_DRAWN = {"worse": "raises", "better": "lowers", "equivalent": "no change"}

# Axes whose values are kinds, in the words of a heading: no line joins them, since nothing lies between two kinds.
_KINDS = {"storage": "kinds of disk", "cache": "cache modes"}


def name_of(row: AttributedRow | CurveRow) -> str:
    """Workload, storage and conditions as one label."""
    conditions = ", ".join(f"{key} {value}" for key, value in row["conditions"].items())
    return " · ".join(part for part in (row["workload"], row["storage"], conditions) if part)


def times(value: float | None, interval: Sequence[float] | None) -> str:
    """A factor with its interval."""
    if value is None:
        return "not known"
    return f"{value:.3f}" + ("" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]")


def attribution(rows: Sequence[AttributedRow]) -> Iterator[str]:
    """The parts of each row, for a terminal."""
    for row in rows:
        total = row["total"]
        cost = times(total["times"], total["interval"])
        yield (
            f"{clean.line(name_of(row))}: cost of {row['mode']} against {row['baseline_mode']} "
            f"{cost} ({row['rounds']} rounds, {total['verdict']})"
        )
        for part in row["steps"]:
            share = "" if part["share"] is None else f", {_share(part)} of it"
            yield f"  {part['title']:<44} x {times(part['times'], part['interval'])}{share}: {_said(part)}"
        for switched in row["switches"]:
            change = switched["change"]
            words = _CHANGES.get(change["verdict"], change["verdict"])
            cost = times(switched["cost"], switched["cost_interval"])
            factor = times(change["times"], change["interval"])
            yield f"  with {clean.line(switched['factor'])}: the cost is {cost}, x {factor}: {words}"
        yield ""
    yield from _reasons([part for row in rows for part in _all(row)])


def _all(row: AttributedRow) -> list[Part]:
    return [row["total"], *row["steps"], *(s["change"] for s in row["switches"])]


def _said(part: Part) -> str:
    return _VERDICTS.get(part["verdict"], part["verdict"])


def _share(part: Part) -> str:
    low, high = part["share_interval"] or (0.0, 0.0)
    return f"{part['share']:.0%} [{low:.0%}, {high:.0%}]"


def _reasons(parts: Sequence[Part]) -> Iterator[str]:
    """Why parts were refused, each reason once."""
    yield from _each_once(part["reason"] for part in parts if part["verdict"] == "refused")


def _each_once(reasons: Iterable[str]) -> Iterator[str]:
    for reason in sorted({one for text in reasons for one in text.split("; ")}):
        yield f"refused: {clean.line(reason)}"


def curves(rows: Sequence[CurveRow]) -> Iterator[str]:
    """The curves, for a terminal."""
    for row in rows:
        yield f"{clean.line(name_of(row))}, {row['mode']} along {row['axis']}: {row['course']}"
        for point in row["points"]:
            yield f"  {row['axis']} {clean.line(point['value']):<12} cost {times(point['cost'], point['interval'])}"
        first = row["points"][0]["value"]
        for test in row["interactions"]:
            what = "per doubling" if test["value"] is None else f"{clean.line(test['value'])} against {first}"
            words = _CHANGES.get(test["verdict"], test["verdict"])
            yield f"  {what}: x {times(test['times'], test['interval'])}: {words}"
    yield from _each_once(t["reason"] for row in rows for t in row["interactions"] if t["verdict"] == "refused")


def waterfall(row: AttributedRow) -> str:
    """A chart of one row: each step begins where the one before it ends; below, the total and the cost with factors."""
    bars = _bars(row)
    if not bars:
        return ""
    low, high = axes.span([edge for _, start, end, reach, _ in bars for edge in (start, end, *(reach or ()))])
    height = 50 + axes.ROW * len(bars) + 34
    scale = axes.Log(low, high, axes.LABEL, axes.WIDTH - axes.RIGHT)
    parts = [axes.opened(height, f"{name_of(row)}: what the cost of {row['mode']} consists of")]
    parts.append(axes.text(12, 16, f"{name_of(row)}: {row['mode']} ({', '.join(row['provenance'])})", "label"))
    parts += axes.grid(scale, 36, height - 34)
    parts.append(f'<line class="one" x1="{scale.at(1):.1f}" x2="{scale.at(1):.1f}" y1="30" y2="{height - 34}"/>')
    for index, bar in enumerate(bars):
        parts += _bar(row["mode"], bar, scale, 50 + axes.ROW * index)
    words = f"cost relative to {row['baseline_mode']} (1.1: 10 % worse); whiskers: the 95 % interval of each bar"
    parts.append(axes.text((axes.LABEL + axes.WIDTH - axes.RIGHT) / 2, height - 4, words, "hint middle"))
    return "".join([*parts, "</svg>"])


_Bar = tuple[str, float, float, Sequence[float] | None, str]  # label, start, end, interval of the end, text


def _bars(row: AttributedRow) -> list[_Bar]:
    bars: list[_Bar] = []
    reached = 1.0
    for part in row["steps"]:
        if part["times"] is None:
            return []
        bars.append(_scaled(part["title"], reached, part, _told(part)))
        reached *= part["times"]
    total = row["total"]
    if total["times"] is None:
        return []
    bars.append(_scaled("total", 1.0, total, _told(total)))
    for switched in row["switches"]:
        change = switched["change"]
        if change["times"] is not None:
            told = f"x {change['times']:.3f}  {_DRAWN.get(change['verdict'], change['verdict'])}"
            bars.append(_scaled(f"with {switched['factor']}", total["times"], change, told))
    return bars


def _scaled(label: str, start: float, part: Part, told: str) -> _Bar:
    assert part["times"] is not None
    reach = None if part["interval"] is None else [start * edge for edge in part["interval"]]
    return label, start, start * part["times"], reach, told


def _told(part: Part) -> str:
    share = "" if part["share"] is None else f"  {part['share']:.0%}"
    said = "in the margin" if part["verdict"] == "equivalent" else _said(part)
    return f"x {part['times']:.3f}{share}  {said}"


def _bar(mode: str, bar: _Bar, scale: axes.Log, y: float) -> list[str]:
    label, start, end, reach, told = bar
    left, right = sorted((scale.at(start), scale.at(end)))
    control = label.startswith("with ")
    kind = f"mode-{mode}" + (" control" if control else "")
    parts = [f'<g class="{kind}"><title>{escape(clean.line(f"{label}: {told}"))}</title>']
    parts.append(axes.text(axes.LABEL - 12, y + 4, axes.short(label, 50), "label end"))
    parts.append(f'<rect class="bar" x="{left:.1f}" y="{y - 7}" width="{max(1.0, right - left):.1f}" height="14"/>')
    if reach is not None:
        parts.append(axes.whisker(scale.at(reach[0]), scale.at(reach[1]), y))
    parts.append(axes.text(axes.WIDTH - axes.RIGHT + 12, y + 4, told, "value"))
    return [*parts, "</g>"]


def curve(rows: Sequence[CurveRow]) -> str:
    """A chart of one row along one axis: a line per mode, with intervals."""
    values = [point["value"] for row in rows for point in row["points"]]
    names = list(dict.fromkeys(values))
    edges = [e for row in rows for p in row["points"] if p["cost"] for e in (p["cost"], *(p["interval"] or ()))]
    if not edges:
        return ""
    low, high = axes.span(edges)
    height, top, bottom = 240.0, 40.0, 190.0
    scale = axes.Log(low, high, bottom, top)
    first = rows[0]
    parts = [axes.opened(height, f"{name_of(first)}: the cost of each mode along {first['axis']}")]
    title = f"{name_of(first)} along {first['axis']} ({', '.join(first['provenance'])})"
    parts.append(axes.text(12, 16, title, "label"))
    for tick in axes.log_ticks(low, high):
        y = scale.at(tick)
        parts.append(f'<line class="grid" x1="90" x2="{axes.WIDTH - axes.RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(axes.text(80, y + 4, f"{tick:g}", "tick end"))
    y = scale.at(1)
    parts.append(f'<line class="one" x1="90" x2="{axes.WIDTH - axes.RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    place = _places(names)
    parts += [axes.text(place[name], bottom + 18, axes.short(name, 14), "tick middle") for name in names]
    words = f"{first['axis']}; cost relative to {first['baseline_mode']} (1.1: 10 % worse), with 95 % intervals"
    parts.append(axes.text((90 + axes.WIDTH - axes.RIGHT) / 2, height - 8, words, "hint middle"))
    ends = []
    for index, row in enumerate(rows):
        drawn, end = _line(row, place, scale, 5.0 * (index - (len(rows) - 1) / 2))
        parts += drawn
        ends.append((end, f"{row['mode']}: {row['course']}"))
    parts += [axes.text(axes.WIDTH - axes.RIGHT + 6, y, told, "value") for y, told in _apart(ends)]
    return "".join([*parts, "</svg>"])


def _apart(ends: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Texts at the ends of lines, a line's height apart."""
    placed: list[tuple[float, str]] = []
    for y, told in sorted(ends):
        placed.append((max(y + 4, placed[-1][0] + 14) if placed else y + 4, told))
    return placed


def _places(names: Sequence[str]) -> dict[str, float]:
    """Values at equal distances: a sweep names the values that matter, and they often double."""
    left, right = 140.0, axes.WIDTH - axes.RIGHT - 50.0
    width = (right - left) / max(1, len(names) - 1)
    return {name: left + width * index for index, name in enumerate(names)}


def _line(row: CurveRow, place: dict[str, float], scale: axes.Log, shift: float) -> tuple[list[str], float]:
    """The line of one mode, and the height at which it ends."""
    points = [(place[p["value"]] + shift, p) for p in row["points"]]
    drawn = [(x, scale.at(p["cost"])) for x, p in points if p["cost"] is not None]
    told = f"{row['mode']}: {row['course']}"
    parts = [f'<g class="mode-{row["mode"]}"><title>{escape(clean.line(told))}</title>']
    if not drawn:
        return [], 0.0
    if row["axis"] not in _KINDS:
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in drawn)
        parts.append(f'<path class="line" d="M{path}"/>')
    for x, p in points:
        if p["cost"] is not None:
            parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{scale.at(p["cost"]):.1f}" r="3.5"/>')
        if p["interval"] is not None:
            low, high = (scale.at(edge) for edge in p["interval"])
            ends = "".join(f"M{x - 4:.1f} {edge:.1f}h8" for edge in (low, high))
            parts.append(f'<path class="whisker" d="M{x:.1f} {low:.1f}V{high:.1f}{ends}"/>')
    return [*parts, "</g>"], drawn[-1][1]


def families(rows: Sequence[CurveRow]) -> dict[str, list[list[CurveRow]]]:
    """The curves of each figure (one family along one axis), as panels: one row of the campaign, all modes."""
    groups: dict[str, dict[str, list[CurveRow]]] = {}
    for row in rows:
        axis = _KINDS.get(row["axis"], row["axis"])
        panels = groups.setdefault(f"{row['family'] or row['workload']} along {axis}", {})
        panels.setdefault(name_of(row), []).append(row)
    return {title: list(panels.values()) for title, panels in groups.items()}


def panels_of(rows: Sequence[CurveRow]) -> list[tuple[str, list[str]]]:
    """The charts of each family along each axis; a family of which nothing can be drawn is left out."""
    found = [(title, [svg for panel in panels if (svg := curve(panel))]) for title, panels in families(rows).items()]
    return [(title, panels) for title, panels in found if panels]


def figures(parts: Sequence[AttributedRow], rows: Sequence[CurveRow]) -> list[tuple[str, str]]:
    """All charts with their titles: what each cost consists of, then the curves of each family."""
    found = [(f"cost of {name_of(row)} {row['metric'] or ''}".strip(), waterfall(row)) for row in parts]
    found += [(title, axes.stacked(title, panels)) for title, panels in panels_of(rows)]
    return [(title, svg) for title, svg in found if svg]
