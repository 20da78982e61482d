"""TLB poisoning: translations of one process on one vCPU serve a process on another vCPU of the same guest.

The host owes a flush when it runs another vCPU of a guest on a core, since entries of the TLB carry only the ASID.
A host that leaves it out lends the address space of an attacker inside the guest to a victim inside the guest.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model import paging
from sevkit.model.tlb import Core
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_FLAG = 0x2000  # the virtual address that both processes use
_ATTACKERS_TABLES, _VICTIMS_TABLES = 0x8000, 0xC000
_PROGRAM = """
again:
    movi rbx, 0x2000
    load rcx, [rbx]         ; 1: the password was right
    vmmcall
    jmp again
"""
_GRANTED, _DENIED = (value.to_bytes(8, "little") for value in (1, 0))


def model(note: Notebook) -> Observation:
    """Run a victim's vCPU on the core that still holds the translations of an attacker's vCPU."""
    note.setup("Two processes of one guest on two vCPUs: one address, two page tables, two pages behind it.")
    attackers = paging.tables(_ATTACKERS_TABLES, _pages(model_lab.DATA))
    victims = paging.tables(_VICTIMS_TABLES, _pages(model_lab.OTHER))
    guest = model_lab.guest(
        note,
        model_lab.machine(note),
        program=_PROGRAM,
        contents={**attackers, **victims, model_lab.DATA: _GRANTED, model_lab.OTHER: _DENIED},
        registers=[{"cr3": _ATTACKERS_TABLES}, {"cr3": _VICTIMS_TABLES}],
        pages=16,
    )
    note.predict("If the core keeps the first vCPU's translations, the second one reads the first one's page.")

    alone = Vcpu(guest.vcpu(1), core=Core())
    alone.run()
    note.guest("On a core of its own the victim's process reads its flag.", f"rcx={alone.registers['rcx']}")
    core = Core()
    attacker, victim = (Vcpu(guest.vcpu(number), core=core) for number in (0, 1))
    attacker.run()
    note.guest("The attacker's process reads its own page.", f"rcx={attacker.registers['rcx']}")
    note.host("The host runs the other vCPU on the same core and asks for no flush.")
    ending = victim.run()
    seen = victim.registers["rcx"]
    note.guest("The victim's process reads its flag.", f"{ending.reason} rcx={seen}")
    if (alone.registers["rcx"], seen) == (0, 1):
        return note.works("tlb-flush-by-host", "The victim took the attacker's page for its own: the login succeeds.")
    check = core.flushes[-1] if core.flushes and seen == 0 else "unknown"
    return note.stopped(check, "VMRUN found that another vCPU had run here and flushed: the host is not asked.")


def _pages(flag: int) -> dict[int, tuple[int, bool]]:
    """What a process maps: the program that both share, and its own page at the one address."""
    return {model_lab.CODE: (model_lab.CODE, True), _FLAG: (flag, True)}


_WORKS = Expectation(Outcome.WORKS, "the host decides about flushes, and entries carry only the ASID")
ATTACK = Attack(
    name="tlb-poisoning",
    title="TLB poisoning between vCPUs",
    aim=Aim.INTEGRITY,
    summary="The host leaves a flush out, and one vCPU of a guest uses the translations of another.",
    preconditions=("the attacker runs a process in the guest", "two vCPUs of the guest take turns on one core"),
    generations="SEV and SEV-ES; not SEV-SNP",
    sources=(
        Source("Li et al., TLB Poisoning Attacks on AMD Secure Encrypted Virtualization, ACSAC 2021 (secondary)"),
        Source("CVE-2021-26340, AMD-SB-1023 (secondary)"),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.STOPPED, "tlb-id: VMRUN flushes by itself when another vCPU ran there")},
    model=model,
)
