"""`sevkit bench published`."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.bench.payload import Published
from sevkit.cli.bench.common import DIRECTORY
from sevkit.cli.output import reporting
from sevkit.result import Result


@click.command("published")
@click.option("--output", "-o", type=DIRECTORY, help="Write the study's values as a results directory.")
@click.option("--first-job-only", is_flag=True, help="Read fio as the article did: jobs[0] alone.")
@reporting
def command(output: Path | None, first_job_only: bool) -> Result[Published]:
    """Show the published study's ratios, the ratios over all fio jobs, and numbers of other publications."""
    from sevkit.bench.analysis import published
    from sevkit.bench.imports import write

    every = published.ratios()
    data: Published = {
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
    return Result("bench published", data, human=_print)


def _print(data: Published) -> Iterator[str]:
    yield f"{data['about']['title']}\nsource: {data['about']['source']}\n{data['about']['note']}"
    yield ""
    yield f"{'workload':16} {'storage':8} {'ratio (article)':>15} {'over all jobs':>14}  better"
    for row in data["tables"]:
        yield (
            f"{row['workload']:16} {row['storage']:8} {row['ratio']:15.3f} {row['ratio_all_jobs']:14.3f}"
            f"  {row['direction'].split()[0]}"
        )
    yield "\nknown mistakes:"
    for line in data["about"]["known_mistakes"]:
        yield f"  - {line}"
    yield "\nfigures of others:"
    for entry in data["others"]:
        yield f"  - {entry['family']}: {entry['figure']} ({entry['configuration']}; {entry['source']})"
    if "output" in data:
        yield f"\n{data['samples']} samples written to {data['output']}"
