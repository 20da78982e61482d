"""What a host can do if it can write to the RMP: forge a page's entry, read or change the page, restore the entry."""

from collections.abc import Callable

from sevkit.attacks.labs import model_lab
from sevkit.attacks.notebook import Notebook, Observation
from sevkit.model.launch import Launched
from sevkit.model.rmp import ENTRY_SIZE
from sevkit.model.rmp_entry import RmpEntry

_RICH, _POOR = b"balance: 100    ", b"balance:   0    "


def replay(note: Notebook, guest: Launched, weakness: str) -> Observation:
    """Replay a page of the guest under a forged entry; ``weakness`` names what lets the host write to the table."""
    platform, place = guest.platform, guest.spa(model_lab.DATA)
    guest.vm.write(model_lab.DATA, _RICH)
    old, check = _as_owner(guest, lambda: platform.host_read(place, 16))
    note.host("The host forges the RMP entry, copies the page as its own, puts the entry back.", check or old)
    guest.vm.write(model_lab.DATA, _POOR)
    note.guest("The guest pays: the balance is 0 now.")
    _, again = _as_owner(guest, lambda: platform.host_write(place, old or b""))
    note.host("It does the same again, and writes the old bytes back.", again or old)
    seen, fault = model_lab.attempt(lambda: guest.vm.read(model_lab.DATA, 16))
    note.guest("The guest reads its balance.", seen or fault)
    if seen == _RICH:
        return note.works(weakness, "The past is back: the RMP says what the host wants it to say.")
    return note.stopped(check or again or fault or "unknown", "The table is the firmware's alone.")


def _as_owner(guest: Launched, action: Callable[[], bytes | None]) -> tuple[bytes | None, str]:
    """Do something while a forged entry says that the page belongs to the hypervisor; then restore the true entry."""
    platform = guest.platform
    assert platform.rmp is not None
    entry = platform.rmp.entry_address(guest.spa(model_lab.DATA))
    true_entry = platform.host_read(entry, ENTRY_SIZE)
    _, check = model_lab.attempt(lambda: platform.host_write(entry, RmpEntry().pack()))
    done, refused = model_lab.attempt(action)
    model_lab.attempt(lambda: platform.host_write(entry, true_entry))
    platform.flush_tlbs()
    return done, check or refused
