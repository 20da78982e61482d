"""Physical aliasing: a memory module that lies about its size gives every cell a second address (BadRAM).

The host writes to the second address, whose RMP entry says that the page belongs to the host; but the bytes are stored
in the guest's page. The RMP checks addresses, and cannot see that two addresses share one cell.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.memory import SparseDram
from sevkit.model.platform import Platform
from sevkit.model.psp import Refused
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Install a module with ghost addresses, and replay a page of the guest through them."""
    platform = model_lab.machine(note)
    half = platform.dram.size // 2
    _lie(platform, half)
    note.setup("The memory module's SPD chip says twice the size that it has: the top address bit does nothing.")
    note.predict("What the host may not write at one address it may write at the other: replay works again.")
    try:
        guest = model_lab.guest(note, platform)
    except Refused as refusal:
        note.host(f"{refusal.command} writes a mark and finds it at a second address.", refusal.status.name)
        return note.stopped(refusal.check, "The firmware refuses to start SEV-SNP on memory that aliases.")
    guest.vm.write(model_lab.DATA, b"balance: 100    ")
    place = guest.spa(model_lab.DATA)
    ghost = place ^ half
    old = platform.host_read(ghost, 16)
    note.host("The host copies the guest's block, by its second address (so that hiding hides nothing).", old)
    guest.vm.write(model_lab.DATA, b"balance:   0    ")
    note.guest("The guest pays: the balance is 0 now.")
    _, direct = model_lab.attempt(lambda: platform.host_write(place, old))
    note.host("It writes it back at the page's own address.", direct or "done")
    _, check = model_lab.attempt(lambda: platform.host_write(ghost, old))
    note.host(f"It writes it back at the ghost address {ghost:#x}.", check or "done")
    seen, fault = model_lab.attempt(lambda: guest.vm.read(model_lab.DATA, 16))
    note.guest("The guest reads its balance.", seen or fault)
    if seen == b"balance: 100    ":
        return note.works("dram-alias", "The past is back: the RMP guards addresses, and this cell has two.")
    return note.stopped(check or direct or "unknown", "The alias did not reach the guest's page.")


def _lie(platform: Platform, half: int) -> None:
    assert isinstance(platform.dram, SparseDram)
    platform.dram.alias = lambda spa: spa % half


_WORKS = Expectation(Outcome.WORKS, "memory has no integrity protection anyway")
ATTACK = Attack(
    name="badram",
    title="Physical aliasing below the RMP (BadRAM)",
    aim=Aim.INTEGRITY,
    summary="A memory module with ghost addresses lets the host write guest pages behind the RMP's back.",
    preconditions=("the SPD of a memory module can be rewritten: physical access once, or by software",),
    generations="EPYC 7003 and 9004 before the firmware of AMD-SB-3015",
    sources=(
        Source(
            "De Meulemeester et al., BadRAM: Practical Memory Aliasing Attacks on TEEs, IEEE S&P 2025",
            "https://badram.eu",
        ),
        Source("AMD-SB-3015, CVE-2024-21944"),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "dram-alias: the RMP guards addresses, not cells")},
    mitigations=(Mitigation.ALIAS_CHECK,),
    mitigated=Expectation(Outcome.STOPPED, "alias-check: SNP_INIT refuses (ALIAS_CHECK_COMPLETE in reports)"),
    claim="active-dram",
    model=model,
    breaks_claim=Source("CVE-2024-21944, AMD-SB-3015"),
)
