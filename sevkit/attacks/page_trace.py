"""Page tracing with single steps: the pages that a guest touches reveal what it does, in every mode."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_KEY = 0b11010010
# Square and multiply: the page of the multiplication is touched only for the 1 bits of the key.
_PROGRAM = """
    movi rsi, 0x2000
    load rbx, [rsi]
    movi rdi, 0x3000
    movi rbp, 0x5000
    movi r10, 1
turn:
    store [rdi], rax        ; square
    mov r9, rbx
    and r9, r10
    jz zero
    store [rbp], rax        ; multiply
zero:
    shr rbx, 1
    jmp turn
"""


def model(note: Notebook) -> Observation:
    """Step through a guest one instruction at a time and log the pages it touches."""
    note.setup(
        "A guest works through a key; for a one it also multiplies, on a page of its own (0x5000).", f"{_KEY:08b}"
    )
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    guest.vm.write(model_lab.DATA, _KEY.to_bytes(8, "little"))
    note.predict("The accessed bits of the nested tables are the host's to read: the sequence of pages is the key.")

    cpu, trace = Vcpu(guest), []
    for _ in range(200):
        guest.vm.npt.clear_accessed()
        guest.vm.flush_tlb()
        cpu.run(limit=1)
        trace += sorted(page for page in guest.vm.npt.touched() if page in (model_lab.OTHER, 0x5000))
    squares = [n for n, page in enumerate(trace) if page == model_lab.OTHER][:8]
    bits = [int(n + 1 < len(trace) and trace[n + 1] == 0x5000) for n in squares]
    guess = sum(bit << n for n, bit in enumerate(bits))
    note.host(
        "The host steps with its timer and logs the pages.",
        " ".join("S" if p == model_lab.OTHER else "M" for p in trace[:13]),
    )
    note.host("Read as a key:", f"{guess:08b}")
    if guess == _KEY:
        return note.works("npt-accessed-bits", "The key is known, and no byte of it was ever read.")
    return note.stopped("unknown", "The trace does not show the key.")


_WORKS = Expectation(Outcome.WORKS, "the host owns nested tables and timer")
ATTACK = Attack(
    name="page-trace",
    title="Page tracing with single steps",
    aim=Aim.CONFIDENTIALITY,
    summary="The host steps the guest with its timer and logs which pages each instruction touches.",
    preconditions=("control flow or data access that depends on the secret",),
    generations="all",
    sources=(
        Source(
            "Wilke et al., SEV-Step: A Single-Stepping Framework for AMD-SEV, TCHES 2024",
            "https://github.com/sev-step/sev-step",
        ),
        Source("Morbitzer et al., Extracting Secrets from Encrypted Virtual Machines, CODASPY 2019"),
    ),
    expected=dict.fromkeys(Mode, _WORKS),
    mitigations=(),
    mitigated=None,
    claim="page-channels",
    model=model,
)
