"""The report's charts as inline SVG: one of ratios with intervals, one of values per family.

Colours are CSS variables of the page, so that one drawing serves light and dark.
"""

import math
import re
from collections.abc import Sequence
from html import escape

from sevkit.bench.analysis.comparison import Comparison
from sevkit.bench.model import Direction
from sevkit.bench.report import Bar, Figure, Forest, Group, Report, forests, label_of
from sevkit.render.bench_tables import quantity

WIDTH = 920
LABEL = 290
RIGHT = 150
ROW = 22
BAR = 15


def forest(figure: Forest) -> str:
    """Ratios to the baseline, as in the tables, with intervals; the heading says which side of 1 is worse."""
    rows = [(c, c.ratio) for c in figure.rows if c.ratio is not None]
    if not rows:
        return ""
    low, high = _span([edge for c, ratio in rows for edge in (ratio, *(c.interval or ()))])
    height = 44 + ROW * len(rows) + 34
    scale = _Log(low, high, LABEL, WIDTH - RIGHT)
    parts = [_open(height, f"{figure.title}: ratio of each mode to the baseline, with intervals")]
    parts += _grid(scale, 30, height - 34)
    one = scale.at(1)
    left, right = ("worse", "better") if figure.direction is Direction.HIGHER else ("better", "worse")
    parts.append(f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="24" y2="{height - 34}"/>')
    parts.append(_text(one - 8, 18, left, "hint end"))
    parts.append(_text(one + 8, 18, right, "hint"))
    named = None
    for index, (comparison, ratio) in enumerate(rows):
        y = 44 + ROW * index
        if comparison.series != named:
            named = comparison.series
            parts.append(_text(LABEL - 92, y + 4, _short(label_of(named), 30), "label end"))
        parts += _forest_row(comparison, ratio, scale, y)
    words = f"ratio to the baseline ({figure.direction})"
    parts.append(_text((LABEL + WIDTH - RIGHT) / 2, height - 4, words, "hint middle"))
    return "".join([*parts, "</svg>"])


def _forest_row(c: Comparison, ratio: float, scale: "_Log", y: float) -> list[str]:
    kind = f"mode-{c.other.mode}" + (" control" if c.control else "")
    again = f"{c.other.mode} again" if c.control else str(c.other.mode)
    tip = f"{label_of(c.series)}, {again}: {ratio:.3f} ({c.outcome})"
    parts = [f'<g class="{kind}"><title>{escape(tip)}</title>']
    parts.append(_text(LABEL - 12, y + 4, again, "hint end"))
    x = scale.at(ratio)
    if c.interval is None:
        parts.append(f'<circle class="dot hollow" cx="{x:.1f}" cy="{y}" r="3.5"/>')
        told = f"{ratio:.3f}  no interval"
    else:
        left, right = scale.at(c.interval[0]), scale.at(c.interval[1])
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y}" r="3.5"/>')
        # Drawn over the dot and with taller ends, so that a narrow interval is visible too.
        ends = "".join(f"M{edge:.1f} {y - 6}v12" for edge in (left, right))
        parts.append(f'<path class="whisker" d="M{left:.1f} {y}H{right:.1f}{ends}"/>')
        told = f"{ratio:.3f}  {c.outcome}"
    parts.append(_text(WIDTH - RIGHT + 12, y + 4, told, "value"))
    return [*parts, "</g>"]


def chart(figure: Figure) -> str:
    """Bars from zero, one per arm, with interval and raw values."""
    count = sum(len(group.bars) for group in figure.groups)
    height = 12 + (BAR + 3) * count + 12 * len(figure.groups) + 26
    edges = [e for g in figure.groups for b in g.bars for e in (b.value, *(b.interval or ()), *b.points)]
    top = max(edges) * 1.02 or 1.0
    scale = _Linear(top, LABEL, WIDTH - RIGHT)
    parts = [_open(height, f"{figure.family}: {figure.metric} in {figure.unit}, {figure.direction}")]
    for tick in _ticks(top):
        x = scale.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 22}"/>')
        parts.append(_text(x, height - 6, quantity(tick, figure.unit) if tick else "0", "tick middle"))
    y = 12.0
    for group in figure.groups:
        parts += _group(group, figure, scale, y)
        y += (BAR + 3) * len(group.bars) + 12
    return "".join([*parts, "</svg>"])


def _group(group: Group, figure: Figure, scale: "_Linear", y: float) -> list[str]:
    middle = y + (BAR + 3) * len(group.bars) / 2
    parts = [_text(LABEL - 92, middle + 3, _short(group.label, 30), "label end")]
    for index, bar in enumerate(group.bars):
        parts += _bar(bar, group, figure, scale, y + index * (BAR + 3))
    return parts


