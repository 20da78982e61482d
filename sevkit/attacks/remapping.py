"""Remapping: the host maps one guest address to another page of the same guest (AMD: "memory re-mapping").

No ciphertext moves, only the nested page tables change. So the address tweak is no obstacle, and the page decrypts
correctly under the guest's key. SEVered made a guest's own web server send its secrets this way.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import PATIENCE, Account, find, write
from sevkit.attacks.labs.guest_lab import GuestLab, ended_by_fault, unless_fault
from sevkit.model.launch import Launched
from sevkit.vocabulary import ENCRYPTED, Level, Mode


def model(note: Notebook) -> Observation:
    """Point the guest address of a public page at the page that holds a secret."""
    note.setup("A web server in the guest serves a public page (0x3000); a secret lies in another page (0x2000).")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    guest.vm.write(model_lab.DATA, model_lab.SECRET)
    guest.vm.write(model_lab.OTHER, b"<h1>welcome</h1>")
    note.predict("After the change the server reads its public page and gets the secret, decrypted by its own key.")

    note.host(
        f"The host maps guest address {model_lab.OTHER:#x} to the system page of {model_lab.DATA:#x} "
        "in the nested page tables."
    )
    guest.vm.remap(model_lab.OTHER, guest.spa(model_lab.DATA))
    served, check = model_lab.attempt(lambda: guest.vm.read(model_lab.OTHER, 16))
    note.guest("The server reads its public page and sends it.", served or check)
    if served == model_lab.SECRET:
        return note.works("host-owned-npt", "The guest hands out its own secret: the host alone says where pages are.")
    note.verdict("The RMP knows under which guest address each page belongs: the access faults.")

    note.host("The host tries the other way: a fresh page with rubbish of its own, assigned to that guest address.")
    fresh = _fresh_page(guest)
    guest.vm.remap(model_lab.OTHER, fresh)
    served, again = model_lab.attempt(lambda: guest.vm.read(model_lab.OTHER, 16))
    note.guest("The server reads its public page.", served or again)
    if served is not None:
        return note.works("unvalidated-page", "The guest reads a page that it never accepted.")
    return note.stopped(check or "unknown", f"The guest has not validated it: #VC ({again}).", second_check=again)


def _fresh_page(guest: Launched) -> int:
    platform = guest.platform
    fresh = platform.allocate()
    if platform.rmp is not None:
        platform.rmp.rmpupdate(fresh, assigned=True, asid=guest.vm.asid, gpa=model_lab.OTHER)
    return fresh


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Point the guest address of a real guest's public file at the page of its secret one."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}) keeps a secret file and a public one, a page each.")
    note.predict("After the change the guest reads its public file and gets the secret, decrypted by its own key.")
    secret, public = Account(lab, "secret"), Account(lab, "public")
    of_secret, of_public = map(lab.host.gpa, find(lab, note, [secret, public]))
    write(lab, {secret: 4711, public: 100})
    note.host(f"The host maps guest address {of_public:#x} to the page of {of_secret:#x} in its nested page table.")
    lab.host.command("remap", gpa=of_public, to_gpa=of_secret)
    served = unless_fault(lab, lambda: public.balance(timeout=PATIENCE))
    if served is None:
        return ended_by_fault(lab, note, "An RMP entry names one guest address for its page: the access faults.")
    lab.host.command("restore")
    note.guest(f"The guest reads its public file: {served}")
    if served == secret.record(4711):
        return note.works("host-owned-npt", "The guest hands out its own secret: the host alone says where pages are.")
    return note.stopped("unknown", "The guest reads what it wrote.")


_WORKS = Expectation(Outcome.WORKS, "the host's nested tables are believed")
ATTACK = Attack(
    name="remapping",
    title="Remapping of a guest address",
    aim=Aim.INTEGRITY,
    summary="The host moves a guest address to another page of the same guest, which decrypts correctly there.",
    preconditions=("the host writes the nested page tables",),
    generations="EPYC 7001 to 7002 (SEV, SEV-ES)",
    sources=(
        Source(
            "Morbitzer et al., SEVered: Subverting AMD's Virtual Machine Encryption, EuroSec 2018",
            "https://arxiv.org/abs/1805.09604",
        ),
        Source(model_lab.WHITEPAPER),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-gpa: the page belongs to another guest address")},
    mitigations=(),
    mitigated=None,
    falls_with="rmp-gpa",
    claim="memory-remapping",
    model=model,
    guest=guest,
    ends_guest="an access to the moved address faults under SEV-SNP, and the guest stops",
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=ENCRYPTED,
)
