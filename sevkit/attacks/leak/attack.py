"""Memory dump: the attack as data; leak/model.py and leak/guest.py perform it."""

from sevkit.attacks.experiment import Aim, Attack, Expectation, Outcome, Source
from sevkit.attacks.labs import model_lab
from sevkit.attacks.leak.guest import guest
from sevkit.attacks.leak.model import model
from sevkit.vocabulary import Mode

ATTACK = Attack(
    name="leak",
    title="Memory dump",
    aim=Aim.CONFIDENTIALITY,
    summary="The host dumps the VMM's memory and searches it for a secret that the guest holds.",
    preconditions=("root on the host, or the VMM's user",),
    generations="every part without memory encryption",
    sources=(Source("The published experiment: gcore of the VMM, then grep"), Source(model_lab.WHITEPAPER)),
    expected={
        Mode.NOSEV: Expectation(Outcome.WORKS, "memory is plaintext"),
        Mode.SEV: Expectation(Outcome.STOPPED, "ciphertext"),
        Mode.SEV_ES: Expectation(Outcome.STOPPED, "ciphertext"),
        Mode.SEV_SNP: Expectation(Outcome.STOPPED, "private pages are ciphertext or not mapped by the VMM"),
    },
    mitigations=(),
    mitigated=None,
    claim="vm-memory",
    model=model,
    guest=guest,
    on_mock=True,
    captures=True,
)
