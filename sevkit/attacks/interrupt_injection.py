"""Malicious interrupts: the host injects an interrupt whose handler changes the guest's registers (Heckler).

Vector 0x80 is the old system call gate: its handler leaves a result in RAX, wherever the guest was.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_VECTOR = 0x80
_IDT = 0x5000
_PROGRAM = """
    movi rax, 0             ; the password is wrong
    vmmcall                 ; any exit: a page fault, a timer
    cmpi rax, 0
    jz denied
    movi rcx, 1             ; logged in
    hlt
denied:
    movi rcx, 0
    hlt
gate:
    movi rax, 38            ; what a system call returns
    iret
"""
_GATE = model_lab.CODE + 8 * 8


def model(note: Notebook) -> Observation:
    """Inject vector 0x80 between a guest's password check and its decision."""
    note.setup("A guest checks a password; its result is in RAX. Its handler for vector 0x80 writes RAX.")
    idt = bytes(_VECTOR * 8) + _GATE.to_bytes(8, "little")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM, contents={_IDT: idt}, registers={"idtr_base": _IDT})
    cpu = Vcpu(guest)
    cpu.run()
    note.predict("The handler runs as if the guest had called it: RAX is not 0 any more, and the login succeeds.")

    note.host(f"The host injects vector {_VECTOR:#x} at the next VMRUN.")
    ending = cpu.run(inject=_VECTOR)
    if ending.reason == "HLT":
        note.guest("The guest decides.", f"rax={cpu.registers['rax']} logged in={cpu.registers['rcx']}")
        if cpu.registers["rcx"] == 1:
            return note.works("any-vector", "Logged in without a password: registers and memory were never touched.")
    else:
        note.guest("VMRUN ends at once.", f"{ending.reason} by {ending.check} ({ending.detail})")
    return note.stopped(
        ending.check or "unknown", "Under restricted injection only #HV gets in, and the guest asks who called."
    )


_WORKS = Expectation(Outcome.WORKS, "the host injects any vector")
ATTACK = Attack(
    name="interrupt-injection",
    title="Malicious interrupt injection (Heckler)",
    aim=Aim.INTEGRITY,
    summary="The host injects an interrupt at the right moment; the guest's own handler changes its registers.",
    preconditions=("a handler with effects on the interrupted code", "the host knows the moment (single stepping)"),
    generations="all, unless the guest's kernel is fixed or injection is restricted",
    sources=(
        Source(
            "Schlüter et al., Heckler: Breaking Confidential VMs with Malicious Interrupts, USENIX Security 2024",
            "https://ahoi-attacks.github.io/heckler/",
        ),
        Source("CVE-2024-25743, CVE-2024-25744, AMD-SB-3008"),
    ),
    expected=dict.fromkeys(Mode, _WORKS),
    mitigations=(Mitigation.RESTRICTED_INJECTION,),
    mitigated=Expectation(Outcome.STOPPED, "restricted-injection: only #HV"),
    claim="injection",
    model=model,
)
