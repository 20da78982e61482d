"""Scales, ticks and texts of the charts of `sevkit bench`, and a chart as a file of its own."""

import math
import re
from collections.abc import Sequence
from html import escape

from sevkit import cleantext as clean

WIDTH = 920
LABEL = 350
RIGHT = 150
ROW = 22


class Linear:
    """A scale from zero to ``top``."""

    def __init__(self, top: float, left: float, right: float) -> None:
        self.top, self.left, self.right = top, left, right

    def at(self, value: float) -> float:
        """The place of a value, within the axis."""
        return self.left + (self.right - self.left) * min(1.0, max(0.0, value / self.top))


class Log:
    """A logarithmic scale."""

    def __init__(self, low: float, high: float, left: float, right: float) -> None:
        self.low, self.high, self.left, self.right = low, high, left, right

    def at(self, value: float) -> float:
        """The place of a value, within the axis."""
        place = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.left + (self.right - self.left) * min(1.0, max(0.0, place))


def span(values: Sequence[float]) -> tuple[float, float]:
    """A range slightly wider than the values and 1, and at least 0.95 to 1.05."""
    low, high = min(*values, 0.952), max(*values, 1.05)
    margin = (high / low) ** 0.04
    return low / margin, high * margin


def grid(scale: Log, top: float, bottom: float) -> list[str]:
    """Vertical lines at round numbers, with the numbers below them."""
    parts = []
    for tick in log_ticks(scale.low, scale.high):
        x = scale.at(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(text(x, bottom + 14, f"{tick:g}", "tick middle"))
    return parts


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers around 1, at most nine: fractional steps if the axis is short, 1-2-5 if it is long."""
    if high / low > 4:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        return [tick for power in decades for digit in (1, 2, 5) if low <= (tick := digit * 10.0**power) <= high]
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 8)
    # 1e-9 keeps a tick at the end of the axis that rounding of floats would drop.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 2) for index in range(first, last + 1)]


def ticks(top: float) -> list[float]:
    """Three to six round numbers from zero to ``top``: multiples of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(top))
    step = next(step for step in (power / 5, power / 2, power, power * 2) if top / step <= 6)
    return [step * i for i in range(int(top / step + 1e-9) + 1)]


def opened(height: float, title: str) -> str:
    """The start of a drawing."""
    view, words = f"0 0 {WIDTH} {height:.0f}", escape(clean.line(title))
    return f'<svg viewBox="{view}" role="img" aria-label="{words}"><title>{words}</title>'


def stacked(title: str, drawings: Sequence[str]) -> str:
    """Drawings of one width, one below the other, as one drawing; empty without any."""
    parts, height = [], 0.0
    for drawing in drawings:
        tall = float(drawing.split('viewBox="', 1)[1].split('"', 1)[0].split()[3])
        parts.append(drawing.replace("<svg", f'<svg y="{height:.0f}" width="{WIDTH}" height="{tall:.0f}"', 1))
        height += tall + 14
    return "".join([opened(height, title), *parts, "</svg>"]) if parts else ""


def noted(drawing: str, words: str) -> str:
    """A drawing with a line of text below it."""
    view = drawing.split('viewBox="', 1)[1].split('"', 1)[0]
    tall = float(view.split()[3])
    higher = drawing.replace(view, f"0 0 {WIDTH} {tall + 18:.0f}", 1).removesuffix("</svg>")
    return f"{higher}{text(WIDTH - 8, tall + 12, words, 'hint end')}</svg>"


def text(x: float, y: float, words: str, kind: str) -> str:
    """A text of a class of the style."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(clean.line(words))}</text>'


def whisker(left: float, right: float, y: float) -> str:
    """An interval; its ends are taller than a dot, so that a narrow interval is visible too."""
    ends = "".join(f"M{edge:.1f} {y - 6}v12" for edge in (left, right))
    return f'<path class="whisker" d="M{left:.1f} {y}H{right:.1f}{ends}"/>'


def short(words: str, length: int) -> str:
    """A text of at most ``length`` characters."""
    return words if len(words) <= length else words[: length - 1] + "…"


# The page's style for a separate figure, with colours instead of variables, for other programs.
_STYLE = """text{font:12px sans-serif;fill:#1c1f23}.hint,.tick{fill:#5c6570;font-size:11px}.end{text-anchor:end}
.middle{text-anchor:middle}.grid{stroke:#e2e5e9}.one{stroke:#5c6570;stroke-dasharray:3 3}
.whisker{stroke:#1c1f23;stroke-width:1.4;fill:none}.bar{fill-opacity:.42}.control .bar{fill-opacity:.2}
.hollow{fill:#fff}.line{fill:none;stroke-width:1.6}"""
_COLOURS = {"nosev": "#7d8896", "sev": "#0072b2", "sev-es": "#aa4499", "sev-snp": "#d55e00"}


def alone(svg: str) -> str:
    """A chart as a separate file."""
    view = svg.split('viewBox="', 1)[1].split('"', 1)[0].split()
    colours = "".join(
        f".mode-{mode} .bar,.mode-{mode} .point,.mode-{mode} .dot{{fill:{colour};stroke:{colour}}}"
        f".mode-{mode} .line{{stroke:{colour}}}"
        for mode, colour in _COLOURS.items()
    )
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{view[2]}" height="{view[3]}"'
    return svg.replace("<svg", head, 1).replace("</title>", f"</title><style>{colours}{_STYLE}</style>", 1) + "\n"


def file_name(title: str) -> str:
    """A title as the name of a file, without suffix."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
