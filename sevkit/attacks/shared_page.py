"""Shared-page leak: the host can read what a guest writes to memory shared with the host, in every mode."""

import hashlib
import secrets as randomness

from sevkit.attacks.experiment import Aim, Attack, Expectation, Mitigation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.search.patterns import Pattern
from sevkit.memory.search.scan import scan
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Mode


def model(note: Notebook) -> Observation:
    """Read the bounce buffer of a guest that does plaintext I/O."""
    note.setup(
        "The guest has a virtio disk; its buffers are shared memory (C-bit clear), or the device could not work."
    )
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform)
    guest.vm.write(model_lab.DATA, model_lab.SECRET)
    note.predict("Whatever passes through the shared buffer in clear, the host reads, whatever the mode.")

    payload = guest.vm.read(model_lab.DATA, 16)
    if note.has(Mitigation.ENCRYPTED_IO):
        pad = platform.entropy.fork("disk-key").bytes(16)
        payload = bytes(a ^ b for a, b in zip(payload, pad, strict=True))
        note.guest("The guest encrypts before it writes (dm-crypt, TLS): the buffer gets ciphertext.", payload)
    else:
        note.guest("The guest writes a file: its bytes go into the buffer.", payload)
    guest.vm.write(model_lab.SHARED, payload, private=False)

    seen = platform.host_read(guest.spa(model_lab.SHARED), 16)
    note.host("The host reads the buffer.", seen)
    if seen == model_lab.SECRET:
        return note.works("shared-page", "The host has the plaintext: shared memory is shared.")
    return note.stopped("encrypted-io", "The host sees the buffer, and in it only what the guest encrypted itself.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Find in shared memory what a real guest computes and sends through a device."""
    note.setup(f"A real guest ({lab.guest.spec.mode}) with virtio devices; their buffers are shared memory.")
    note.predict("Whatever passes through the shared buffers in clear, the host reads, whatever the mode.")
    nonce = randomness.token_hex(8)
    digest = hashlib.sha256(nonce.encode()).hexdigest()
    sent = lab.guest.run(f"printf %s {nonce} | sha256sum").text.split()[0]
    note.guest("The guest computes a digest and sends it through its serial device.", sent)
    lab.qemu.pause()
    try:
        with LiveMemory(lab.guest.pid) as memory:
            found = scan(memory, [Pattern(digest.encode(), name="digest")])
    finally:
        lab.qemu.resume()
    shared = GuestMap(lab.guest.ram_blocks())
    places = [place for hit in found.hits if (place := shared.place(hit.address)) is not None]
    if not found.finished and not places:
        raise InconclusiveError("the search did not finish")
    if places:
        note.host("The host finds it in guest RAM.", f"guest-physical {places[0].gpa:#x}")
        return note.works("shared-page", "The host has the plaintext: shared memory is shared.")
    return note.stopped("unknown", "The host does not find it in guest RAM.")


_LEAKS = Expectation(Outcome.WORKS, "shared memory is plaintext by design")
ATTACK = Attack(
    name="shared-page",
    title="Shared-page leak",
    aim=Aim.CONFIDENTIALITY,
    summary="The host reads what the guest passes through shared buffers: disks, network, console.",
    preconditions=("the guest does plaintext I/O",),
    generations="all",
    sources=(Source("Linux Documentation/core-api/swiotlb.rst: encrypted guests bounce through shared memory"),),
    expected=dict.fromkeys(Mode, _LEAKS),
    mitigations=(Mitigation.ENCRYPTED_IO,),
    mitigated=Expectation(Outcome.STOPPED, "the guest encrypts what leaves it"),
    claim=None,
    model=model,
    guest=guest,
)
