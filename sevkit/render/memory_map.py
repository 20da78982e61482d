"""Maps of guest memory: PNG and SVG, a self-contained HTML page, and a short form for the terminal."""

import base64
import io
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sevkit.extras import extra
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.picture import Picture
from sevkit.render.page import page

if TYPE_CHECKING:
    import numpy as np

# Distinguishable with all common kinds of colour vision (Okabe and Ito's palette), and by lightness in grey.
COLOURS = {
    PageClass.HOLE: "#ffffff",
    PageClass.ZERO: "#cfcfcf",
    PageClass.PLAINTEXT: "#d55e00",
    PageClass.CIPHERTEXT: "#0072b2",
    PageClass.UNREAD: "#f0e442",
}
HIT = "#000000"
MEANING = {
    PageClass.PLAINTEXT: "plaintext",
    PageClass.CIPHERTEXT: "ciphertext (like random bytes)",
    PageClass.ZERO: "zero",
    PageClass.HOLE: "hole (no page there)",
    PageClass.UNREAD: "unread",
}
_ANSI = {PageClass.PLAINTEXT: "33", PageClass.CIPHERTEXT: "34", PageClass.ZERO: "90", PageClass.UNREAD: "93"}
_LETTER = {
    PageClass.HOLE: " ",
    PageClass.ZERO: "·",
    PageClass.PLAINTEXT: "#",
    PageClass.CIPHERTEXT: "≈",
    PageClass.UNREAD: "?",
}


def columns(points: int) -> int:
    """The number of points per row: a power of two, so that rows begin at round addresses; limited in width."""
    # Example: 131,072 points (512 MiB in pages) give rows of 256 points, 512 rows.
    wide = 16
    while wide * wide * 4 <= points and wide < 512:
        wide *= 2
    return wide


