"""Ciphertext block move: with a known tweak, ciphertext moved elsewhere decrypts to something the host can predict.

First-generation parts encrypt as XE with a linear, recoverable tweak: a block moved from p to q decrypts to
P ^ T(p) ^ T(q). So the host can plant 16 bytes of its choice if it knows some plaintext in the guest.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import BLOCK, open_account
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import CaptureError
from sevkit.model.cipher import Scheme, xe_tweak
from sevkit.vocabulary import Level, Mode


def model(note: Notebook) -> Observation:
    """Move a known block into the guest's code and predict what the guest reads there."""
    note.setup("A first-generation part: XE encryption. The guest holds a file that the host knows (a web page).")
    platform = model_lab.machine(note, scheme=Scheme.XE)
    guest = model_lab.guest(note, platform)
    known = b"<html>hello</htm"
    guest.vm.write(model_lab.DATA, known)
    source, target = guest.spa(model_lab.DATA), guest.spa(model_lab.OTHER)
    shift = xe_tweak(source) ^ xe_tweak(target) if model_lab.encrypted(note.mode) else 0
    wanted = (int.from_bytes(known, "little") ^ shift).to_bytes(16, "little")
    note.predict("The moved block will decrypt to the known text, changed by the two tweaks:", wanted)

    moved = platform.host_read(source, 16)
    _, check = model_lab.attempt(lambda: platform.host_write(target, moved))
    if check:
        return model_lab.refused(note, check, "The host copies the block to the other address.")
    note.host("The host copies the block to the other address.", moved)
    seen, check = model_lab.attempt(lambda: guest.vm.read(model_lab.OTHER, 16))
    note.guest("The guest reads there:", seen or check)
    if seen == wanted:
        return note.works(
            "linear-tweak", "The host chose what the guest reads: with enough known text, any code it likes."
        )
    return note.stopped(check or "random-tweak", "The result is not what was predicted.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Copy one block's bytes over another block of a real guest's page."""
    account, page = open_account(
        lab, note, "A tweak that the host cannot compute makes the moved block decrypt to noise."
    )
    before = account.page()
    source, target = 0, 5 * BLOCK  # two blocks with different text
    try:
        with lab.host.held():
            lab.host.write(page + target, lab.host.read(page + source, BLOCK))
    except CaptureError as refusal:
        return model_lab.refused(note, "rmp-host-write-assigned", f"The host copies block 0 over 5: {refusal.message}")
    note.host("The host copies block 0 of the page over block 5.")
    after = account.page()
    moved = after[target : target + BLOCK]
    note.guest("The guest reads block 5.", moved)
    if moved == before[source : source + BLOCK]:
        return note.works("no-tweak", "The text has moved to where the host wanted it.")
    if moved != before[target : target + BLOCK]:
        return note.stopped(
            "address-tweak", "The block decrypts to noise at another address: the host spoils it, but chooses nothing."
        )
    return note.stopped("unknown", "The write did not reach the guest.")


_WORKS = Expectation(Outcome.WORKS, "known linear tweak, no integrity")
ATTACK = Attack(
    name="block-move",
    title="Ciphertext block move",
    aim=Aim.INTEGRITY,
    summary="The host moves ciphertext between addresses and so plants predictable plaintext in the guest.",
    preconditions=("the tweak constants are known (recovered once per part)", "known plaintext in the guest"),
    generations="EPYC 7001 (XE, constants recovered); later parts draw random tweaks",
    sources=(
        Source("Du et al., Secure Encrypted Virtualization is Unsecure, 2017", "https://arxiv.org/abs/1712.05090"),
        Source(
            "Wilke et al., SEVurity: No Security Without Integrity, IEEE S&P 2020", "https://arxiv.org/abs/2004.11071"
        ),
    ),
    expected={
        Mode.NOSEV: Expectation(Outcome.WORKS, "memory is plaintext"),
        Mode.SEV: _WORKS,
        Mode.SEV_ES: _WORKS,
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-host-write-assigned: only the owner writes"),
    },
    mitigations=(),
    mitigated=None,
    falls_with="rmp-host-write-assigned",
    claim="data-corruption",
    model=model,
    guest=guest,
    differs={
        (Level.EMULATOR, mode): Expectation(Outcome.STOPPED, "address-tweak: the emulator encrypts as later parts do")
        for mode in (Mode.SEV, Mode.SEV_ES)
    },
)
