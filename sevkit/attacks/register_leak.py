"""Register leak: at every exit the host reads the guest's registers, if the mode leaves them in clear."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Notebook, Observation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.model import vmsa
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode

_PROGRAM = """
    movi rsi, 0x2000
    loadx [rsi]             ; the key goes into xmm0 ...
    load r8, [rsi]          ; ... and half of it into r8
    vmmcall
    hlt
"""


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
)
