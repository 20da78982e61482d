"""`sevkit bench selftest`."""

from collections.abc import Iterator

import click

from sevkit.bench.payload import Selftest
from sevkit.cli.output import reporting
from sevkit.errors import ExitCode
from sevkit.result import Result


@click.command("selftest")
@click.option(
    "--trials",
    type=click.IntRange(100, 100_000),
    default=2000,
    show_default=True,
    help="Simulated campaigns of each shape of noise.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides the simulated values.")
@reporting
def command(trials: int, seed: int) -> Result[Selftest]:
    """Try the statistics on simulated campaigns whose truth is known.

    For each shape of noise: how often the 95 % interval holds the truth (93 to 97 %), how often a campaign without any
    effect gets a verdict (at most 5 %), and how often the change printed as detectable is found (within 5 points of the
    80 % printed). Exit status 1 when a shape is outside of these bounds.
    """
    from sevkit.bench.analysis import selftest

    shapes = selftest.run(trials, seed)
    outside = [row["shape"] for row in shapes if not selftest.holds(row)]
    data: Selftest = {"trials": trials, "seed": seed, "shapes": shapes, "outside": outside}
    return Result("bench selftest", data, exit_code=ExitCode.NO if outside else ExitCode.DONE, human=_print)


def _print(data: Selftest) -> Iterator[str]:
    yield f"{data['trials']} simulated campaigns per shape"
    yield f"{'shape':36} {'boots':>5} {'rows':>4} {'coverage':>9} {'false verdicts':>14} {'power (printed)':>16}"
    for row in data["shapes"]:
        power = f"{row['power']:.1%} ({row['power_printed']:.0%})"
        told = f"{row['shape']:36} {row['boots']:5} {row['rows']:4} {row['coverage']:9.1%}"
        yield f"{told} {row['family_wise_error']:14.1%} {power:>16}"
    if data["outside"]:
        yield f"outside of the bounds: {', '.join(data['outside'])}"