def _bar(bar: Bar, group: Group, figure: Figure, scale: "_Linear", y: float) -> list[str]:
    control = bar.arm != bar.mode
    middle = y + BAR / 2
    told = quantity(bar.value, figure.unit)
    boots = f"{bar.count} samples in {bar.boots} boots or runs"
    tip = f"{group.label}, {bar.arm}: {told}, {boots}"
    kind = f"mode-{bar.mode}" + (" control" if control else "")
    parts = [f'<g class="{kind}"><title>{escape(tip)}</title>']
    parts.append(_text(LABEL - 12, middle + 4, f"{bar.mode} again" if control else bar.mode, "hint end"))
    width = max(0.0, scale.at(bar.value) - LABEL)
    parts.append(f'<rect class="bar" x="{LABEL}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2"/>')
    if len(bar.points) > 1:
        parts += [f'<circle class="point" cx="{scale.at(p):.1f}" cy="{middle:.1f}" r="1.8"/>' for p in bar.points]
    if bar.interval is not None:
        left, right = scale.at(max(0.0, bar.interval[0])), scale.at(bar.interval[1])
        parts.append(f'<path class="whisker" d="M{left:.1f} {middle:.1f}H{right:.1f}M{left:.1f} {y + 3:.1f}v{BAR - 6}')
        parts.append(f'M{right:.1f} {y + 3:.1f}v{BAR - 6}"/>')
    note = told if bar.interval is not None else f"{told} (1 run)"
    parts.append(_text(WIDTH - RIGHT + 12, middle + 4, note, "value"))
    return [*parts, "</g>"]


class _Linear:
    """A scale from zero to ``top``."""

    def __init__(self, top: float, left: float, right: float) -> None:
        self.top, self.left, self.right = top, left, right

    def at(self, value: float) -> float:
        return self.left + (self.right - self.left) * min(1.0, max(0.0, value / self.top))


class _Log:
    """A logarithmic scale."""

    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self.low, self.high, self.left, self.right = low, high, left, right

    def at(self, value: float) -> float:
        place = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.left + (self.right - self.left) * min(1.0, max(0.0, place))


def _span(values: Sequence[float]) -> tuple[float, float]:
    """A range slightly wider than the values and 1, and at least 0.95 to 1.05."""
    low, high = min(*values, 0.952), max(*values, 1.05)
    margin = (high / low) ** 0.04
    return low / margin, high * margin


def _grid(scale: _Log, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in _log_ticks(scale.low, scale.high):
        x = scale.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 14, f"{tick:g}", "tick middle"))
    return parts


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers around 1, at most nine: fractional steps if the axis is short, 1-2-5 if it is long."""
    if high / low > 4:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [tick for power in decades for digit in (1, 2, 5) if low <= (tick := digit * 10.0**power) <= high]
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 8)
    # 1e-9 keeps a tick at the end of the axis that rounding of floats would drop.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 2) for index in range(first, last + 1)]


def _ticks(top: float) -> list[float]:
    """Three to six round numbers from zero to ``top``: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(top))
    step = next(step for step in (power / 5, power / 2, power, power * 2) if top / step <= 6)
    return [step * i for i in range(int(top / step + 1e-9) + 1)]


def _open(height: float, title: str) -> str:
    view = f"0 0 {WIDTH} {height:.0f}"
    return f'<svg viewBox="{view}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# The page's style for a separate figure, with colours instead of variables, for other programs.
_STYLE = """text{font:12px sans-serif;fill:#1c1f23}.hint,.tick{fill:#5c6570;font-size:11px}.end{text-anchor:end}
.middle{text-anchor:middle}.grid{stroke:#e2e5e9}.one{stroke:#5c6570;stroke-dasharray:3 3}
.whisker{stroke:#1c1f23;stroke-width:1.4;fill:none}.bar{fill-opacity:.42}.control .bar{fill-opacity:.2}
.hollow{fill:#fff}"""
_COLOURS = {"nosev": "#7d8896", "sev": "#0072b2", "sev-es": "#aa4499", "sev-snp": "#d55e00"}


def alone(svg: str) -> str:
    """A chart as a separate file."""
    view = svg.split('viewBox="', 1)[1].split('"', 1)[0].split()
    colours = "".join(
        f".mode-{mode} .bar,.mode-{mode} .point,.mode-{mode} .dot{{fill:{colour};stroke:{colour}}}"
        for mode, colour in _COLOURS.items()
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{view[2]}" height="{view[3]}"'
    return svg.replace("<svg", head, 1).replace("</title>", f"</title><style>{colours}{_STYLE}</style>", 1) + "\n"


def files(report: Report) -> list[tuple[str, str]]:
    """All figures of a report by file name without suffix."""
    named = [(f"ratio {f.title} {f.direction.split()[0]}", forest(f)) for f in forests(report.effects)]
    named += [(f"control {f.title} {f.direction.split()[0]}", forest(f)) for f in forests(report.controls)]
    named += [(f"{f.family} {f.metric} {f.unit}", chart(f)) for f in report.figures]
    return [(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"), svg) for name, svg in named if svg]
