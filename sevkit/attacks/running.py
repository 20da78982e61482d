"""Attack a guest that runs already, one of sevkit's own: which attacks suit it, and what they leave behind.

The guest belongs to its user. So it is not stopped, none of its files is overwritten (what an attack writes into it is
named sevkit-*), and an attack that it may not survive is refused.
"""

from contextlib import suppress

from sevkit.attacks.experiment import Attack, Form
from sevkit.attacks.plan import Planned
from sevkit.errors import SevkitError, UsageError
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.protocols import Guest
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.vocabulary import Level

_OWN_GUEST = "without --guest, sevkit launches a guest for it"
# Ends the processes that keep a secret, and removes the files of all attacks; the kernel's log keeps its line.
_CLEAN = """
for file in /run/sevkit/anonymous.pid /run/sevkit/environment.pid; do
    [ -e "$file" ] || continue
    pid=$(cat "$file")
    kill -9 "$pid" $(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
done
rm -rf /run/sevkit /root/sevkit-secret /root/sevkit-key /root/sevkit-draft
rm -f {accounts}
"""
_ACCOUNTS = ("account", "bits", "limit", "buffer", "public", "secret")


def plan(attack: Attack, name: str) -> Planned:
    """The attack on the running guest called ``name``; starts nothing.

    Raises UsageError if there is no such guest, or the attack cannot be performed on it, with the reason.
    """
    guest = select.attach(name)
    mode, level = guest.spec.mode, Level.of(guest.provenance)
    why = _why_not(attack, guest, level)
    if why is not None:
        raise UsageError(f"{attack.name} cannot be performed on {name}: {why}", hint=_OWN_GUEST)
    if isinstance(guest, QemuGuest) and guest.suspended():
        raise UsageError(f"{name} is suspended", hint=f"sevkit guest resume {name}")
    choice = select.Choice(select.make(registry.read(name).hypervisor), "the guest runs there", ())
    return Planned(mode, level, Form.GUEST, choice, guest.spec, guest)


def _why_not(attack: Attack, guest: Guest, level: Level) -> str | None:
    """Why an attack cannot be performed on a guest; None if it can."""
    if attack.ends_guest is not None:
        return f"the guest might not survive it ({attack.ends_guest})"
    if attack.guest is None:
        return "it has no form for real guests"
    if level is Level.MODEL and not attack.on_mock:
        return "it needs a guest in QEMU, and this is one of the software model"
    if level is not Level.MODEL and level not in attack.guest_levels:
        return f"it needs level {' or '.join(attack.guest_levels)}, and the guest has level {level}"
    if not attack.has_guest_form(guest.spec.mode):
        return f"it has no form for real guests in mode {guest.spec.mode}"
    if not guest.spec.has_agent:
        return "the guest has no agent of sevkit's, which the experiment talks to"
    if Level.HARDWARE not in attack.guest_levels and not _has_engine(guest):
        return "the guest does not run in the emulator's QEMU, whose host it needs"
    return None


def _has_engine(guest: Guest) -> bool:
    return isinstance(guest, QemuGuest) and guest.encrypted_by_engine


def leave(guest: Guest) -> None:
    """Remove from a guest what an attack has put into it, as far as it answers."""
    if isinstance(guest, QemuGuest):
        accounts = " ".join(f"/root/sevkit-{name}" for name in _ACCOUNTS)
        with suppress(SevkitError):
            guest.run(_CLEAN.format(accounts=accounts), timeout=20)
