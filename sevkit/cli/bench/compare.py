"""`sevkit bench compare`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload import Comparisons
from sevkit.cli.bench.common import DIRECTORY, FILE, provenance_of, rule_options, rules_from, samples_in, write_text
from sevkit.cli.output import reporting
from sevkit.errors import BadInputError, UsageError
from sevkit.result import Result


@click.command("compare")
@click.argument("results", type=DIRECTORY, nargs=-1)
@click.option("--published", "with_study", is_flag=True, help="The published study's numbers, instead of RESULTS.")
@click.option("--first-job-only", is_flag=True, help="With --published: read fio as the article did, jobs[0] alone.")
@click.option(
    "--format", "form", type=click.Choice(["text", "markdown", "csv", "latex"]), default="text", show_default=True
)
@click.option("--output", "-o", type=FILE, help="Write the table to a file.")
@rule_options
@reporting
def command(
    results: tuple[Path, ...],
    with_study: bool,
    first_job_only: bool,
    form: str,
    output: Path | None,
    **options: Any,
) -> Result[Comparisons]:
    """Compare the modes in RESULTS (made by `bench run` or `bench import`; several directories are joined)."""
    from sevkit.bench.analysis.compare import compare
    from sevkit.render.bench_tables import FORMATS

    rules = rules_from(options)
    samples, errors = _samples(results, with_study, first_job_only)
    comparisons = [c.as_dict() for c in compare(samples, rules)]
    if not comparisons:
        measured = any(s.mode is rules.baseline for s in samples)
        raise BadInputError(
            f"nothing to compare: no workload was measured both in mode {rules.baseline} and in another",
            hint="measure another mode as well" if measured else "give --baseline, or measure the baseline as well",
        )
    data: Comparisons = {"comparisons": comparisons, "provenance": provenance_of(samples)}
    table = FORMATS[form](comparisons)
    if form == "text":
        table = f"provenance: {', '.join(data['provenance'])}\n{table}"
    if output is not None:
        write_text(output, table)

    def human(data: Comparisons) -> Iterator[str]:
        del data
        if output is None:
            yield table

    return Result("bench compare", data, errors=errors, human=human)


def _samples(results: tuple[Path, ...], with_study: bool, first_job_only: bool) -> tuple[list[Any], list[Any]]:
    from sevkit.bench.analysis import published

    if with_study is bool(results):
        raise UsageError("give RESULTS or --published", hint="`sevkit bench import DIR --output R` makes RESULTS")
    if with_study:
        return published.samples(first_job_only=first_job_only), []
    return samples_in(results)
