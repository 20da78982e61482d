"""``sevkit report vectors``: test reports for any verifier."""

import contextlib
import time
from pathlib import Path

import click

from sevkit.attestation.payload import VectorSet
from sevkit.cli.output import reporting
from sevkit.errors import UsageError
from sevkit.render import attestation as text
from sevkit.result import Result


@click.command("vectors")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--bits",
    type=click.Choice(["2048", "3072", "4096"]),
    default="4096",
    show_default=True,
    help="Size of the issuers' RSA keys; AMD's have 4096.",
)
@click.option("--serve", is_flag=True, help="Then serve a key distribution service on loopback until interrupted.")
@click.option("--port", type=click.IntRange(0, 65535), help="Its port, with --serve.")
@click.option("--dry-run", is_flag=True, help="Only say how many vectors there would be.")
@reporting
def vectors(folder: Path, bits: str, serve: bool, port: int | None, dry_run: bool) -> Result[VectorSet]:
    """Write thousands of valid and subtly wrong reports with their certificates, and the verdict that each deserves.

    They are signed under a root of sevkit's own. manifest.json names for each the report, the certificates, the root,
    the time, the policy, the verdict, and the check that has to notice what is wrong.
    """
    from collections import Counter

    from sevkit.attestation.vectors import cases, kds, store
    from sevkit.attestation.vectors.authority import make_keys
    from sevkit.attestation.vectors.bench import Bench

    if port is not None and not serve:
        raise UsageError("--port needs --serve")
    if not dry_run and folder.exists() and any(folder.iterdir()) and not (folder / store.MANIFEST).exists():
        raise UsageError(f"{folder} is not empty, and holds no vectors", hint="give a new folder")
    keys = make_keys(2048 if dry_run else int(bits))
    made = cases.vectors(keys)
    counts = Counter(v.verdict.value for v in made) if dry_run else store.write(folder, made, keys)
    data: VectorSet = {"folder": str(folder), "count": counts.total(), "verdicts": dict(counts), "url": None}
    if not serve or dry_run:
        return Result("report vectors", data, human=text.vectors)
    service = kds.Service(Bench(product, keys) for product in cases.PRODUCTS)
    stack = contextlib.ExitStack()
    data["url"] = stack.enter_context(kds.serving(service, port or 0))
    for bench in service.benches.values():
        (folder / f"served-{bench.product}.bin").write_bytes(bench.chip.report(5))

    def until_interrupted() -> None:
        with stack:
            while True:
                time.sleep(3600)

    return Result("report vectors", data, human=text.vectors, then=until_interrupted)
