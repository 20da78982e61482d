"""Double PVALIDATE: a careless guest validates a guest address a second time, and so loses the RMP's guarantee.

The guest must never validate one guest address twice. The hardware cannot enforce this rule, because it does not
remember which page an address was mapped to before.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import PATIENCE, Account, find
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import GuestError, HypervisorError, InconclusiveError
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Level, Mode

_PROGRAM = """
    movi rbx, 0x2000
    movi rax, 1
    store [rbx], rax        ; locked = 1
    vmmcall
    load rcx, [rbx]         ; is it still locked?
    hlt
"""


def model(note: Notebook) -> Observation:
    """Map a fresh page at an address that the guest uses, and see whether the guest validates it."""
    careless = not note.has(Mitigation.VALIDATE_ONCE)
    kind = "validates again whenever a page turns out invalid" if careless else "remembers what it has validated"
    note.setup(f"A guest keeps a lock (1) at 0x2000. Its #VC handler {kind}.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    cpu = Vcpu(guest, careless=careless)
    cpu.run()
    note.predict("A page of the host's choice under the same address loses the lock, if the guest validates it.")

    fresh = platform.allocate()
    rmp = platform.rmp
    assert rmp is not None
    platform.host_write(fresh, bytes(4096))
    rmp.rmpupdate(fresh, assigned=True, asid=guest.vm.asid, gpa=model_lab.DATA)
    guest.vm.remap(model_lab.DATA, fresh)
    note.host(
        f"The host assigns a fresh page to guest address {model_lab.DATA:#x} and maps it there.",
        f"system page {fresh:#x}",
    )
    ending = cpu.run()
    lock = cpu.registers.get("rcx")
    note.guest("The guest goes on and looks at its lock.", f"{ending.reason} {ending.check} rcx={lock:#x}")
    if ending.reason == "HLT" and lock != 1:
        return note.works("validated-twice", "The guest accepted the page: its lock is gone, no check was violated.")
    return note.stopped(ending.check or "unknown", "The guest takes the invalid page for an attack and stops.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Replace a page of a real guest by a fresh one: Linux validates each address only once."""
    note.setup("A real Linux guest (sev-snp) keeps an account in a page that it has validated.")
    note.predict("The fresh page is not validated: the access ends in #VC, and Linux does not validate it again.")
    account = Account(lab)
    place = lab.host.gpa(find(lab, note, [account])[0])
    account.set_balance(100)
    lab.host.command("replace", gpa=place)
    note.host(f"The host puts a fresh page at {place:#x}, assigned to that very address.")
    try:
        seen = account.balance(timeout=PATIENCE)
    except (GuestError, HypervisorError):
        seen = ""
    words = lab.host.vmm_log()
    note.guest("The guest's access ends; the VMM's last words:", words[-1] if words else None)
    if words and "asks for its end" in words[-1]:
        return note.stopped("rmp-validated", "Linux gets #VC for a page that is not validated, and ends itself.")
    if seen and seen != account.record(100):
        return note.works("double-validate", "The guest believes a page that it never accepted.")
    raise InconclusiveError("the guest did not end by itself, and reads what it wrote")


_NO_RMP = Expectation(Outcome.NOT_APPLICABLE, "there is no PVALIDATE before SEV-SNP (see remapping)")
ATTACK = Attack(
    name="double-validate",
    title="Double PVALIDATE by a careless guest",
    aim=Aim.INTEGRITY,
    summary="The host swaps a page for a fresh one; a guest that validates it again believes the new content.",
    preconditions=("the guest validates an address twice", "the host controls RMPUPDATE and the nested tables"),
    generations="guests that do not track validated pages",
    sources=(Source(f"{model_lab.WHITEPAPER}: a guest must not validate a guest address twice"),),
    expected=dict.fromkeys(Mode, _NO_RMP)
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "the careless guest validates again")},
    mitigations=(Mitigation.VALIDATE_ONCE,),
    mitigated=Expectation(Outcome.STOPPED, "rmp-validated: the guest stops at #VC 0x404"),
    claim="memory-remapping",
    model=model,
    guest=guest,
    ends_guest="Linux ends itself when a page is not validated",
    guest_levels=frozenset({Level.EMULATOR}),
    differs={(Level.EMULATOR, Mode.SEV_SNP): Expectation(Outcome.STOPPED, "rmp-validated: Linux validates once")},
    breaks_claim=Source(f"{model_lab.WHITEPAPER}: the claim holds for guests that validate each address once"),
)
