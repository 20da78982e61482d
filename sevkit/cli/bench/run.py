"""`sevkit bench run`."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload import Measured, RunPlan, Skipped
from sevkit.cli.bench.common import FILE, MODE, campaign_options
from sevkit.cli.bench.progress import Line
from sevkit.cli.output import interrupted, json_wanted, reporting
from sevkit.errors import ExitCode, GuestError, SevkitError, UsageError
from sevkit.result import Result

_MOST_BLOCKS = 12


@click.command("run")
@click.option("--profile", "-p", "profile_name", default="smoke", show_default=True, help="A profile, or a TOML file.")
@campaign_options
@click.option(
    "--where",
    type=click.Choice(["guest", "host", "mock"]),
    default="guest",
    show_default=True,
    help="In guests, on this host, or invented by the mock.",
)
@click.option("--mode", "modes", type=MODE, multiple=True, help="Measure these modes only, and fail where one cannot.")
@click.option("--workload", "workloads", multiple=True, help="These workloads, or @family, instead of the profile's.")
@click.option("--suite", "suite_file", type=FILE, help="A TOML file with workloads of your own.")
@click.option("--warmups", type=click.IntRange(0, 100), help="Warm-ups of a workload in each boot.")
@click.option("--target", type=click.FloatRange(0.0001, 1), help="Stop when each interval is this narrow (0.02 = 2 %).")
@click.option("--sweep", multiple=True, help="vcpus=1,2,4, memory_mib=…, storage=…, cache=…, guests=…; repeatable.")
@click.option("--factor", "factors", multiple=True, help="Switch one thing of the reference guest; repeatable.")
@click.option("--as-published", is_flag=True, help="Keep the study's mistakes, to compare with its numbers.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides the order of workloads, and the mock.")
@click.option("--scheduler", help="Run on a cluster: the address of a Dask scheduler.")
@click.option("--resource", default="", help="With --scheduler: the Dask resource of which each block takes one.")
@click.option("--mock-delay", type=click.FloatRange(0), default=0.0, hidden=True)
@click.option("--dry-run", is_flag=True, help="Show the plan and measure nothing.")
@reporting
def command(**options: Any) -> Result[Measured] | Result[RunPlan]:
    """Measure a profile's workloads in every mode that this machine can run, and keep every value.

    Kill it at any moment and give the same command again: it goes on where it stopped.
    """
    from sevkit.bench.campaign import directory as campaign
    from sevkit.bench.campaign import estimate

    wish = wish_from(options)
    line = Line(quiet=json_wanted())
    prepared = campaign.prepare(wish, line.say)
    if options["dry_run"]:
        if options["scheduler"]:
            estimate.check_budget(prepared.plan)
        else:
            campaign.check(prepared)
        return Result("bench run", plan_data(prepared), human=print_plan)
    outcome = measure(prepared, options["output"], line, lambda: _scheduler(options, prepared))
    data, errors = measured(outcome, prepared, options["output"])
    code = ExitCode.GUEST if errors else ExitCode.DONE
    return Result("bench run", data if outcome.samples else None, exit_code=code, errors=errors).shown_as(_print)


def measure(prepared: Any, output: Path | None, line: Line, connect: Callable[[], Any] = lambda: None) -> Any:
    """Run or resume a campaign, with its progress on the terminal; raises UsageError without an output directory.

    ``connect`` returns the scheduler of a cluster, or None: then the campaign runs here.
    """
    from sevkit.bench.campaign import directory as campaign

    if output is None:
        raise UsageError("--output is missing", hint="give a directory for the results: --output results")
    scheduler = connect()
    try:
        return campaign.measure(prepared, output, scheduler=scheduler, report=line.show)
    except KeyboardInterrupt:
        raise interrupted(f"what was measured is kept in {output}: the same command goes on") from None
    finally:
        line.end()
        if scheduler is not None:
            scheduler.close()


def defaults() -> dict[str, Any]:
    """The options of `bench run` as they are when none is given."""
    return command.make_context("run", []).params


def wish_from(options: dict[str, Any]) -> Any:
    """The request that the options make: a profile with changes."""
    from sevkit.bench import suite
    from sevkit.bench.campaign import directory as campaign
    from sevkit.vocabulary import Mode

    names = ("boots", "most_boots", "iterations", "warmups", "target", "budget", "seconds", "control")
    changes: dict[str, Any] = {name: options[name] for name in names}
    changes |= campaign.sweeps(options["sweep"])
    base = suite.profile(options["profile_name"])
    if options["factors"]:
        changes["factors"] = tuple(options["factors"])
    if options["workloads"]:
        changes["workloads"] = tuple(options["workloads"])
    if options["boots"] and not options["most_boots"]:
        changes["most_boots"] = max(options["boots"], base.most_boots)
    if options["as_published"]:
        _only_as_published(options)
        changes["as_published"] = True
    if options["most_boots"] and not options["boots"]:
        changes["boots"] = min(base.boots, options["most_boots"])
    return campaign.Wish(
        profile=suite.changed(base, **changes),
        where=options["where"],
        hypervisor=options["hypervisor"],
        modes=tuple(Mode(mode) for mode in options["modes"]),
        suite_file=options["suite_file"],
        seed=options["seed"],
        pin=options["pin"],
        timeout=options["timeout"],
        mock_delay=options["mock_delay"],
    )


def _only_as_published(options: dict[str, Any]) -> None:
    """Refuse options that `--as-published` would not honour: the study's settings are what it keeps."""
    names = ("boots", "most_boots", "iterations", "warmups", "control")
    given = [f"--{name.replace('_', '-')}" for name in names if options[name] not in (None, False)]
    given += ["--sweep cache"] if any(sweep.startswith("cache=") for sweep in options["sweep"]) else []
    if given:
        raise UsageError(
            f"--as-published has the study's boots, samples, warm-ups, control and cache: {given[0]} has no effect",
            hint=f"leave {' and '.join(given)} out, or --as-published",
        )


