"""`sevkit bench list`."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.bench.payload import Listing
from sevkit.cli.bench.common import FILE
from sevkit.cli.output import reporting
from sevkit.result import Result


@click.command("list")
@click.option("--suite", "suite_file", type=FILE, help="A TOML file with workloads of your own.")
@reporting
def command(suite_file: Path | None) -> Result[Listing]:
    """List the profiles, and the workloads with unit, direction and what they need."""
    from sevkit.bench import suite

    workloads = suite.workloads(suite_file)
    data: Listing = {
        "profiles": [
            {"name": p.name, "title": p.title, "workloads": [w.name for w in suite.chosen(p, workloads)]}
            for p in suite.profiles().values()
        ],
        "workloads": [
            {
                "name": w.name,
                "family": w.family,
                "title": w.title,
                "metric": w.metric,
                "unit": w.unit,
                "direction": str(w.direction),
                "needs": list(w.needs),
                "where": list(w.where),
                "image": w.image,
                "disk": w.disk,
            }
            for w in sorted(workloads.values(), key=lambda w: w.family)
        ],
    }
    return Result("bench list", data, human=_print)


def _print(data: Listing) -> Iterator[str]:
    yield "profiles:"
    for profile in data["profiles"]:
        yield f"  {profile['name']:9} {profile['title']}"
    family = ""
    for workload in data["workloads"]:
        if workload["family"] != family:
            family = workload["family"]
            yield f"\n{family}:"
        needs = f" (needs {', '.join(workload['needs'])})" if workload["needs"] else ""
        yield (f"  {workload['name']:20} {workload['unit']:7} {workload['direction']:17} {workload['title']}{needs}")
