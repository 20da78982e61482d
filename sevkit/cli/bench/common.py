"""Options and output functions that the bench commands share."""

import errno
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from sevkit.errors import BadInputError, NoSpaceError, SevkitError, UsageError
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
        click.option("--all-metrics", is_flag=True, help="Show secondary metrics, too (p50, p99 …)."),
        click.option("--mixed-provenance", is_flag=True, help="Compare results of different provenance."),
        click.option("--accept-confounds", is_flag=True, help="Give verdicts even if more than the mode differs."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def campaign_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of every command that measures."""
    options = [
        click.option(
            "--output", "-o", type=DIRECTORY, help="The results directory; one with the same settings is resumed."
        ),
        click.option(
            "--hypervisor",
            type=click.Choice(["auto", "qemu", "emulated"]),
            default="auto",
            show_default=True,
            help="Used for all modes; auto: the one that runs most of them.",
        ),
        click.option("--boots", type=click.IntRange(1, 1000), help="Least number of boots of each arm."),
        click.option("--most-boots", type=click.IntRange(1, 1000), help="Most boots of each arm."),
        click.option("--iterations", type=click.IntRange(1, 10000), help="Samples of a workload in each boot."),
        click.option("--control/--no-control", default=None, help="Measure the baseline twice, as A/A control."),
        click.option("--seconds", type=click.FloatRange(0.1), help="Length of a fio run."),
        click.option(
            "--timeout",
            type=click.FloatRange(1, 604800),
            help="The longest that one sample may take in seconds, instead of each workload's own limit.",
        ),
        click.option("--budget", type=click.FloatRange(1), help="Stop after this many seconds."),
        click.option("--pin", help="CPUs for guests, like 2,3; auto; none."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def rules_from(options: dict[str, Any]) -> Any:
    """The comparison rules from ``rule_options``."""
    from sevkit.bench.analysis.comparison import Rules

    return Rules(**{**options, "baseline": Mode(options["baseline"])})


def samples_in(folders: Sequence[Path]) -> tuple[list[Any], list[SevkitError]]:
    """The samples of results directories, and errors for damaged lines; raises BadInputError without samples."""
    from sevkit.bench import results, store, twins

    if len({path.resolve() for path in folders}) < len(folders):
        raise UsageError("a results directory is given twice", hint="give each once: it is no repetition of itself")
    campaigns = {str(path): results.read(path) for path in folders}
    twins.check_works({name: campaign.header for name, campaign in campaigns.items()})
    twins.check({name: campaign.samples for name, campaign in campaigns.items()})
    samples = [s for index, c in enumerate(campaigns.values()) for s in store.renumbered(c.samples, index)]
    errors = [error for name, campaign in campaigns.items() for error in damage(name, campaign)]
    if not samples:
        words = "no samples that can be read" if errors else "no samples yet"
        detail = "\n".join(error.message for error in errors[:5])
        raise BadInputError(f"{', '.join(map(str, folders))} holds {words}", detail=detail or None)
    return samples, errors


def damage(origin: object, campaign: Any) -> list[SevkitError]:
    """Errors for the lines of a campaign that cannot be read."""
    return [BadInputError(f"{origin}: {text}", hint="the other lines are used") for text in campaign.damage]


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
            pdf.unlink(missing_ok=True)  # one of an earlier run is none of this chart
            processes.run(["rsvg-convert", "-f", "pdf", "-o", str(pdf), str(path)], timeout=60, check=SevkitError)
            if not pdf.exists() or not pdf.stat().st_size:
                raise SevkitError(f"rsvg-convert ended with status 0, but made no {pdf}")
            written.append(str(pdf))
    return written


def provenance_of(samples: Iterable[Any]) -> list[str]:
    """Where samples come from, in order."""
    return sorted({str(s.at.provenance) for s in samples})
