"""Malicious interrupts: the host injects an interrupt whose handler changes the guest's registers (Heckler).

Vector 0x80 is the old system call gate: its handler returns a result in RAX, whatever code was interrupted.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import ENCRYPTED, Level, Mode

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


_UNUSED = 0xD3


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


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Inject a vector that no device has raised, and read the real guest's kernel log."""
    note.setup(f"A real Linux guest ({lab.guest.spec.mode}); no device uses vector {_UNUSED:#x}.")
    note.predict(
        "If the host may inject any vector, a handler of the guest's runs; Linux logs vectors that nobody owns."
    )
    before = _handled(lab)
    lab.host.command("inject", vector=_UNUSED)
    note.host(f"The host injects vector {_UNUSED:#x}.")
    after = _handled(lab)
    note.guest("Its kernel log:", after[-1] if after else "nothing")
    if len(after) > len(before):
        return note.works("any-vector", "The guest ran a handler at a moment and for a reason of the host's choice.")
    return note.stopped("restricted-injection", "The interrupt did not arrive.")


def _handled(lab: GuestLab) -> list[str]:
    """What the guest's kernel has logged about vectors that belong to no device."""
    return [line for line in lab.guest.run("dmesg").text.splitlines() if "No irq handler for vector" in line]


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
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=ENCRYPTED,
)
