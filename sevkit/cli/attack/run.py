"""``sevkit attack run``."""

import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevkit.attacks.payload import PlanData, PlannedRow, RunData
from sevkit.cli import outfile
from sevkit.cli.attack.narrate import narrator
from sevkit.cli.attack.options import (
    attacks_option,
    level_option,
    mitigations_option,
    parse_mitigations,
    parse_modes,
    width,
)
from sevkit.cli.guest.options import guest_options, hypervisor_option, make_spec
from sevkit.cli.output import colour, json_wanted, reporting
from sevkit.cli.progress import progress
from sevkit.cli.refuse import given
from sevkit.cli.sizes import SECONDS
from sevkit.errors import UsageError
from sevkit.result import Result
from sevkit.vocabulary import Level, Mode

if TYPE_CHECKING:
    from sevkit.attacks.experiment import Attack
    from sevkit.attacks.plan import Planned, Target
    from sevkit.attacks.runner import Run

# Options that only some attacks or levels support; the others refuse them.
_OF_CAPTURES = ("capture", "keep", "as_published")
_OF_GUESTS = (
    *("image", "memory_mib", "vcpus", "accel", "cpu", "firmware", "qemu_machine", "cmdline"),
    *("kernel", "initrd"),
    *("kernel_hashes", "timeout"),
)
# What also makes sense for a guest that runs already: everything else describes a launch, or the model.
_OF_RUNNING = (
    *("name", "guest_name", "folder", "capture", "keep", "report", "operator", "ticket", "sign"),
    *("dry_run", "as_published", "step"),
)


@click.command()
@click.argument("name")
@click.option(
    "--modes", metavar="LIST", help="Comma-separated modes, or strongest. Default: nosev, and sev where it runs."
)
@click.option("--guest", "guest_name", metavar="NAME", help="Attack a guest that is running (see `guest list`).")
@level_option
@click.option("--capture", type=click.Choice(["gcore", "live"]), default="gcore", show_default=True)
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep the core files (secret data!) here."
)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write an HTML report.")
@click.option("--operator", help="With --report: the name of who ran it.")
@click.option("--ticket", help="With --report: the task that it was run for.")
@click.option(
    "--sign",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="KEY",
    help="With --report: sign it with this Ed25519 key (PEM or OpenSSH), beside it as .sig.",
)
@click.option(
    "--timeout",
    type=SECONDS,
    default=180.0,
    show_default=True,
    metavar="SECONDS",
    help="Limit for the start of a guest.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be performed and launched, and start nothing.")
@click.option("--as-published", is_flag=True, help="Print the published commands, and what each printed here.")
@click.option("--step", is_flag=True, help="Explain each step while the attack runs, and wait for a key.")
@click.option("--seed", default=1, show_default=True, help="Seed of the software model.")
@mitigations_option
@hypervisor_option
@guest_options
@attacks_option
@reporting
def run(name: str, modes: str | None, folder: Path | None, **options: Any) -> Result[RunData] | Result[PlanData]:
    """Run an attack in each mode: on a real guest where that works, else in the software model.

    Every result says at which level it was obtained. An option that cannot be honoured is refused at once.

    Exits 0 when each mode behaves as expected, 1 when one does not, 3 when the outcome is inconclusive.
    """
    from sevkit import attacks
    from sevkit.attacks import runner

    attack = attacks.find(name, folder)
    report = outfile.checked(options["report"], "--report")
    target = _target(attack, options)
    if report is None:
        _none_given(("operator", "ticket", "sign"), "it goes with --report")
    _check_key(report, options["sign"])
    with progress("choosing") as say:
        planned = _planned(attack, modes, target, options, say)
        _refuse(attack, planned)
        if options["dry_run"]:
            return Result("attack run", _plan_data(attack, planned, options), human=_show_plan)
        if target.keep is not None:
            target.keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        started, began = datetime.now(UTC), time.monotonic()
        tell = narrator(attack) if options["step"] else None
        runs = list(runner.run_planned(attack, planned, target, say, tell))
    data = runner.as_data(attack, runs, started, time.monotonic() - began)
    show = _show_published if options["as_published"] else functools.partial(_show, told=options["step"])
    unwritten = None if report is None else outfile.failure(lambda: _write_report(report, data, runs, options))
    if unwritten is not None:
        return Result("attack run", data, unwritten.exit_code, [unwritten], human=show)
    code = runner.exit_code(runs)
    return Result("attack run", data, code, human=lambda data: [*show(data), *_written(report, options["sign"])])


def _target(attack: "Attack", options: dict[str, Any]) -> "Target":
    """What the options ask for."""
    from sevkit.attacks.plan import Target

    if options["step"] and json_wanted():
        raise UsageError("--step tells the story to people, --json to programs: give one of them")
    if options["as_published"] and (json_wanted() or options["step"]):
        raise UsageError("--as-published tells the story in its own way: give it without --json and --step")
    if options["initrd"] is not None:
        raise UsageError("an attack needs the agent, which an initrd of your own lacks", hint="--kernel alone keeps it")
    if options["keep"] is not None and options["capture"] == "live":
        raise UsageError("--keep keeps cores, and --capture live makes none", hint="--capture gcore")
    return Target(
        level=None if options["level"] == "auto" else Level(options["level"]),
        hypervisor=None if options["hypervisor"] == "auto" else options["hypervisor"],
        spec=make_spec(attack.name, Mode.NOSEV, {**options, "sev_options": "", "policy_text": None}),
        capture=options["capture"],
        keep=options["keep"],
        timeout=options["timeout"],
        mitigations=parse_mitigations(options["mitigations"]),
        seed=options["seed"],
        sev_options=options["sev_options"],
        policy=options["policy_text"],
        as_published=options["as_published"],
    )


