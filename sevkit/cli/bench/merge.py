"""`sevkit bench merge`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload import Merged
from sevkit.cli.bench.common import DIRECTORY, damage, rule_options, rules_from
from sevkit.cli.output import reporting
from sevkit.errors import BadInputError, UsageError
from sevkit.result import Result


@click.command("merge")
@click.argument("folders", metavar="[RESULTS]...", type=DIRECTORY, nargs=-1)
@rule_options
@reporting
def command(folders: tuple[Path, ...], **options: Any) -> Result[Merged]:
    """Summarise RESULTS of several hosts: the mean ratio over hosts, and how much hosts differ (random effects).

    Each directory is compared by itself first; what is refused there is left out here, and named.
    """
    from sevkit.bench import results, twins
    from sevkit.bench.analysis.compare import compare
    from sevkit.bench.analysis.merge import merge

    if len({path.resolve() for path in folders}) < 2:
        raise UsageError("give the results of two hosts or more", hint="`sevkit bench compare R` is for one")
    rules = rules_from(options)
    campaigns = {str(path): results.read(path) for path in folders}
    twins.check_works({name: campaign.header for name, campaign in campaigns.items()})
    twins.check({name: campaign.samples for name, campaign in campaigns.items()})
    twins.check_hosts({name: campaign.boots.values() for name, campaign in campaigns.items()})
    kinds = sorted({str(s.at.provenance) for campaign in campaigns.values() for s in campaign.samples})
    if len(kinds) > 1 and not rules.mixed_provenance:
        raise BadInputError(
            f"results of provenance {' and '.join(kinds)} are not summarised together", hint="see --mixed-provenance"
        )
    rows = merge({name: compare(campaign.samples, rules) for name, campaign in campaigns.items()})
    if not rows:
        raise BadInputError("no row was measured on two hosts or more", hint="measure the same workloads and modes")
    errors = [error for name, campaign in campaigns.items() for error in damage(name, campaign)]
    data: Merged = {"provenance": ", ".join(kinds), "rows": rows}
    return Result("bench merge", data, errors=errors, human=_print)


def _print(data: Merged) -> Iterator[str]:
    yield f"provenance: {data['provenance']}"
    for row in data["rows"]:
        where = f" on {row['storage']}" if row["storage"] else ""
        conditions = "".join(f", {key} {value}" for key, value in row["conditions"].items())
        name = f"{row['workload']}{where}{conditions}, {row['mode']} ({row['metric']}, {row['direction']})"
        if row["ratio"] is None or row["interval"] is None or row["between_hosts"] is None:
            yield f"{name}: no summary"
        else:
            low, high = row["interval"]
            told = f"{row['ratio']:.3f} [{low:.3f}, {high:.3f}] over {len(row['hosts'])} hosts"
            yield f"{name}: {told}; hosts differ by {row['between_hosts']:.1%} (standard deviation)"
        for host, reason in row["left_out"].items():
            yield f"  left out: {host}: {reason}"
