"""`sevkit bench published`."""

from pathlib import Path
from typing import Any

import click

from sevkit.cli.bench.common import DIRECTORY
from sevkit.cli.output import finish, json_option
from sevkit.result import Result


@click.command("published")
@click.option("--output", "-o", type=DIRECTORY, help="Write the study's values as a results directory.")
@click.option("--first-job-only", is_flag=True, help="Read fio as the article did: jobs[0] alone.")
@json_option
def command(output: Path | None, first_job_only: bool, as_json: bool) -> None:
    """Show the published study's ratio tables beside what all jobs give, and figures of others."""
    from sevkit.bench.analysis import published
    from sevkit.bench.imports import write

    every = published.ratios()
    data: dict[str, Any] = {
        "about": published.about(),
        "tables": [
            {
                "table": row.table,
                "workload": row.workload,
                "storage": row.storage,
                "metric": row.metric,
                "unit": row.unit,
                "direction": str(row.direction),
                "nosev": row.nosev,
                "sev": row.sev,
                "ratio": row.ratio,
                "ratio_all_jobs": every.get((row.workload, row.storage, row.metric)),
            }
            for row in published.article_tables()
        ],
        "others": published.others(),
    }
    if output is not None:
        data["samples"] = write.study(output, first_job_only=first_job_only)
        data["output"] = str(output)
    finish(Result("bench published", data), as_json=as_json, human=_print)


def _print(data: dict[str, Any]) -> None:
    click.echo(f"{data['about']['title']}\nsource: {data['about']['source']}\n{data['about']['note']}\n")
    click.echo(f"{'workload':16} {'storage':8} {'ratio (article)':>15} {'over all jobs':>14}  better")
    for row in data["tables"]:
        click.echo(
            f"{row['workload']:16} {row['storage']:8} {row['ratio']:15.3f} {row['ratio_all_jobs']:14.3f}"
            f"  {row['direction'].split()[0]}"
        )
    click.echo("\nknown mistakes:")
    for line in data["about"]["known_mistakes"]:
        click.echo(f"  - {line}")
    click.echo("\nfigures of others:")
    for entry in data["others"]:
        click.echo(f"  - {entry['family']}: {entry['figure']} ({entry['configuration']}; {entry['source']})")
    if "output" in data:
        click.echo(f"\n{data['samples']} samples written to {data['output']}")
