"""The report's charts as inline SVG: one of ratios with intervals, one of values for each family.

Colours are CSS variables of the page, so that one drawing serves light and dark.
"""

import math
from collections.abc import Sequence
from html import escape

from sevkit.bench.analysis.comparison import Comparison
from sevkit.bench.analysis.report import Bar, Figure, Group, label_of, slowdown
from sevkit.render.bench_tables import quantity

WIDTH = 920
LABEL = 290
RIGHT = 150
ROW = 22
BAR = 15


def forest(comparisons: Sequence[Comparison]) -> str:
    """Costs with intervals on a logarithmic axis: right of 1 is worse, left is better."""
    rows = [(c, cost) for c in comparisons if (cost := slowdown(c)) is not None]
    if not rows:
        return ""
    low, high = _span([edge for _, (value, interval) in rows for edge in (value, *(interval or ()))])
    height = 44 + ROW * len(rows) + 34
    scale = _Log(low, high, LABEL, WIDTH - RIGHT)
    parts = [_open(height, "Cost of each mode against the baseline, with 95 % intervals")]
    parts += _grid(scale, 30, height - 34)
    one = scale.at(1)
    parts.append(f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="24" y2="{height - 34}"/>')
    parts.append(_text(one - 8, 18, "better", "hint end"))
    parts.append(_text(one + 8, 18, "worse", "hint"))
    named = None
    for index, (comparison, (value, interval)) in enumerate(rows):
        y = 44 + ROW * index
        if comparison.series != named:
            named = comparison.series
            parts.append(_text(LABEL - 92, y + 4, _short(label_of(named), 30), "label end"))
        parts += _forest_row(comparison, value, interval, scale, y)
    parts.append(_text((LABEL + WIDTH - RIGHT) / 2, height - 4, "times as costly as the baseline", "hint middle"))
    return "".join([*parts, "</svg>"])


def _forest_row(
    c: Comparison, value: float, interval: tuple[float, float] | None, scale: "_Log", y: float
) -> list[str]:
    kind = f"mode-{c.other.mode}" + (" control" if c.control else "")
    name = label_of(c.series)
    again = f"{c.other.mode} again" if c.control else str(c.other.mode)
    tip = f"{name}, {again}: {value:.3f} ({c.outcome})"
    parts = [f'<g class="{kind}"><title>{escape(tip)}</title>']
    parts.append(_text(LABEL - 12, y + 4, again, "hint end"))
    x = scale.at(value)
    if interval is not None:
        left, right = scale.at(interval[0]), scale.at(interval[1])
        parts.append(f'<line class="whisker" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y}" r="4.5"/>')
        told = f"{value:.3f}  {c.outcome}"
    else:
        parts.append(f'<circle class="dot hollow" cx="{x:.1f}" cy="{y}" r="4.5"/>')
        told = f"{value:.3f}  no interval"
    parts.append(_text(WIDTH - RIGHT + 12, y + 4, told, "value"))
    return [*parts, "</g>"]


def chart(figure: Figure) -> str:
    """Bars from zero, one for each arm, with interval and raw values."""
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
    """A little more than the values and 1, and at least 0.95 to 1.05."""
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
    for steps in (
        (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100),
        (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4, 5),
        (0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5),
        tuple(round(0.8 + 0.02 * i, 2) for i in range(21)),
    ):
        chosen = [float(tick) for tick in steps if low <= tick <= high]
        if len(chosen) >= 4:
            return chosen
    return [tick for tick in (0.98, 0.99, 1.0, 1.01, 1.02) if low <= tick <= high]


def _ticks(top: float) -> list[float]:
    step = 10 ** math.floor(math.log10(top))
    for divisor in (1, 2, 5, 10):
        if top / (step / divisor) >= 3:
            step /= divisor
            break
    return [step * i for i in range(int(top / step) + 1)]


def _open(height: float, title: str) -> str:
    view = f"0 0 {WIDTH} {height:.0f}"
    return f'<svg viewBox="{view}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
