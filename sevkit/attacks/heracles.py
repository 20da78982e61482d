"""Heracles: the firmware moves guest pages for the host, and so encrypts two of them at one address.

At one address and under one key, equal ciphertext is equal plaintext. A page with text of the host's choice (a
received packet) is moved to where the secret page was before: the host sees whether its guess is right.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.cipher import BLOCK
from sevkit.model.launch import Launched, default_policy
from sevkit.model.machine import ABI_PAGE_SWAP, FIRMWARE_ABI
from sevkit.model.psp import Refused
from sevkit.model.snp_commands import POLICY_PAGE_SWAP_DISABLE
from sevkit.vocabulary import Mode

_GUESSES = [f"pin: {digit}".ljust(BLOCK).encode() for digit in range(10)]


def model(note: Notebook) -> Observation:
    """Find the right one of ten guesses for a block of a guest's memory."""
    disabled = note.has(Mitigation.PAGE_SWAP_DISABLE)
    platform = model_lab.machine(note, firmware_abi=ABI_PAGE_SWAP if disabled else FIRMWARE_ABI)
    policy = default_policy(note.mode) | (POLICY_PAGE_SWAP_DISABLE if disabled else 0)
    guest = model_lab.guest(note, platform, policy=policy)
    secret = _GUESSES[platform.entropy.fork("pin").bytes(1)[0] % len(_GUESSES)]
    guest.vm.write(model_lab.DATA, secret)
    note.setup("A guest holds a secret that is one of ten; what it receives it keeps in another private page.")
    note.predict("Two pages, encrypted at one address after the other: where the blocks are equal, the texts are.")

    spare = platform.allocate()
    try:
        wanted = _at(guest, model_lab.DATA, spare)
        note.host("The firmware moves the secret's page to a spare address; the block there reads", wanted)
        matches = [guess for guess in _GUESSES if _received(guest, guess, spare) == wanted]
    except Refused as refusal:
        note.host("The host has the firmware move the secret's page.", str(refusal))
        return note.stopped(refusal.check, "The guest's policy forbids moves: the report shows the bit.")
    note.host(f"It moves {len(_GUESSES)} received packets there and back. Equal blocks:", str(len(matches)))
    note.guest("The guest reads its secret, undisturbed:", guest.vm.read(model_lab.DATA, BLOCK))
    if matches == [secret]:
        return note.works("page-move-oracle", "One guess matches: the host has the secret and no key.")
    if len(matches) == len(_GUESSES):
        return note.stopped("ciphertext-hiding", "The host reads a constant: every guess looks right.")
    return note.stopped("unknown", "The comparison does not single out the secret.")


def _received(guest: Launched, packet: bytes, spare: int) -> bytes:
    """The ciphertext at the spare address of a packet that the guest has received."""
    guest.vm.write(model_lab.OTHER, packet)
    return _at(guest, model_lab.OTHER, spare)


def _at(guest: Launched, gpa: int, spare: int) -> bytes:
    """Move a guest page to the spare address, read its first block there, move it back."""
    home = guest.spa(gpa)
    _move(guest, gpa, home, spare)
    block = guest.platform.host_read(spare, BLOCK)
    _move(guest, gpa, spare, home)
    return block


def _move(guest: Launched, gpa: int, source: int, target: int) -> None:
    """What a hypervisor does to move a page: Pre-Swap here, Pre-Guest there, the command, the nested table."""
    rmp = guest.platform.rmp
    assert rmp is not None
    for spa in (source, target):
        rmp.rmpupdate(spa, assigned=True, asid=guest.vm.asid, gpa=gpa, immutable=True)
    guest.platform.snp.page_move(guest.handle, source, target)
    guest.vm.remap(gpa, target)


ATTACK = Attack(
    name="heracles",
    title="Moved pages as a chosen-plaintext oracle (Heracles)",
    aim=Aim.CONFIDENTIALITY,
    summary="The host has the firmware move pages to one address and compares ciphertext with that of its guesses.",
    preconditions=("the guest stores text of the host's choice", "the guest's policy allows moves (it did by default)"),
    generations="EPYC 7003 and 9004; 9005 with ciphertext hiding is not affected",
    sources=(
        Source("Heracles, CCS 2025 (secondary)", "https://doi.org/10.1145/3719027.3765209"),
        Source("AMD-SB-3021 (secondary); SEV-SNP firmware ABI (56860), SNP_PAGE_MOVE"),
    ),
    expected=dict.fromkeys(Mode, Expectation(Outcome.NOT_APPLICABLE, "the firmware has no SNP_PAGE_MOVE"))
    | {Mode.SEV_SNP: Expectation(Outcome.WORKS, "page-move-oracle: equal text at one address is equal ciphertext")},
    mitigations=(Mitigation.PAGE_SWAP_DISABLE, Mitigation.CIPHERTEXT_HIDING),
    any_suffices=True,
    mitigated=Expectation(Outcome.STOPPED, "policy-page-swap or ciphertext-hiding: no move, or nothing to compare"),
    claim="vm-memory",
    breaks_claim=Source("Heracles, CCS 2025 (secondary)", "https://doi.org/10.1145/3719027.3765209"),
    model=model,
)
