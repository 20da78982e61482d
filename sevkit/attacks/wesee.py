"""WeSee: the host injects #VC with an exit code of its choice, and the guest's handler serves it.

The handler believes that the guest has executed what the exit code says. For VMMCALL it shows RAX to the host and
takes the host's answer into RAX: the host reads and writes a register whenever it likes.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model import paging
from sevkit.model.launch import Launched
from sevkit.model.vcpu import GHCB_FIELDS, Vcpu
from sevkit.vocabulary import Mode

_VC, _EXIT_VMMCALL = 29, 0x81
_IDT, _TABLES = 0x5000, 0x8000
_ANSWER, _REFUSED = 1337, 86
_RAX = GHCB_FIELDS["rax"]
_PROGRAM = """
    movi rbx, 0x2000
    load rax, [rbx]         ; a key
    nop                     ; the host interrupts here
    mov rcx, rax            ; what the guest works with
    hlt
handler:
    load r8, [rsp]          ; the exit code
    cmpi r8, 0x81           ; VMMCALL
    jnz refuse
{check}
    movi r9, 0x4000         ; the GHCB, shared with the host
    store [r9 + 0x1f8], rax
    vmmcall                 ; stands for VMGEXIT
    load rax, [r9 + 0x1f8]
    load r8, [rsp + 8]      ; the interrupted RIP: behind the instruction
    addi r8, 8
    store [rsp + 8], r8
    addi rsp, 8
    iret
refuse:
    movi rcx, 86            ; _REFUSED
    hlt
"""
# The patched handler: the low byte of the interrupted instruction is its operation, 17 is VMMCALL.
_CHECK = """
    load r8, [rsp + 8]
    load r8, [r8]
    movi r9, 0xff
    and r8, r9
    cmpi r8, 17
    jnz refuse
"""
_HANDLER = model_lab.CODE + 5 * 8


def model(note: Notebook) -> Observation:
    """Read and replace a register of a guest whose registers the host cannot reach."""
    patched = note.has(Mitigation.VC_OPCODE_CHECK)
    note.setup(
        "A guest with a key in RAX; its #VC handler goes by the exit code" + (" and the opcode." if patched else ".")
    )
    guest = _guest(note, _PROGRAM.format(check=_CHECK if patched else ""))
    guest.vm.write(model_lab.DATA, model_lab.SECRET[:8])
    cpu = Vcpu(guest)
    cpu.run(2)
    note.predict("The handler shows RAX to the host and takes the answer, although no VMMCALL was executed.")

    note.host("The host injects #VC with the exit code of VMMCALL.", f"vector {_VC}, error code {_EXIT_VMMCALL:#x}")
    ending = cpu.run(inject=_VC, error=_EXIT_VMMCALL)
    if ending.reason != "VMMCALL":
        note.guest("The guest does not serve it.", f"{ending.reason} {ending.check or cpu.registers['rcx']}")
        check = ending.check or ("vc-opcode-check" if cpu.registers["rcx"] == _REFUSED else "unknown")
        return note.stopped(check, "Nothing is copied: the injection is refused, or the handler looks at the opcode.")
    place = guest.spa(model_lab.SHARED) + _RAX
    seen = guest.platform.host_read(place, 8)
    note.host("The guest exits; the host reads the GHCB.", seen)
    guest.platform.host_write(place, _ANSWER.to_bytes(8, "little"))
    cpu.run()
    note.guest("The guest goes on with what the host has answered.", f"rcx={cpu.registers['rcx']}")
    if seen == model_lab.SECRET[:8] and cpu.registers["rcx"] == _ANSWER:
        return note.works("handler-trusts-exit-code", "A register was read and replaced in an encrypted save area.")
    return note.stopped("unknown", "The handler ran, but the register did not pass through the host.")


def _guest(note: Notebook, program: str) -> Launched:
    """A guest with this program, a handler for #VC, and page tables that share the GHCB with the host."""
    private = (model_lab.CODE, model_lab.DATA, _IDT, model_lab.STACK)
    pages = {gpa: (gpa, True) for gpa in private} | {model_lab.SHARED: (model_lab.SHARED, False)}
    return model_lab.guest(
        note,
        model_lab.machine(note),
        program=program,
        contents={_IDT: bytes(_VC * 8) + _HANDLER.to_bytes(8, "little"), **paging.tables(_TABLES, pages)},
        registers={"idtr_base": _IDT, "cr3": _TABLES},
    )


_WORKS = Expectation(Outcome.WORKS, "the guest's #VC handler believes the exit code")
ATTACK = Attack(
    name="wesee",
    title="Malicious #VC injection (WeSee)",
    aim=Aim.CONFIDENTIALITY,
    summary="The host injects #VC with an exit code of its choice; the guest's handler exposes and replaces RAX.",
    preconditions=("a #VC handler without a check of the opcode", "the host knows the moment (single stepping)"),
    generations="all with SEV-ES or SEV-SNP, unless the guest's kernel is fixed or injection is restricted",
    sources=(
        Source("WeSee, IEEE S&P 2024 (secondary)", "https://ahoi-attacks.github.io/wesee/"),
        Source("CVE-2024-25742, AMD-SB-3008 (secondary)"),
    ),
    expected=dict.fromkeys(Mode, Expectation(Outcome.NOT_APPLICABLE, "there is no #VC"))
    | dict.fromkeys((Mode.SEV_ES, Mode.SEV_SNP), _WORKS),
    mitigations=(Mitigation.VC_OPCODE_CHECK, Mitigation.RESTRICTED_INJECTION),
    any_suffices=True,
    mitigated=Expectation(Outcome.STOPPED, "restricted-injection or vc-opcode-check: only #HV, or only true exits"),
    claim="injection",
    model=model,
)
