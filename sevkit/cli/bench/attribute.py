"""`sevkit bench attribute`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload_parts import Attribution
from sevkit.cli.bench.common import DIRECTORY, provenance_of, rule_options, rules_from, samples_in, write_figures
from sevkit.cli.output import reporting
from sevkit.result import Result


@click.command("attribute")
@click.argument("results", type=DIRECTORY)
@click.option("--figures", type=DIRECTORY, help="Write a chart per row as SVG there, and as PDF where rsvg-convert is.")
@rule_options
@reporting
def command(results: Path, figures: Path | None, **options: Any) -> Result[Attribution]:
    """Say what the costs in RESULTS consist of: steps that multiply to the total, and factors that change it.

    `sevkit bench run --profile attribution --output RESULTS` measures it; --factor names the factors.
    """
    from sevkit.bench import breakdown
    from sevkit.bench.analysis.attribution import attribute
    from sevkit.bench.analysis.compare import arms_of
    from sevkit.render import bench_parts

    rules = rules_from(options)
    samples, errors = samples_in([results])
    rows = [breakdown.attributed(row) for row in attribute(arms_of(samples, all_metrics=rules.all_metrics), rules)]
    data: Attribution = {"provenance": provenance_of(samples), "rows": rows}
    if figures is not None:
        data["figures"] = write_figures(bench_parts.figures(rows, ()), figures)
    return Result("bench attribute", data, errors=errors, human=_print)


def _print(data: Attribution) -> Iterator[str]:
    from sevkit.render import bench_parts

    yield f"provenance: {', '.join(data['provenance'])}; 95 % intervals in brackets"
    yield from bench_parts.attribution(data["rows"])
    yield from (f"figure: {name}" for name in data.get("figures", ()))
