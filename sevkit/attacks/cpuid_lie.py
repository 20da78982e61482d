"""CPUID lies: the host answers that there is no encryption, and the guest writes its secrets as plaintext."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

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
)