def _scheduler(options: dict[str, Any], prepared: Any) -> Any:
    if not options["scheduler"]:
        return None
    from sevkit.bench.campaign.cluster import Dask

    return Dask(options["scheduler"], prepared.setup, options["resource"])


def plan_data(prepared: Any) -> RunPlan:
    """What --dry-run shows."""
    from sevkit.bench.campaign import estimate

    plan = prepared.plan
    order = [str(slot.identity) for slot in estimate.slots(plan, plan.profile.boots)]
    return {
        "profile": plan.profile.name,
        "where": plan.where,
        "arms": [arm.name for arm in plan.arms],
        "missing_modes": dict(prepared.missing_modes),
        "configs": [{"label": c.label, "workloads": [w.name for w in c.workloads]} for c in plan.configs],
        "boots": [plan.profile.boots, plan.profile.most_boots],
        "iterations": plan.profile.iterations,
        "warmups": plan.profile.warmups,
        "budget_seconds": plan.profile.budget,
        "target": plan.profile.target,
        "kvm": prepared.executor.tried(),
        "estimated_seconds": round(estimate.seconds(plan, plan.profile.boots), 1),
        "order": order,
    }


def print_plan(data: RunPlan) -> Iterator[str]:
    """The plan for people."""
    from sevkit.bench.campaign import estimate

    yield f"profile {data['profile']} in {data['where']}: arms {', '.join(data['arms'])}"
    for mode, reason in data["missing_modes"].items():
        yield f"  not here: {mode}: {reason}"
    for config in data["configs"]:
        yield f"  {config['label']}: {', '.join(config['workloads'])}"
    least, most = data["boots"]
    yield (
        f"  {least} to {most} boots of each arm; samples per boot and workload: {data['iterations']}, "
        f"warm-ups: {data['warmups']} (none of what warms itself); "
        f"until every interval is within {data['target']:.1%}, at most {data['budget_seconds']:.0f} s"
    )
    blocks = [list(group) for _, group in itertools.groupby(data["order"], lambda slot: slot.rpartition(".")[0])]
    duration = estimate.span(data["estimated_seconds"])
    if data["kvm"] is None:
        yield "  nobody has tried KVM since this machine booted; where it runs no guests, all takes ten times as long"
    yield f"  the first {least} boots of each arm take about {duration}, in this order:"
    for block in blocks[:_MOST_BLOCKS]:
        yield "    " + " ".join(block)
    if len(blocks) > _MOST_BLOCKS:
        yield f"    … and {len(blocks) - _MOST_BLOCKS} more rounds (--json has them all)"


