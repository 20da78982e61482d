"""Corruption: the host changes bits of ciphertext; the guest decrypts them to garbage and uses it."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import BLOCK, open_account
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import CaptureError
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Flip one bit of the guest's memory in DRAM."""
    note.setup("A guest keeps two blocks of 16 bytes in private memory.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    place = guest.spa(model_lab.DATA)
    before = model_lab.SECRET + b"the next block.."
    guest.vm.write(model_lab.DATA, before)
    note.predict(
        "One flipped bit of ciphertext turns a whole block of 16 bytes into random ones, and leaves its neighbours"
        " alone: the host cannot choose the result, and the guest cannot tell."
    )
    raw = platform.host_read(place, 16)
    _, check = model_lab.attempt(lambda: platform.host_write(place, bytes([raw[0] ^ 1]) + raw[1:]))
    if check:
        return model_lab.refused(note, check, "The host flips one bit.")
    note.host("The host flips one bit.", bytes([raw[0] ^ 1]) + raw[1:])
    after, check = model_lab.attempt(lambda: guest.vm.read(model_lab.DATA, 32))
    note.guest("The guest reads both blocks.", after or check)
    if after is None or after == before:
        return note.stopped(check or "unknown", "The guest was not deceived.")
    changed = sum(a != b for a, b in zip(after[:16], before[:16], strict=True))
    assert after[16:] == before[16:]
    return note.works(
        "no-integrity",
        f"{changed} of 16 bytes changed, no fault was raised: the guest goes on with them.",
        changed=changed,
    )


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Flip one bit of a real guest's page in DRAM."""
    account, page = open_account(
        lab, note, "With encryption one flipped bit makes a whole block of 16 bytes random; nothing notices."
    )
    before = account.page()
    target = page + 3 * BLOCK
    try:
        with lab.host.held():
            lab.host.write(target, bytes([lab.host.read(target, 1)[0] ^ 1]))
    except CaptureError as refusal:
        return model_lab.refused(note, "rmp-host-write-assigned", f"The host flips one bit: {refusal.message}")
    note.host("The host flips one bit of one byte in DRAM.")
    after = account.page()
    changed = [at for at, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    blocks = sorted({at // BLOCK for at in changed})
    note.guest(
        f"The guest reads: {len(changed)} bytes differ, in blocks {blocks} of 16 bytes.", after[3 * BLOCK : 4 * BLOCK]
    )
    if blocks == [3]:
        text = "The guest computes on with what the host has spoiled, and no fault is raised"
        ending = "." if len(changed) == 1 else ": one flipped bit makes a whole block random."
        return note.works("no-integrity", text + ending, bytes_changed=len(changed))
    return note.stopped("unknown", "The change did not reach the guest as expected.", blocks=blocks)


_WORKS = Expectation(Outcome.WORKS, "memory has no integrity protection")
ATTACK = Attack(
    name="corruption",
    title="Corruption of memory",
    aim=Aim.INTEGRITY,
    summary="The host writes junk into the guest's encrypted memory; the guest uses what it decrypts to.",
    preconditions=("the host writes physical memory",),
    generations="EPYC 7001 to 7002 (SEV, SEV-ES)",
    sources=(
        Source(model_lab.WHITEPAPER),
        Source("Buhren et al., Fault Attacks on Encrypted General Purpose Compute Platforms, CODASPY 2017"),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-host-write-assigned: only the owner writes")},
    mitigations=(),
    mitigated=None,
    falls_with="rmp-host-write-assigned",
    claim="data-corruption",
    model=model,
    guest=guest,
)
