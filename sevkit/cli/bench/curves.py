"""`sevkit bench curves`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload_parts import Curves
from sevkit.cli.bench.common import DIRECTORY, provenance_of, rule_options, rules_from, samples_in, write_figures
from sevkit.cli.output import reporting
from sevkit.result import Result


@click.command("curves")
@click.argument("results", type=DIRECTORY)
@click.option("--figures", type=DIRECTORY, help="Write each curve as SVG there, and as PDF where rsvg-convert is.")
@rule_options
@reporting
def command(results: Path, figures: Path | None, **options: Any) -> Result[Curves]:
    """Say how the cost of a mode changes along each sweep in RESULTS, and test whether it does.

    `sevkit bench run --sweep vcpus=1,2,4 --output RESULTS` measures a sweep.
    """
    from sevkit.bench import breakdown
    from sevkit.bench.analysis import sweeps
    from sevkit.bench.analysis.compare import arms_of
    from sevkit.render import bench_parts

    rules = rules_from(options)
    samples, errors = samples_in([results])
    table = arms_of(samples, all_metrics=rules.all_metrics)
    rows = [breakdown.curve(found) for found in sweeps.curves(table, rules)]
    data: Curves = {"provenance": provenance_of(samples), "curves": rows}
    if figures is not None:
        data["figures"] = write_figures(bench_parts.figures((), rows), figures)
    return Result("bench curves", data, errors=errors, human=_print)


def _print(data: Curves) -> Iterator[str]:
    from sevkit.render import bench_parts

    yield f"provenance: {', '.join(data['provenance'])}; 95 % intervals in brackets"
    yield from bench_parts.curves(data["curves"])
    yield from (f"figure: {name}" for name in data.get("figures", ()))
