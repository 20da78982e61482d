"""``sevkit guest suspend``, ``resume``, ``reboot``, ``snapshot`` and ``restore``."""

from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.cli.guest.launch import describe
from sevkit.cli.output import reporting
from sevkit.cli.progress import progress
from sevkit.cli.sizes import SECONDS
from sevkit.errors import UnsupportedModeError
from sevkit.hypervisor.payload import GuestState, Rebooted, SavedGuest
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.result import Result


@click.command()
@click.argument("name")
@reporting
def suspend(name: str) -> Result[GuestState]:
    """Hold all vCPUs of a guest; its memory stays as it is until `guest resume`."""
    _in_qemu(name, "suspended").pause()
    return Result("guest suspend", {"guest": name, "state": "suspended"}, human=_show)


@click.command()
@click.argument("name")
@reporting
def resume(name: str) -> Result[GuestState]:
    """Let a suspended guest go on."""
    _in_qemu(name, "resumed").resume()
    return Result("guest resume", {"guest": name, "state": "running"}, human=_show)


@click.command()
@click.argument("name")
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="SECONDS", help="Limit for the start."
)
@reporting
def reboot(name: str, timeout: float) -> Result[Rebooted]:
    """Stop a guest and launch it again, detached, under the same name and as it was asked for.

    Encrypted guests cannot be reset in place, since their memory and registers are sealed at launch. Scratch disks and
    what the guest wrote to the image are gone.
    """
    from sevkit.hypervisor import registry, select

    hypervisor = registry.read(name).hypervisor
    old = select.attach(name)
    spec = old.spec
    with progress(f"rebooting {name}") as say:
        new = select.make(hypervisor, say)
        old.stop()
        guest = new.launch(spec, detach=True, timeout=timeout)
    return Result("guest reboot", {"guest": describe(guest)}, human=_show_rebooted)


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--timeout", type=SECONDS, default=600.0, show_default=True, metavar="SECONDS", help="Limit for writing it."
)
@reporting
def snapshot(name: str, file: Path, timeout: float) -> Result[SavedGuest]:
    """Save a guest's memory and devices to a new file; the guest goes on.

    Only for mode nosev, and for guests without a disk: encrypted memory is sealed to its launch.
    """
    from sevkit.hypervisor import registry
    from sevkit.hypervisor.qemu import snapshot as snapshots

    guest = _in_qemu(name, "saved")
    with progress(f"saving {name}"):
        size = snapshots.save(guest, file, hypervisor=registry.read(name).hypervisor, timeout=timeout)
    data: SavedGuest = {"guest": name, "file": str(file), "bytes": size}
    return Result("guest snapshot", data, human=_show_saved)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", help="Name of the new guest. Default: the name that it had.")
@click.option(
    "--timeout", type=SECONDS, default=120.0, show_default=True, metavar="SECONDS", help="Limit for the start."
)
@reporting
def restore(file: Path, name: str | None, timeout: float) -> Result[Rebooted]:
    """Start a guest, detached, from the file of a snapshot; several may start from one file."""
    from sevkit.hypervisor.qemu import snapshot as snapshots
    from sevkit.hypervisor.qemu.emulated import emulated
    from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor

    found = snapshots.load(file)
    spec = snapshots.spec_of(found, name or found.spec["name"])
    with progress(f"restoring {spec.name}") as say:
        runner = emulated(say) if found.hypervisor == "emulated" else QemuHypervisor(progress=say)
        guest = runner.restore(spec, f"file:{file.absolute()},offset={snapshots.HEADER}", timeout=timeout)
    return Result("guest restore", {"guest": describe(guest)}, human=_show_rebooted)


def _in_qemu(name: str, done: str) -> QemuGuest:
    from sevkit.hypervisor import select

    guest = select.attach(name)
    if not isinstance(guest, QemuGuest):
        raise UnsupportedModeError(f"guests of the mock cannot be {done}", hint="launch one with --hypervisor qemu")
    return guest


def _show(data: GuestState) -> Iterator[str]:
    yield f"{data['guest']}: {data['state']}"


def _show_saved(data: SavedGuest) -> Iterator[str]:
    yield f"{data['guest']}: saved to {data['file']} ({data['bytes'] >> 20} MiB; it holds the guest's secrets)"


def _show_rebooted(data: Rebooted) -> Iterator[str]:
    yield f"{data['guest']['name']}: up again, VMM is PID {data['guest']['pid']}"