def _planned(
    attack: "Attack", modes: str | None, target: "Target", options: dict[str, Any], say: Callable[[str], None]
) -> "list[Planned]":
    """How each mode will be performed: on a guest that runs already, or on what is chosen for it."""
    from sevkit.attacks import plan, running

    if options["guest_name"] is not None:
        others = [each for each in click.get_current_context().params if each not in _OF_RUNNING]
        _none_given(others, "the guest runs already, as it is")
        return [running.plan(attack, options["guest_name"])]
    if modes is None:
        chosen = plan.usual_modes(attack, target)
    else:
        chosen = parse_modes(modes, lambda: plan.strongest(attack, target))
    return plan.plan(attack, chosen, target, only_show=options["dry_run"], progress=say)


def _check_key(report: Path | None, key: Path | None) -> None:
    """Refuse a key that cannot sign, and a signature that cannot be written, before anything is started."""
    from sevkit import evidence

    if key is not None and report is not None:
        evidence.signing_key(key)
        outfile.checked(report.with_name(report.name + evidence.SIGNATURE), "--sign")


def _refuse(attack: "Attack", planned: "Sequence[Planned]") -> None:
    """Refuse options that were given and that nothing in this run would honour."""
    on_guest = any(each.spec is not None for each in planned)
    if not (attack.captures and on_guest):
        _none_given(_OF_CAPTURES, f"{attack.name} captures no memory here")
    if not on_guest:
        _none_given(_OF_GUESTS, f"{attack.name} is performed in the software model here, without a guest")
    encrypted = [each for each in planned if each.spec is not None and each.mode is not Mode.NOSEV]
    if not encrypted:
        _none_given(("policy_text", "kernel_hashes"), "no guest with encryption is launched here")
    if all(each.level is Level.MODEL for each in encrypted):
        _none_given(("sev_options", "platform_seed"), "no guest of QEMU's with encryption is launched here")
    if all(each.spec is not None for each in planned):
        _none_given(("mitigations", "seed"), "no mode is performed in the software model here")


def _none_given(names: Sequence[str], why: str) -> None:
    for parameter in given(click.get_current_context()):
        if parameter.name in names:
            raise UsageError(f"{parameter.opts[0]} has no effect: {why}")


def _plan_data(attack: "Attack", planned: "Sequence[Planned]", options: dict[str, Any]) -> PlanData:
    """What would be done, as JSON values."""
    files = {"report": options["report"], "keep": options["keep"]}
    return {
        "attack": attack.name,
        "dry_run": True,
        "plan": [_step(each) for each in planned],
        "capture": options["capture"] if attack.captures and any(each.spec for each in planned) else None,
        "would_write": {name: str(path) for name, path in files.items() if path is not None},
    }


def _step(planned: "Planned") -> PlannedRow:
    launched = planned.choice is not None and planned.spec is not None
    return {
        "mode": str(planned.mode),
        "level": str(planned.level),
        "form": str(planned.form),
        "hypervisor": planned.hypervisor.name if launched else None,
        "command_line": _command_line(planned),
        "guest": None if planned.guest is None else planned.guest.name,
    }


def _command_line(planned: "Planned") -> list[str] | None:
    """Of the guest that would be launched, or that runs; None without a guest."""
    if planned.guest is not None:
        return list(planned.guest.command_line)
    return list(planned.hypervisor.command_line(planned.spec)) if planned.choice and planned.spec else None


def _show_plan(data: Mapping[str, Any]) -> Iterator[str]:
    from sevkit import processes

    for step in data["plan"]:
        where = f"the running guest {step['guest']}" if step["guest"] else step["hypervisor"]
        yield f"# {step['mode']}: level {step['level']}, {where or 'the software model, no guest'}"
        if step["command_line"]:
            yield processes.pasteable(step["command_line"])
    for option, path in data["would_write"].items():
        yield f"# --{option} would write {path}"


def _show(data: Mapping[str, Any], *, told: bool) -> Iterator[str]:
    from sevkit.render import attack as renderer

    yield renderer.text(data, colour=colour(sys.stdout), width=width(120), told=told)


def _show_published(data: Mapping[str, Any]) -> Iterator[str]:
    from sevkit.render import leak

    yield from leak.as_published(data)


def _written(report: Path | None, signed: Path | None) -> list[str]:
    if report is None:
        return []
    return [f"report: {report}", *([] if signed is None else [f"signature: {report}.sig"])]


def _write_report(path: Path, data: Mapping[str, Any], runs: "Sequence[Run]", options: dict[str, Any]) -> None:
    from sevkit import evidence, processes
    from sevkit.render import attack as renderer
    from sevkit.render.evidence import attach

    command = processes.pasteable(["sevkit", *sys.argv[1:]])
    html = renderer.html({**data, "command": command}, [each.observation.picture for each in runs])
    found = evidence.record({**data, "command": command}, operator=options["operator"], ticket=options["ticket"])
    outfile.write(path, attach(html, found))
    if options["sign"] is not None:
        evidence.sign(path, evidence.signing_key(options["sign"]))
