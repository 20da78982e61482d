"""The report's charts as inline SVG: one of ratios with intervals, one of values per family.

Colours are CSS variables of the page, so that one drawing serves light and dark.
"""

import sys
from html import escape

from sevkit import cleantext as clean
from sevkit.bench.analysis.comparison import Comparison
from sevkit.bench.model import Direction
from sevkit.bench.report import Bar, Figure, Forest, Group, Report, forests, label_of
from sevkit.render import bench_axes as axes
from sevkit.render import bench_parts
from sevkit.render.bench_tables import quantity

BAR = 15


def forest(figure: Forest) -> str:
    """Ratios to the baseline, as in the tables, with intervals; the heading says which side of 1 is worse."""
    rows = [(c, c.ratio) for c in figure.rows if c.ratio is not None]
    if not rows:
        return ""
    low, high = axes.span([edge for c, ratio in rows for edge in (ratio, *(c.interval or ()))])
    height = 44 + axes.ROW * len(rows) + 34
    scale = axes.Log(low, high, axes.LABEL, axes.WIDTH - axes.RIGHT)
    parts = [axes.opened(height, f"{figure.title}: ratio of each mode to the baseline, with intervals")]
    parts += axes.grid(scale, 30, height - 34)
    one = scale.at(1)
    left, right = ("worse", "better") if figure.direction is Direction.HIGHER else ("better", "worse")
    parts.append(f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="24" y2="{height - 34}"/>')
    parts.append(axes.text(one - 8, 18, left, "hint end"))
    parts.append(axes.text(one + 8, 18, right, "hint"))
    named = None
    for index, (comparison, ratio) in enumerate(rows):
        y = 44 + axes.ROW * index
        if comparison.series != named:
            named = comparison.series
            parts.append(axes.text(axes.LABEL - 92, y + 4, axes.short(label_of(named), 41), "label end"))
        parts += _forest_row(comparison, ratio, scale, y)
    words = f"ratio to the baseline ({figure.direction})"
    parts.append(axes.text((axes.LABEL + axes.WIDTH - axes.RIGHT) / 2, height - 4, words, "hint middle"))
    return "".join([*parts, "</svg>"])


def _forest_row(c: Comparison, ratio: float, scale: axes.Log, y: float) -> list[str]:
    kind = f"mode-{c.other.mode}" + (" control" if c.control else "")
    again = f"{c.other.mode} again" if c.control else str(c.other.mode)
    tip = f"{label_of(c.series)}, {again}: {ratio:.3f} ({c.outcome})"
    parts = [f'<g class="{kind}"><title>{escape(clean.line(tip))}</title>']
    parts.append(axes.text(axes.LABEL - 12, y + 4, again, "hint end"))
    x = scale.at(ratio)
    if c.interval is None:
        parts.append(f'<circle class="dot hollow" cx="{x:.1f}" cy="{y}" r="3.5"/>')
        told = f"{ratio:.3f}  no interval"
    else:
        left, right = scale.at(c.interval[0]), scale.at(c.interval[1])
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y}" r="3.5"/>')
        parts.append(axes.whisker(left, right, y))
        told = f"{ratio:.3f}  {c.outcome}"
    parts.append(axes.text(axes.WIDTH - axes.RIGHT + 12, y + 4, told, "value"))
    return [*parts, "</g>"]


def chart(figure: Figure) -> str:
    """Bars from zero, one per arm, with interval and raw values."""
    count = sum(len(group.bars) for group in figure.groups)
    height = 12 + (BAR + 3) * count + 12 * len(figure.groups) + 26
    edges = [e for g in figure.groups for b in g.bars for e in (b.value, *(b.interval or ()), *b.points)]
    # Values of others may be below zero, or so large or small that arithmetic with them ends.
    top = max(edges) * 1.02
    top = min(top, sys.float_info.max) if top > sys.float_info.min else 1.0
    scale = axes.Linear(top, axes.LABEL, axes.WIDTH - axes.RIGHT)
    parts = [axes.opened(height, f"{figure.family}: {figure.metric} in {figure.unit}, {figure.direction}")]
    for tick in axes.ticks(top):
        x = scale.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="6" y2="{height - 22}"/>')
        parts.append(axes.text(x, height - 6, quantity(tick, figure.unit) if tick else "0", "tick middle"))
    y = 12.0
    for group in figure.groups:
        parts += _group(group, figure, scale, y)
        y += (BAR + 3) * len(group.bars) + 12
    return "".join([*parts, "</svg>"])


def _group(group: Group, figure: Figure, scale: axes.Linear, y: float) -> list[str]:
    middle = y + (BAR + 3) * len(group.bars) / 2
    parts = [axes.text(axes.LABEL - 92, middle + 3, axes.short(group.label, 41), "label end")]
    for index, bar in enumerate(group.bars):
        parts += _bar(bar, group, figure, scale, y + index * (BAR + 3))
    return parts


def _bar(bar: Bar, group: Group, figure: Figure, scale: axes.Linear, y: float) -> list[str]:
    control = bar.arm != bar.mode
    middle = y + BAR / 2
    told = quantity(bar.value, figure.unit)
    boots = f"{bar.count} samples in {bar.boots} boots or runs"
    tip = f"{group.label}, {bar.arm}: {told}, {boots}"
    kind = f"mode-{bar.mode}" + (" control" if control else "")
    parts = [f'<g class="{kind}"><title>{escape(clean.line(tip))}</title>']
    parts.append(axes.text(axes.LABEL - 12, middle + 4, f"{bar.mode} again" if control else bar.mode, "hint end"))
    width = max(0.0, scale.at(bar.value) - axes.LABEL)
    parts.append(f'<rect class="bar" x="{axes.LABEL}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" rx="2"/>')
    if len(bar.points) > 1:
        parts += [f'<circle class="point" cx="{scale.at(p):.1f}" cy="{middle:.1f}" r="1.8"/>' for p in bar.points]
    if bar.interval is not None:
        left, right = scale.at(max(0.0, bar.interval[0])), scale.at(bar.interval[1])
        parts.append(f'<path class="whisker" d="M{left:.1f} {middle:.1f}H{right:.1f}M{left:.1f} {y + 3:.1f}v{BAR - 6}')
        parts.append(f'M{right:.1f} {y + 3:.1f}v{BAR - 6}"/>')
    note = told if bar.interval is not None else f"{told} (1 run)"
    parts.append(axes.text(axes.WIDTH - axes.RIGHT + 12, middle + 4, note, "value"))
    return [*parts, "</g>"]


def files(report: Report) -> list[tuple[str, str]]:
    """All figures of a report by title. Each says where its values come from: it may be shown without the report."""
    note = f"provenance: {', '.join(report.provenance)}"
    named = [(f"ratio {f.title} {f.direction.split()[0]}", forest(f)) for f in forests(report.effects)]
    named += [(f"control {f.title} {f.direction.split()[0]}", forest(f)) for f in forests(report.controls)]
    named += [(f"{f.family} {f.metric} {f.unit}", chart(f)) for f in report.figures]
    noted = [(name, axes.noted(svg, note)) for name, svg in named if svg]
    return [*noted, *((name, svg) for name, svg in bench_parts.figures(report.parts, report.curves) if svg)]
