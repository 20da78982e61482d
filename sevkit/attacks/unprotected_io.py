"""Unprotected I/O: the guest's own driver decrypts and encrypts for the host, through the bounce buffer.

A driver copies between its private buffer and the shared bounce buffer. Whatever ciphertext lies in the private one
is decrypted when the guest sends; whatever the host puts into the shared one is encrypted when the guest receives.
"""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model.cipher import BLOCK, Scheme, xe_tweak
from sevkit.model.isa import assemble
from sevkit.model.launch import Launched
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_BUFFER, _KEYS = model_lab.DATA, model_lab.OTHER
_MARK = 1337


def model(note: Notebook) -> Observation:
    """Read a secret with the guest's send path, and run code with its receive path."""
    note.setup("A first-generation part (XE). The guest's driver copies between a private and a shared buffer.")
    platform = model_lab.machine(note, scheme=Scheme.XE)
    guest = model_lab.guest(note, platform)
    guest.vm.write(_KEYS, model_lab.SECRET)
    note.predict(
        "The copy is made with the guest's key: an oracle in both directions, if the host can move ciphertext."
    )

    check = _move(guest, _KEYS, _BUFFER)
    if check:
        return model_lab.refused(note, check, "The host copies the secret's ciphertext over the private buffer.")
    note.host("The host copies the secret's ciphertext over the private buffer.")
    guest.vm.write(model_lab.SHARED, guest.vm.read(_BUFFER, BLOCK), private=False)
    note.guest("The guest sends its buffer: the driver copies it out.")
    read = _shifted(note, guest, platform.host_read(guest.spa(model_lab.SHARED), BLOCK), _KEYS)
    note.host("The host reads the bounce buffer and takes the two tweaks off.", read)

    code = assemble(f"movi rcx, {_MARK}\nhlt")
    platform.host_write(guest.spa(model_lab.SHARED), _shifted(note, guest, code, model_lab.CODE))
    guest.vm.write(_BUFFER, guest.vm.read(model_lab.SHARED, BLOCK, private=False))
    note.guest("The guest receives a packet of the host's: the driver copies it in.")
    check = _move(guest, _BUFFER, model_lab.CODE)
    cpu = Vcpu(guest)
    ending = cpu.run()
    note.host("The host copies the packet's ciphertext over the guest's code.", check or "done")
    note.guest("The guest runs.", f"{ending.reason} rcx={cpu.registers.get('rcx')}")
    if read == model_lab.SECRET and cpu.registers.get("rcx") == _MARK:
        return note.works("bounce-buffer-oracle", "The host reads the guest's memory and runs code of its own in it.")
    return note.stopped(check or "unknown", "The oracle answers, but not what the host wanted.")


def _move(guest: Launched, source: int, target: int) -> str:
    """Copy one block of ciphertext between guest addresses; the check that refused it, or ""."""
    platform = guest.platform
    block = platform.host_read(guest.spa(source), BLOCK)
    return model_lab.attempt(lambda: platform.host_write(guest.spa(target), block))[1]


def _shifted(note: Notebook, guest: Launched, block: bytes, other: int) -> bytes:
    """The block as it reads after a move between the buffer and ``other``: changed by the two tweaks."""
    if not model_lab.encrypted(note.mode):
        return block
    shift = xe_tweak(guest.spa(_BUFFER)) ^ xe_tweak(guest.spa(other))
    return (int.from_bytes(block, "little") ^ shift).to_bytes(BLOCK, "little")


_WORKS = Expectation(Outcome.WORKS, "the guest's driver decrypts and encrypts what the host chooses")
ATTACK = Attack(
    name="unprotected-io",
    title="Unprotected I/O (decryption and encryption oracle)",
    aim=Aim.CONFIDENTIALITY,
    summary="The host has the guest's own driver decrypt its secrets and encrypt code of the host's.",
    preconditions=("the guest does I/O through a bounce buffer", "the tweak is known, or the host remaps (SEVerity)"),
    generations="SEV and SEV-ES parts; by moved ciphertext on EPYC 7001",
    sources=(
        Source("Li et al., Exploiting Unprotected I/O Operations in AMD SEV, USENIX Security 2019 (secondary)"),
        Source("Morbitzer et al., SEVerity: Code Injection Attacks against Encrypted VMs, 2021 (secondary)"),
    ),
    expected={
        Mode.NOSEV: Expectation(Outcome.WORKS, "memory is plaintext"),
        Mode.SEV: _WORKS,
        Mode.SEV_ES: _WORKS,
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "rmp-host-write-assigned: only the owner writes"),
    },
    falls_with="rmp-host-write-assigned",
    claim="vm-memory",
    breaks_claim=Source("Li et al., USENIX Security 2019 (secondary): SEV and SEV-ES"),
    model=model,
)