def _grid(picture: Picture) -> "np.ndarray[Any, Any]":
    """The classes in rows; the rest of the last row is filled with holes."""
    import numpy as np

    wide = columns(len(picture.points))
    flat = np.frombuffer(picture.points, dtype=np.uint8)
    padded = np.zeros(max(1, -(-len(flat) // wide)) * wide, dtype=np.uint8)
    padded[: len(flat)] = flat
    return padded.reshape(-1, wide)


def bitmap(picture: Picture) -> bytes:
    """The map alone as a PNG, one pixel per point."""
    grid = _grid(picture)
    palette = b"".join(bytes.fromhex(COLOURS[kind][1:]) for kind in PageClass)
    rows = b"".join(b"\0" + row.tobytes() for row in grid)  # each row with filter type 0, none
    header = struct.pack(">IIBBBBB", grid.shape[1], grid.shape[0], 8, 3, 0, 0, 0)  # 8 bits, indexed colour
    chunks = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file (PNG specification, third edition, section 5.3)."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def figure(pictures: Sequence[Picture], kind: str) -> bytes:
    """The maps side by side with axes, legend and marks, as ``png`` or ``svg``."""
    with extra("plots"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import BoundaryNorm, ListedColormap
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

    drawing = Figure(figsize=(1.2 + 4.2 * len(pictures), 8.6), dpi=120, layout="constrained")
    FigureCanvasAgg(drawing)
    colours = ListedColormap([COLOURS[each] for each in PageClass])
    norm = BoundaryNorm([each - 0.5 for each in range(len(PageClass) + 1)], len(PageClass))
    for axes, picture in zip(drawing.subplots(1, len(pictures), squeeze=False)[0], pictures, strict=True):
        grid = _grid(picture)
        axes.imshow(grid, cmap=colours, norm=norm, interpolation="nearest", aspect="auto")
        axes.set_title(f"{picture.title}\n{picture.subtitle}", fontsize=10)
        _axis(axes, picture, grid.shape)
        if picture.marks:
            rows, across = zip(*(divmod(point, grid.shape[1]) for point, _ in picture.marks), strict=True)
            axes.plot(
                across, rows, "o", markersize=9, markerfacecolor="none", markeredgecolor="white", markeredgewidth=3
            )
            axes.plot(across, rows, "o", markersize=9, markerfacecolor="none", markeredgecolor=HIT, markeredgewidth=1.5)
    legend: list[Any] = [Patch(facecolor=COLOURS[k], edgecolor="#888888", label=word) for k, word in MEANING.items()]
    legend.append(Line2D([], [], marker="o", linestyle="", markerfacecolor="none", color=HIT, label="secret found"))
    drawing.legend(handles=legend, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    stream = io.BytesIO()
    drawing.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return stream.getvalue()


def _axis(axes: Any, picture: Picture, shape: tuple[int, ...]) -> None:
    """Guest-physical addresses down the side, at eight rows."""
    rows, wide = shape
    shown = [rows * step // 8 for step in range(8)] if rows >= 8 else list(range(rows))
    axes.set_yticks(shown, [size(picture.gpa(row * wide)) for row in shown], fontsize=8)
    axes.set_xticks([])
    axes.set_xlabel(f"one point: {size(picture.per_point * 4096)}; one row: {size(wide * picture.per_point * 4096)}")
    axes.set_ylabel("guest-physical address", fontsize=8)


def size(count: int) -> str:
    """Bytes in the largest unit that divides them, or with one decimal."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count // scale} {unit}" if count % scale == 0 else f"{count / scale:.1f} {unit}"
    return f"{count} B"


def panel(picture: Picture) -> dict[str, Any]:
    """The values that the HTML template needs to draw one map."""
    grid = _grid(picture)
    rows, wide = grid.shape
    total = sum(picture.counts.values()) or 1
    ticks = [(rows * step // 8) for step in range(8)] if rows >= 8 else list(range(rows))
    return {
        "title": picture.title,
        "subtitle": picture.subtitle,
        "stopped": picture.stopped,
        "image": base64.b64encode(bitmap(picture)).decode(),
        "rows": rows,
        "wide": wide,
        "point": size(picture.per_point * 4096),
        "row": size(wide * picture.per_point * 4096),
        "ticks": [(100 * row / rows, size(picture.gpa(row * wide))) for row in ticks],
        "marks": [
            {
                "x": 100 * (point % wide + 0.5) / wide,
                "y": 100 * (point // wide + 0.5) / rows,
                "label": label,
            }
            for point, label in picture.marks
        ],
        "counts": [
            (MEANING[kind], COLOURS[kind], picture.counts.get(kind.word, 0), picture.counts.get(kind.word, 0) / total)
            for kind in MEANING
        ],
    }


def html(pictures: Sequence[Picture]) -> str:
    """A self-contained page: no script, no external resources."""
    return page("memory_map.html.j2", panels=[panel(picture) for picture in pictures])


def text(picture: Picture, *, width: int = 72, rows: int = 12, colour: bool = False) -> str:
    """A few lines for the terminal: one letter per group of pages, by the most important class among them."""
    import numpy as np

    from sevkit.memory.guest_ram.picture import shrink

    wide = max(8, min(width - 14, 64))
    points = shrink(np.frombuffer(picture.points, dtype=np.uint8), wide * rows)
    each = max(1, -(-len(picture.points) // (wide * rows)))
    marked = {point // each for point, _ in picture.marks}
    lines = [f"{picture.title}  {picture.subtitle}".rstrip()]
    for row in range(0, len(points), wide):
        cells = "".join(_cell(int(kind), row + i in marked, colour) for i, kind in enumerate(points[row : row + wide]))
        lines.append(f"{size(picture.gpa(row * each)):>10}  {cells}")
    lines += ["", _legend(picture, colour)]
    if picture.stopped:
        lines.append(f"not finished: {picture.stopped}")
    return "\n".join(lines) + "\n"


def summary(picture: Picture, *, colour: bool = False) -> str:
    """One line: the title and the share of each class."""
    return f"{picture.title}: {_legend(picture, colour)}"


def _cell(kind: int, marked: bool, colour: bool) -> str:
    letter = "@" if marked else _LETTER[PageClass(kind)]
    code = "1;31" if marked else _ANSI.get(PageClass(kind))
    return f"\x1b[{code}m{letter}\x1b[0m" if colour and code else letter


def _legend(picture: Picture, colour: bool) -> str:
    total = sum(picture.counts.values()) or 1
    shown = [kind for kind in MEANING if picture.counts.get(kind.word)]
    words = [f"{_cell(kind, False, colour)} {kind.word} {picture.counts[kind.word] / total:.1%}" for kind in shown]
    return "   ".join(words + ([f"{_cell(0, True, colour)} secret found"] if picture.marks else []))
