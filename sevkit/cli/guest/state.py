"""``sevkit guest suspend``, ``resume`` and ``reboot``."""

from collections.abc import Iterator

import click

from sevkit.cli.guest.launch import describe
from sevkit.cli.output import reporting
from sevkit.cli.progress import progress
from sevkit.cli.sizes import SECONDS
from sevkit.errors import UnsupportedModeError
from sevkit.hypervisor.payload import GuestState, Rebooted
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
@click.option("--timeout", type=SECONDS, default=120.0, show_default=True, metavar="SECONDS", help="To come up.")
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


def _in_qemu(name: str, done: str) -> QemuGuest:
    from sevkit.hypervisor import select

    guest = select.attach(name)
    if not isinstance(guest, QemuGuest):
        raise UnsupportedModeError(f"guests of the mock cannot be {done}", hint="launch one with --hypervisor qemu")
    return guest


def _show(data: GuestState) -> Iterator[str]:
    yield f"{data['guest']}: {data['state']}"


def _show_rebooted(data: Rebooted) -> Iterator[str]:
    yield f"{data['guest']['name']}: up again, VMM is PID {data['guest']['pid']}"
