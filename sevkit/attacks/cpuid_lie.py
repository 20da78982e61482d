"""CPUID lies: the host answers that there is no encryption, and the guest writes its secrets as plaintext."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.guest import verify
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Level, Mode

_PROGRAM = """
    movi rax, -2147483617   ; 0x8000001F
    cpuid
    hlt
"""


def model(note: Notebook) -> Observation:
    """Answer CPUID 8000_001F with zeros to a guest that asks whether memory is encrypted."""
    note.setup("At boot a guest asks CPUID 8000_001F whether it has a C-bit; the host answers emulated CPUID.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    cpu = Vcpu(guest, ghcb=model_lab.SHARED)
    ending = cpu.run()
    note.predict("A guest that believes the answer leaves the C-bit clear: its memory lies in clear.")

    answer = {"rax": 0}
    note.host(f"The host answers {ending.reason} 8000_001F.", "eax = 0: no SEV")
    if note.has(Mitigation.CPUID_PAGE):
        note.guest("The guest has a CPUID page that the firmware compared with the real values: SEV is on. It stops.")
        return note.stopped("cpuid-page", "The firmware filtered the values at launch; the lie is noticed.")
    cpu.take_answer(("rax",), answer.__getitem__)
    private = cpu.registers["rax"] != 0
    secret_at = model_lab.SHARED + 0x800  # memory that the host offers as ordinary memory
    guest.vm.write(secret_at, model_lab.SECRET, private=private)
    note.guest("The guest believes it and writes its secret with the C-bit clear.")
    seen = platform.host_read(guest.spa(secret_at), 16)
    note.host("The host reads it.", seen)
    if seen == model_lab.SECRET:
        return note.works("host-answers-cpuid", "The encryption was not broken: it was never switched on.")
    return note.stopped("unknown", "The secret is not in clear.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Answer CPUID 8000_001F of a running guest with zeros, and see what its programs learn about encryption."""
    mode = lab.guest.spec.mode
    note.setup(f"In a real Linux guest ({mode}) programs ask CPUID 8000_001F whether memory is encrypted.")
    note.predict("CPUID exits to the host, which answers as it likes; the kernel of SEV-SNP has a page to look it up.")
    before = _announced(lab)
    note.guest("Before, CPUID says:", f"eax = {before:#x}")
    lab.host.command("cpuid", function=verify.SEV_LEAF, eax=0)
    note.host("From now on the host answers CPUID 8000_001F.", "eax = 0: no SEV")
    try:
        facts = verify.collect(lab.guest)
    finally:
        lab.host.command("cpuid-restore")
    if facts.leaf is None:
        raise InconclusiveError("the guest's CPUID could not be read during the attack")
    note.guest("Now CPUID says:", f"eax = {facts.leaf[0]:#x}")
    if facts.sev_status is not None:
        note.guest("The MSR SEV_STATUS, which is not the host's, still says:", f"{facts.sev_status:#x}")
    if facts.leaf[0] == 0:
        return note.works("host-answers-cpuid", "Whoever asks CPUID alone believes that memory is not encrypted.")
    if facts.leaf[0] == before:
        return note.stopped("cpuid-page", "The guest's kernel looks it up in the page that the firmware checked.")
    raise InconclusiveError(f"the guest sees neither the true value nor the host's: {facts.leaf[0]:#x}")


def _announced(lab: GuestLab) -> int:
    """EAX of CPUID 8000_001F as the guest sees it while the host tells the truth."""
    leaf = verify.collect(lab.guest).leaf
    if leaf is None or not leaf[0] & 2:
        raise InconclusiveError("CPUID does not announce SEV to this guest, or it cannot be read")
    return leaf[0]


_WORKS = Expectation(Outcome.WORKS, "the host answers CPUID")
ATTACK = Attack(
    name="cpuid-lie",
    title="CPUID lies about encryption",
    aim=Aim.CONFIDENTIALITY,
    summary="The host answers CPUID so that the guest leaves encryption off.",
    preconditions=("the guest believes CPUID and does not read the SEV_STATUS MSR",),
    generations="all; SEV-SNP guests have a CPUID page",
    sources=(
        Source(
            "Radev and Morbitzer, Exploiting Interfaces of Secure Encrypted Virtual Machines, ROOTS 2020",
            "https://arxiv.org/abs/2010.07094",
        ),
        Source("SEV-SNP firmware ABI (56860), CPUID page; APM vol. 2 section 15.34.10, SEV_STATUS MSR"),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.NOSEV: Expectation(Outcome.NOT_APPLICABLE, "there is no encryption to lie about")},
    mitigations=(Mitigation.CPUID_PAGE,),
    mitigated=Expectation(Outcome.STOPPED, "cpuid-page: values checked by the firmware"),
    claim="cpuid",
    model=model,
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    differs={(Level.EMULATOR, Mode.SEV_SNP): Expectation(Outcome.STOPPED, "cpuid-page: Linux looks into the page")},
)
