"""`sevkit bench import`."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.bench.payload import Imported
from sevkit.cli.bench.common import DIRECTORY, MODE, PROVENANCE
from sevkit.cli.output import reporting
from sevkit.result import Result


@click.command("import")
@click.argument("directory", type=DIRECTORY)
@click.option("--output", "-o", type=DIRECTORY, required=True, help="The results directory to make.")
@click.option("--mode", type=MODE, help="The mode, where the names do not say it.")
@click.option("--storage", help="The storage, where the names do not say it.")
@click.option("--workload", help="The workload, instead of what the names say.")
@click.option(
    "--provenance",
    type=PROVENANCE,
    help="Where they were measured. Default: published (measured by others).",
)
@reporting
def command(
    directory: Path,
    output: Path,
    mode: str | None,
    storage: str | None,
    workload: str | None,
    provenance: str | None,
) -> Result[Imported]:
    """Take over results of fio, hyperfine, pyperf and others, and the published study's tables from DIRECTORY.

    Names like iops_randread-nvme-sev.json say workload, storage and mode; iops_randread-nvme-sev-2.json is a second
    run, …-boot2 a second boot.
    """
    from sevkit.bench.imports import files as imports
    from sevkit.bench.imports import write
    from sevkit.vocabulary import Mode, Provenance

    origin = Provenance(provenance) if provenance else Provenance.PUBLISHED
    given = imports.Given(Mode(mode) if mode else None, storage, workload, origin)
    found = imports.read_folder(directory, given)
    write.imported(output, found, folder=directory, given=given)
    data: Imported = {
        "output": str(output),
        "samples": len(found.samples),
        "files": found.files,
        "skipped": [{"file": name, "reason": reason} for name, reason in found.skipped],
        "workloads": sorted({sample.workload for sample in found.samples}),
        "modes": sorted({str(sample.mode) for sample in found.samples}),
        "provenance": str(origin),
    }
    return Result("bench import", data, human=lambda data: _print(data, said=provenance is not None))


def _print(data: Imported, *, said: bool) -> Iterator[str]:
    yield f"{data['samples']} samples from {len(data['files'])} files in {data['output']}"
    yield f"modes: {', '.join(data['modes'])} (provenance: {data['provenance']})"
    if not said:
        yield "note: taken as published by others; if they are yours, give --provenance (it is on every figure)"
    for entry in data["skipped"]:
        yield f"left out: {entry['file']}: {entry['reason']}"
