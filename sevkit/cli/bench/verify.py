"""`sevkit bench verify`."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.bench.payload import Verified
from sevkit.cli.bench.common import DIRECTORY
from sevkit.cli.output import reporting
from sevkit.errors import ExitCode
from sevkit.result import Result


@click.command("verify")
@click.argument("results", type=DIRECTORY)
@reporting
def command(results: Path) -> Result[Verified]:
    """Check that the values in RESULTS follow from the raw outputs kept with them, and that no line was edited.

    Exit status 1 when something was changed, 3 when that cannot be known.
    """
    from sevkit.bench.verify import Finding, verify

    found = verify(results)
    data: Verified = {
        "verdict": found.finding.value,
        "reasons": found.reasons,
        "notes": found.notes,
        "samples": found.samples,
        "parsed": found.parsed,
        "timed": found.timed,
        "raw_files": found.raw_files,
        "chained": found.chained,
    }
    codes = {Finding.CHANGED: ExitCode.NO, Finding.INCONCLUSIVE: ExitCode.INCONCLUSIVE}
    return Result("bench verify", data, exit_code=codes.get(found.finding, ExitCode.DONE), human=_print)


def _print(data: Verified) -> Iterator[str]:
    yield (
        f"{data['verdict']}: {data['samples']} samples; {data['parsed']} parsed again from {data['raw_files']} files, "
        f"{data['timed']} with nothing to parse (durations, boots)"
    )
    yield f"lines chained: {'yes' if data['chained'] else 'no'}"
    yield from (f"  {reason}" for reason in (*data["reasons"], *data["notes"]))
