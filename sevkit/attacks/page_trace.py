"""Page tracing with single steps: which pages a guest touches tells what it does, in every mode."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import Account, find
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Level, Mode

_KEY = 0b11010010
# Square and multiply: the page of the multiplication is touched for the ones of the key only.
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


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Take the rights to a real guest's pages away, and read a key from which of them it touches."""
    note.setup(f"A real guest ({lab.guest.spec.mode}) makes a key; for each one in it, it reads a second file too.")
    note.predict("The host owns the nested page table: the sequence of touched pages is the key.")
    (page,) = find(lab, note, [Account(lab, "multiply")])
    touched = lab.host.gpa(page)
    lab.guest.run("dd if=/dev/urandom bs=1 count=1 status=none | od -An -tu1 | tr -d ' ' >/root/key")
    bits, seen = [], 0
    for number in range(8):
        lab.host.command("page-trace", enable=True)
        turn = f"k=$(cat /root/key); [ $((k >> {number} & 1)) = 1 ] && cat /root/multiply >/dev/null; true"
        lab.guest.run(turn)
        touches = lab.host.command("page-trace", enable=True)
        seen += len(touches)
        bits.append(any(each["gpa"] == touched for each in touches))
    lab.host.command("page-trace", enable=False)
    if not seen:
        raise InconclusiveError("the trace showed no access at all")
    guess = sum(bit << number for number, bit in enumerate(bits))
    note.host("The host logs the pages of each turn. Read as a key:", f"{guess:08b}")
    key = int(lab.guest.run("cat /root/key").text)
    note.guest("The guest's key was:", f"{key:08b}")
    if guess == key:
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
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=(Mode.SEV_ES, Mode.SEV_SNP),
)
