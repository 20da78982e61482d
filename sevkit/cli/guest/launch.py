"""``sevkit guest launch``."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from sevkit import processes
from sevkit.cli.guest.options import (
    guest_options,
    make_spec,
    media_options,
    real_hypervisor_option,
    refuse_idle,
    storage_options,
)
from sevkit.cli.output import json_wanted, reporting
from sevkit.cli.progress import progress
from sevkit.cli.sizes import SECONDS
from sevkit.errors import UsageError
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor.payload import GuestRow, Launched, LaunchPlan
from sevkit.hypervisor.protocols import Guest
from sevkit.result import Result
from sevkit.vocabulary import Mode


@click.command()
@click.option("--mode", type=click.Choice(list(map(str, Mode))), default="nosev", show_default=True)
@click.option("--name", default="guest", show_default=True, help="The guest's name; with --count: NAME-1, NAME-2, …")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="Launch that many at once.")
@click.option("--detach", is_flag=True, help="Leave the guest running when this command ends.")
@click.option(
    "--timeout",
    type=SECONDS,
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="Limit for the start of a guest.",
)
@click.option("--dry-run", is_flag=True, help="Print the command line and launch nothing.")
@click.option(
    "--emit", type=click.Choice(["libvirt-xml"]), help="Print the guest as a domain for virsh; launch nothing."
)
@real_hypervisor_option
@guest_options
@storage_options
@media_options
@reporting
def launch(
    mode: str,
    name: str,
    count: int,
    detach: bool,
    timeout: float,
    dry_run: bool,
    emit: str | None,
    hypervisor: str,
    **options: Any,
) -> Result[Launched] | Result[LaunchPlan]:
    """Launch guests and wait until they answer.

    Without --detach the guests run until Ctrl-C, and die with this command however it ends.
    """
    from sevkit.hypervisor import select

    refuse_idle(Mode(mode), options)
    if count > 1 and options["disk"]:
        raise UsageError("several guests cannot share one --disk", hint="leave --disk out: each gets a scratch disk")
    names = [name] if count == 1 else [f"{name}-{i + 1}" for i in range(count)]
    specs = [make_spec(each, Mode(mode), options) for each in names]
    if emit:
        return _domains(specs, hypervisor)
    if dry_run:
        return plan("guest launch", specs, hypervisor)
    with progress(f"launching {', '.join(names)}") as say:
        choice = select.choose(hypervisor, Mode(mode), say, real=True)
        started = time.monotonic()
        guests = choice.hypervisor.launch_many(specs, detach=detach, timeout=timeout)
        seconds = time.monotonic() - started
    data: Launched = {
        "guests": [describe(guest) for guest in guests],
        "hypervisor": {
            "name": choice.hypervisor.name,
            "reason": choice.reason,
            "passed_over": list(choice.passed_over),
        },
        "seconds": round(seconds, 3),
    }
    if detach:
        return Result("guest launch", data, human=_show)
    click.get_current_context().find_root().call_on_close(lambda: _stop(guests))  # also if this command fails
    return Result("guest launch", data, human=_show, then=lambda: _stay(guests))


def plan(command: str, specs: Sequence[GuestSpec], hypervisor: str) -> Result[LaunchPlan]:
    """What a launch would run here; for a mode that nothing here runs, what QEMU would run on a host with SEV."""
    from sevkit.hypervisor import select

    chosen, able = select.planned(hypervisor, specs[0])
    lines = [list(chosen.command_line(spec)) for spec in specs]
    data: LaunchPlan = {
        "command_lines": lines,
        "dry_run": True,
        "hypervisor": chosen.name,
        "runs_here": able.available,
        "reason": able.reason,
    }
    return Result(command, data, human=_show_plan)


def _domains(specs: Sequence[GuestSpec], hypervisor: str) -> Result[LaunchPlan]:
    """The guests as libvirt's domains."""
    from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor

    if hypervisor not in ("auto", "qemu"):
        raise UsageError(f"--emit does not go with --hypervisor {hypervisor}", hint="libvirt runs QEMU")
    found = plan("guest launch", specs, "qemu")
    assert found.data is not None
    found.data["domains"] = [QemuHypervisor().domain(spec) for spec in specs]
    return found.shown_as(lambda data: iter(data["domains"]))


def _show_plan(data: LaunchPlan) -> Iterator[str]:
    if not data["runs_here"]:
        click.echo(f"note: this would not run here: {data['reason']}", err=True)
    for line in data["command_lines"]:
        yield processes.pasteable(line)


def _stay(guests: Sequence[Guest]) -> None:
    """Keep guests until they end or the user ends this command."""
    if not json_wanted():
        click.echo("running until Ctrl-C (use --detach to leave it running)", err=True)
    while any(guest.alive() for guest in guests):
        time.sleep(0.2)


def _stop(guests: Sequence[Guest]) -> None:
    for guest in guests:
        guest.stop()


def describe(guest: Guest) -> GuestRow:
    """A running guest as JSON values."""
    return {
        "name": guest.name,
        "mode": str(guest.spec.mode),
        "provenance": str(guest.provenance),
        "accel": guest.accel,
        "pid": guest.pid,
        "image": guest.spec.image,
        "storage": str(guest.spec.storage.kind),
        "memory_mib": guest.spec.memory_mib,
        "vcpus": guest.spec.vcpus,
        "confounds": list(guest.confounds),
        "notes": list(guest.notes),
        "command_line": list(guest.command_line),
    }


def _show(data: Launched) -> Iterator[str]:
    for guest in data["guests"]:
        yield (f"{guest['name']}: {guest['mode']}, {guest['provenance']} ({guest['accel']}), VMM is PID {guest['pid']}")
        for note in guest["notes"]:
            yield f"  note: {note}"
        for confound in guest["confounds"]:
            yield f"  differs from nosev: {confound}"
    chosen = data["hypervisor"]
    for reason in chosen["passed_over"]:
        yield f"  passed over {reason}"
    why = f" ({chosen['reason']})" if chosen["reason"] != chosen["name"] else ""
    yield f"up in {data['seconds']:.1f} s on {chosen['name']}{why}"
