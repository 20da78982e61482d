"""`sevkit bench reproduce`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload import BuildRow, Reproduced, ReproducePlan
from sevkit.cli.bench import run
from sevkit.cli.bench.common import FILE, MODE, campaign_options, write_text
from sevkit.cli.bench.progress import Line
from sevkit.cli.output import json_wanted, reporting
from sevkit.errors import ExitCode, UsageError
from sevkit.paths import cache_path
from sevkit.result import Result


@click.command("reproduce")
@click.argument("article", type=click.Choice(["study"]))
@click.option("--small", is_flag=True, help="A few files of each program, short runs: minutes in guests without KVM.")
@click.option(
    "--as-published", is_flag=True, help="The study's own commands with their mistakes, once, not interleaved."
)
@campaign_options
@click.option("--html", type=FILE, help="Write the report as one HTML page.")
@click.option("--mode", "modes", type=MODE, multiple=True, help="These modes, instead of nosev and the strongest here.")
@click.option("--workload", "workloads", multiple=True, help="These workloads, or @family, instead of all.")
@click.option("--sweep", multiple=True, help="Other guests than the study's: vcpus=4, memory_mib=8192; repeatable.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the order of workloads.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, built and measured, and do nothing.")
@reporting
def command(article: str, **options: Any) -> Result[Reproduced] | Result[ReproducePlan]:
    """Measure the workloads of the published study in guests, and put each row beside the study's number.

    What it compiles comes from Debian's source packages, checked by SHA-256. Kill it at any moment and give the same
    command again: it goes on where it stopped.
    """
    from sevkit.bench import reproduce, suite
    from sevkit.bench.campaign import directory as campaign

    del article
    small, output = options.pop("small"), options["output"]
    if small and options["as_published"]:
        raise UsageError(
            "--small and --as-published exclude each other",
            hint="the study's own commands need its own guests: 1 GiB files, 16 GB of memory",
        )
    profile = reproduce.PROFILES[small]
    options["workloads"] = reproduce.narrowed(suite.profile(profile), options["workloads"])
    line = Line(quiet=json_wanted())
    prepared = campaign.prepare(run.wish_from({**run.defaults(), **options, "profile_name": profile}), line.say)
    if options["dry_run"]:
        campaign.check(prepared)
        return Result("bench reproduce", _plan(prepared), human=_print_plan)
    outcome = run.measure(prepared, output, line)
    return _result(outcome, prepared, output, options["html"])


def _result(outcome: Any, prepared: Any, output: Path, html: Path | None) -> Result[Reproduced]:
    from sevkit.bench import report as reports
    from sevkit.bench import reproduce
    from sevkit.bench.analysis.comparison import Rules

    data, errors = run.measured(outcome, prepared, output)
    code = ExitCode.GUEST if errors else ExitCode.DONE
    if not outcome.samples:
        return Result("bench reproduce", None, exit_code=code, errors=errors)
    report = reports.of_directory(output, Rules())
    rows = reproduce.rows(prepared.plan, report.comparisons, outcome.failures, outcome.skipped)
    if html is not None:
        from sevkit.render import bench_html

        shown = [row.as_dict() for row in rows]
        write_text(html, bench_html.render(reproduce.with_study(report, prepared.plan, rows), shown))
    full: Reproduced = {
        **data,
        "rows": [row.as_dict() for row in rows],
        "notes": reproduce.notes(prepared.plan),
        "html": None if html is None else str(html),
    }
    return Result("bench reproduce", full, exit_code=code, errors=errors).shown_as(_print)


def _plan(prepared: Any) -> ReproducePlan:
    from sevkit.bench import reproduce
    from sevkit.bench.campaign import room
    from sevkit.guest import sources
    from sevkit.qemu import overlay

    images = room.to_build(prepared.plan)
    fetched = sources.missing() if any(name.startswith("study") for name in images) else []
    return {
        **run.plan_data(prepared),
        "to_fetch": [{"file": s.file, "sha256": s.sha256, "size": s.size} for s in fetched],
        "to_build": images,
        "builds": [_build(name) for name in images],
        "written_mib": max(config.guests * room.written_mib(prepared.plan, config) for config in prepared.plan.configs),
        "written_to": str(overlay.folder()),
        "notes": reproduce.notes(prepared.plan),
    }


def _build(name: str) -> BuildRow:
    from sevkit.bench.campaign import room
    from sevkit.guest.image import parts

    cost = room.COSTS[parts(name)[0]]
    return {
        "image": name,
        "packages_mib": cost.packages_mib,
        "building_mib": cost.building_mib,
        "kept_mib": cost.kept_mib,
        "seconds": cost.seconds,
    }


def _print_plan(data: ReproducePlan) -> Iterator[str]:
    from sevkit.bench.campaign.estimate import span

    for source in data["to_fetch"]:
        yield f"fetch {source['file']}, {source['size'] >> 20} MiB, SHA-256 {source['sha256']}"
    for build in data["builds"]:
        yield (
            f"build the image {build['image']}, once: fetches {build['packages_mib']} MiB of packages, takes about "
            f"{span(build['seconds'])} on two CPUs (not in the time below), {_gb(build['building_mib'])} while it is "
            f"built, {_gb(build['kept_mib'])} afterwards, in {cache_path()}"
        )
    yield from run.print_plan(data)
    if data["written_mib"]:
        written = _gb(data["written_mib"])
        yield f"  a boot writes up to {written} to its root disk, kept in {data['written_to']} until it ends"
    yield from _notes(data["notes"])


def _gb(mib: int) -> str:
    return f"{mib / 1024:.1f} GiB"


def _notes(notes: list[str]) -> Iterator[str]:
    if notes:
        yield "not as in the study:"
    for note in notes:
        yield f"  {note}"


def _print(data: Reproduced) -> Iterator[str]:
    from sevkit.render import bench_tables

    yield from run.print_head(data)
    yield "\n" + bench_tables.beside_study(data["rows"])
    yield "\n" + " ".join(data["summary"])
    yield from _notes(data["notes"])
    yield f"\nresults: {data['output']}" + (f", report: {data['html']}" if data["html"] else "")
