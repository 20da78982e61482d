"""Replay: the host writes back an older ciphertext of the same page, at the same place."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.account import open_account
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import CaptureError
from sevkit.memory.sources.base import PAGE
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Copy a page of the guest, let the guest change the page, write the copy back."""
    note.setup("A guest keeps an account in private memory: 100 coins.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    place = guest.spa(model_lab.DATA)
    guest.vm.write(model_lab.DATA, b"balance: 100    ")

    note.predict(
        "The same key at the same address gives the same ciphertext for the same text. If the host can write, the old"
        " balance comes back and the guest notices nothing."
    )
    old = platform.host_read(place, 16)
    note.host("The host copies the page as it lies in DRAM.", old)
    guest.vm.write(model_lab.DATA, b"balance:   0    ")
    note.guest("The guest pays: the balance is 0 now.", guest.vm.read(model_lab.DATA, 16))
    note.host("The host sees that the page has changed.", platform.host_read(place, 16))

    _, check = model_lab.attempt(lambda: platform.host_write(place, old))
    if check:
        return model_lab.refused(note, check, "The host writes the old bytes back.")
    note.host("The host writes the old bytes back.", old)
    seen, check = model_lab.attempt(lambda: guest.vm.read(model_lab.DATA, 16))
    note.guest("The guest reads its balance.", seen or check)
    if seen == b"balance: 100    ":
        return note.works(
            "no-integrity", "The old state is back and the guest believes it: encryption is no integrity."
        )
    return note.stopped(check or "unknown", "The guest did not accept the old state.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Write back the page's older bytes after a real guest has paid."""
    account, page = open_account(
        lab,
        note,
        "Encryption hides the account. If the host can write, the old balance comes back and nothing notices.",
    )
    with lab.host.held():
        old = lab.host.read(page, PAGE)
    note.host("The host copies the page as it lies in DRAM.", old[:32])
    account.set_balance(0)
    note.guest(f"The guest pays, and reads: {account.balance()}")
    try:
        with lab.host.held():
            lab.host.write(page, old)
    except CaptureError as refusal:
        return model_lab.refused(note, "rmp-host-write-assigned", f"The host writes back: {refusal.message}")
    note.host("The host writes the old bytes back.")
    seen = account.balance()
    note.guest(f"The guest reads: {seen}")
    if seen.endswith("balance 0100"):
        return note.works("no-integrity", "The old state is back and the guest believes it.", balance=seen)
    return note.stopped("unknown", "The guest did not accept the old state.", balance=seen)


_WORKS = Expectation(Outcome.WORKS, "memory has no integrity protection")
ATTACK = Attack(
    name="replay",
    title="Replay of old memory",
    aim=Aim.INTEGRITY,
    summary="The host writes an older ciphertext back to where it came from; the guest sees its own past.",
    preconditions=("the host writes physical memory",),
    generations="EPYC 7001 to 7002 (SEV, SEV-ES)",
    sources=(
        Source(
            "Hetzelt and Buhren, Security Analysis of Encrypted Virtual Machines, VEE 2017",
            "https://arxiv.org/abs/1612.01119",
        ),
        Source(model_lab.WHITEPAPER),
    ),
    expected=dict.fromkeys(Mode, _WORKS)
    | {Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-host-write-assigned: only the owner writes")},
    mitigations=(),
    mitigated=None,
    falls_with="rmp-host-write-assigned",
    claim="replay",
    model=model,
    guest=guest,
)
