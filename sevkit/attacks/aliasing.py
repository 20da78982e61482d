"""Aliasing: the host maps two guest addresses to one system page (AMD: "memory aliasing")."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import PATIENCE, Account, find, write
from sevkit.attacks.labs.guest_lab import GuestLab, ended_by_fault, unless_fault
from sevkit.vocabulary import ENCRYPTED, Level, Mode


def model(note: Notebook) -> Observation:
    """Map two guest addresses to one page and let the guest write through one of them."""
    note.setup("The guest keeps a limit at 0x2000 and fills a buffer at 0x3000: two pages, as far as it knows.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    guest.vm.write(model_lab.DATA, b"limit: 10       ")
    note.predict("If both addresses lead to one page, what the guest writes to the buffer changes the limit.")

    note.host(
        f"The host maps {model_lab.OTHER:#x} to the system page of {model_lab.DATA:#x} as well: two names, one page."
    )
    guest.vm.remap(model_lab.OTHER, guest.spa(model_lab.DATA))
    _, check = model_lab.attempt(lambda: guest.vm.write(model_lab.OTHER, b"limit: 99999    "))
    note.guest("The guest fills its buffer.", check or "done")
    limit = guest.vm.read(model_lab.DATA, 16)
    note.guest("Then it reads its limit.", limit)
    if limit == b"limit: 99999    ":
        return note.works("host-owned-npt", "One write changed two guest addresses.")
    return note.stopped(check or "unknown", "An RMP entry has one guest address: the second one faults.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Map the buffer of a real guest to the page that holds its limit, so that this page has two guest addresses."""
    note.setup(
        f"A real Linux guest ({lab.guest.spec.mode}) keeps a limit in one file and fills a buffer, another file."
    )
    note.predict("If both addresses lead to one page, what the guest writes to the buffer changes the limit.")
    limit, buffer = Account(lab, "limit"), Account(lab, "buffer")
    of_limit, of_buffer = map(lab.host.gpa, find(lab, note, [limit, buffer]))
    write(lab, {limit: 10, buffer: 0})
    note.host(f"The host maps {of_buffer:#x} to the page of {of_limit:#x} as well: two names, one page.")
    lab.host.command("alias", gpa=of_limit, to_gpa=of_buffer)
    seen = unless_fault(lab, lambda: _after(lab, buffer, limit))
    if seen is None:
        return ended_by_fault(lab, note, "An RMP entry has one guest address: the second one faults.")
    lab.host.command("restore")
    note.guest(f"The guest fills its buffer, then reads its limit: {seen}")
    if seen == buffer.record(99):
        return note.works("host-owned-npt", "One write changed two guest addresses.")
    return note.stopped("unknown", "The limit is what the guest wrote.")


def _after(lab: GuestLab, buffer: Account, limit: Account) -> str:
    """The limit as the guest reads it after it has written to the buffer."""
    write(lab, {buffer: 99}, timeout=PATIENCE)
    return limit.balance(timeout=PATIENCE)


_WORKS = Expectation(Outcome.WORKS, "the host's nested tables are believed")
ATTACK = Attack(
    name="aliasing",
    title="Aliasing of two guest addresses",
    aim=Aim.INTEGRITY,
    summary="The host maps two guest addresses to one system page, so that a write to one changes the other.",
    preconditions=("the host writes the nested page tables",),
    generations="EPYC 7001 to 7002 (SEV, SEV-ES)",
    sources=(Source(model_lab.WHITEPAPER),),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-gpa: one guest address for each page")},
    mitigations=(),
    mitigated=None,
    falls_with="rmp-gpa",
    claim="memory-aliasing",
    model=model,
    guest=guest,
    ends_guest="an access to the second address faults under SEV-SNP, and the guest stops",
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=ENCRYPTED,
)
