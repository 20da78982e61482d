"""Options and output functions that the bench commands share."""

import errno
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from sevkit.errors import NoSpaceError, SevkitError
from sevkit.vocabulary import Mode, Provenance

DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
MODE = click.Choice([str(mode) for mode in Mode])
PROVENANCE = click.Choice([str(kind) for kind in Provenance])


def rule_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say how strict a comparison is."""
    options = [
        click.option("--baseline", type=MODE, default="nosev", show_default=True, help="The mode to compare with."),
        click.option(
            "--margin",
            type=click.FloatRange(0.0001, 1),
            default=0.02,
            show_default=True,
            help="The change (0.02 = 2 %) below which two modes count as equivalent.",
        ),
        click.option("--all-metrics", is_flag=True, help="Also what a workload is not mainly about (p50, p99 …)."),
        click.option("--mixed-provenance", is_flag=True, help="Compare results of different provenance."),
        click.option("--accept-confounds", is_flag=True, help="Give verdicts although the arms differ otherwise too."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def rules_from(options: dict[str, Any]) -> Any:
    """The comparison rules from ``rule_options``."""
    from sevkit.bench.analysis.comparison import Rules

    return Rules(**{**options, "baseline": Mode(options["baseline"])})


def write_text(path: Path, text: str) -> None:
    """Write an output file; raises SevkitError with the reason."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        kind = NoSpaceError if error.errno == errno.ENOSPC else SevkitError
        raise kind(f"{path} could not be written: {error.strerror}") from error


def write_figures(figures: Iterable[tuple[str, str]], folder: Path) -> list[str]:
    """Write charts as SVG, and as PDF where rsvg-convert is; returns the files' paths."""
    from sevkit import processes
    from sevkit.render import bench_axes

    written = []
    for name, svg in figures:
        path = folder / f"{bench_axes.file_name(name)}.svg"
        write_text(path, bench_axes.alone(svg))
        written.append(str(path))
        if processes.have_tool("rsvg-convert"):
            pdf = path.with_suffix(".pdf")
            processes.run(["rsvg-convert", "-f", "pdf", "-o", str(pdf), str(path)], timeout=60, check=SevkitError)
            if not pdf.exists():
                raise SevkitError(f"rsvg-convert ended with status 0, but made no {pdf}")
            written.append(str(pdf))
    return written


def provenance_of(samples: Iterable[Any]) -> list[str]:
    """Where samples come from, in order."""
    return sorted({str(s.at.provenance) for s in samples})
