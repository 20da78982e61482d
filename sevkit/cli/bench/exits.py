"""`sevkit bench exits`."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.bench.payload import Exits
from sevkit.cli.bench.common import DIRECTORY, damage, provenance_of
from sevkit.cli.output import reporting
from sevkit.errors import BadInputError
from sevkit.result import Result


@click.command("exits")
@click.argument("folder", metavar="RESULTS", type=DIRECTORY)
@reporting
def command(folder: Path) -> Result[Exits]:
    """Count the VM exits of each workload in RESULTS by exit reason, as the hypervisor counted them.

    KVM's counters need root; the emulator counts for encrypted guests. The cost of one exit is in the exit-* workloads.
    """
    from sevkit.bench import results
    from sevkit.bench.analysis.exits import exits

    campaign = results.read(folder)
    rows = exits(campaign.samples)
    if not rows:
        raise BadInputError(
            f"{folder} holds no counters of a hypervisor",
            hint="measure guests with KVM as root, or encrypted guests in the emulator",
        )
    data: Exits = {"provenance": provenance_of(campaign.samples), "rows": rows}
    errors = damage(folder, campaign)
    doubts = {at.standing.doubt for at in campaign.boots.values()} - {""}
    errors += [BadInputError(doubt, hint=f"see `sevkit bench verify {folder}`") for doubt in sorted(doubts)]
    return Result("bench exits", data, errors=errors, human=_print)


def _print(data: Exits) -> Iterator[str]:
    from sevkit import cleantext as clean

    yield f"provenance: {', '.join(data['provenance'])}; counts per sample, and those of the command that starts it"
    for row in data["rows"]:
        conditions = [f"{key} {value}" for key, value in row["conditions"].items()]
        name = " · ".join(filter(None, (row["workload"], row["storage"], *conditions)))
        yield f"{clean.line(name)}, {clean.line(row['arm'])} ({row['samples']} samples of {row['seconds']:.3g} s)"
        for reason, count in sorted(row["counts"].items(), key=lambda item: -item[1]["mean"]):
            reach = f"{count['least']} to {count['most']}"
            yield f"  {clean.line(reason):<24} {count['mean']:>12,.1f}  ({reach}; command {count['command']:.1f})"
