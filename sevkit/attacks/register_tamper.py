"""Register tampering: between two runs of the guest, the host changes the address at which the guest continues."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab, program, registers
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.model import vmsa
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_PROGRAM = """
    vmmcall                 ; waits for the host
    movi rcx, 0             ; access denied
    hlt
granted:
    movi rcx, 1             ; access granted
    hlt
"""
_GRANTED = model_lab.CODE + 3 * 8


def model(note: Notebook) -> Observation:
    """Set RIP of a stopped guest to the code after its password check."""
    note.setup("A guest stops in the middle of a password check.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    cpu = Vcpu(guest)
    cpu.run()
    note.predict(
        "If the host may write the save area, and nothing compares it at VMRUN, the guest goes on at its will."
    )

    at, size = vmsa.FIELDS["rip"]
    target = (guest.vmsa_spa or 0) + at
    _, check = model_lab.attempt(lambda: platform.host_write(target, _GRANTED.to_bytes(size, "little")))
    if check:
        return model_lab.refused(note, check, f"The host writes RIP = {_GRANTED:#x} into the save area.")
    note.host("The host writes RIP into the save area.", f"rip = {_GRANTED:#x}")
    ending = cpu.run()
    granted = cpu.registers.get("rcx") == 1
    note.guest("The guest runs on.", f"{ending.reason} {ending.check}".strip())
    if ending.reason == "HLT" and granted:
        return note.works("registers-in-clear", "The guest granted access: its instruction pointer was the host's.")
    return note.stopped(ending.check or "unknown", "VMRUN found that the save area is not what VMEXIT had stored.")


# wait: jmp wait (no password comes); granted: mov edi, 42; mov eax, 60; syscall (exit)
_LOCK = bytes.fromhex("ebfe bf2a000000 b83c000000 0f05")
_OPEN = program.ENTRY + 2
_ACCESS, _LOOKS = 42, 200


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Set RIP of a real guest to the code after its password check."""
    note.setup(f"A program in a real guest ({lab.guest.spec.mode}) waits for a password before it grants access.")
    note.predict("Without encrypted state the host sets the registers of a stopped guest, the instruction pointer too.")
    program.start(lab, "lock", _LOCK)
    try:
        looks = next((n for n in range(1, _LOOKS + 1) if _set_rip(lab)), None)
        if looks is None:
            raise InconclusiveError(f"in {_LOOKS} looks the host never saw the program run")
        note.host(f"At look {looks} the program runs; the host sets RIP.", f"rip = {_OPEN:#x}")
        ended = program.ended(lab, "lock")
    finally:
        program.stop(lab, "lock")
    note.guest("The program:", "still waits" if ended is None else f"exit status {ended}")
    if ended == _ACCESS:
        return note.works("registers-in-clear", "The guest granted access: its instruction pointer was the host's.")
    return note.stopped("unknown", "The guest went on where it had stopped.")


def _set_rip(lab: GuestLab) -> bool:
    """Stop the guest; if it is at the program's waiting instruction, let it go on behind it."""
    with registers.opened(lab.qemu) as state:
        waiting = state.rip == program.ENTRY
        if waiting:
            state.rip = _OPEN
    return waiting


_WORKS = Expectation(Outcome.WORKS, "the VMCB is the host's")
ATTACK = Attack(
    name="register-tamper",
    title="Register tampering",
    aim=Aim.INTEGRITY,
    summary="The host changes the guest's instruction pointer between two runs.",
    preconditions=("the host runs the guest",),
    generations="SEV without encrypted state",
    sources=(Source("AMD, Protecting VM Register State with SEV-ES, February 2017"),),
    expected={
        Mode.NOSEV: _WORKS,
        Mode.SEV: _WORKS,
        Mode.SEV_ES: Expectation(Outcome.STOPPED, "vmsa-check-value: VMRUN compares"),
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-host-write-assigned: the VMSA page is the guest's"),
    },
    mitigations=(),
    mitigated=None,
    claim="vm-register-state",
    model=model,
    guest=guest,
    guest_modes=(Mode.NOSEV, Mode.SEV),
)