def measured(outcome: Any, prepared: Any, output: Path) -> tuple[Measured, list[SevkitError]]:
    """What was measured, and an error for each failure."""
    from sevkit.bench import results
    from sevkit.bench.analysis.compare import compare
    from sevkit.bench.report import summarise
    from sevkit.bench.sentence import sentences

    errors: list[SevkitError] = [
        GuestError(f"{failure.cell}: {failure.message}", detail=failure.detail) for failure in outcome.failures
    ]
    compared = compare(results.read(output).samples)  # as `compare` and `report` will read it
    return {
        "output": str(output),
        "stopped": outcome.reason,
        "rounds": outcome.rounds,
        "samples": sum(not s.warmup for s in outcome.samples),
        "warmups": sum(s.warmup for s in outcome.samples),
        "modes": sorted({str(s.mode) for s in outcome.samples}),
        "missing_modes": dict(prepared.missing_modes),
        "provenance": sorted({str(s.at.provenance) for s in outcome.samples}),
        "skipped": _skipped(outcome.skipped),
        "unfinished": _unfinished(outcome, prepared.plan),
        "comparisons": [c.as_dict() for c in compared],
        "summary": summarise(compared),
        "sentences": sentences(compared),
    }, errors


def _unfinished(outcome: Any, plan: Any) -> list[str]:
    """The configurations that the budget left without the boots that a verdict needs."""
    from sevkit.bench.model import SlotId

    boots: dict[int, set[int]] = {}
    for sample in outcome.samples:
        slot = SlotId.parse(sample.at.identity)
        if slot is not None:
            boots.setdefault(slot.config, set()).add(slot.boot)
    return [c.label for c in plan.configs if len(boots.get(c.index, ())) < plan.profile.boots]


def _skipped(skipped: list[Any]) -> list[Skipped]:
    reasons = {(entry.workload, entry.reason) for entry in skipped}
    return [{"workload": workload, "reason": reason} for workload, reason in sorted(reasons)]


def _print(data: Measured) -> Iterator[str]:
    from sevkit.render import bench_tables

    yield from print_head(data)
    if data["comparisons"]:
        yield "\n" + bench_tables.text(data["comparisons"])
        yield "\n" + " ".join(data["summary"])
    yield from ["", *data["sentences"]]
    if any(row["verdict"] == "inconclusive" and not row["control"] for row in data["comparisons"]):
        more = f"--most-boots {2 * data['rounds']} and a larger --budget"
        yield f"for more verdicts: the same command with {more} goes on from here"
    yield f"\nresults: {data['output']}  (sevkit bench report {data['output']} --html report.html)"


def print_head(data: Measured) -> Iterator[str]:
    """How much was measured, and what was not."""
    from sevkit.bench.method import REASONS

    yield f"{data['samples']} samples (provenance: {', '.join(data['provenance'])}); {REASONS[data['stopped']]}"
    for mode, reason in data["missing_modes"].items():
        yield f"not measured: {mode}: {reason}"
    for entry in data["skipped"]:
        yield f"left out: {entry['workload']}: {entry['reason']}"
    for label in data["unfinished"]:
        yield f"too few boots within the budget: {label} (give the command again with a larger --budget)"
