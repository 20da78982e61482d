"""The words of the field that every layer shares: modes, provenance, verdicts, evidence."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Mode(StrEnum):
    """How a guest is protected."""

    NOSEV = "nosev"
    SEV = "sev"
    SEV_ES = "sev-es"
    SEV_SNP = "sev-snp"


class ModeFacts(NamedTuple):
    """What the other parts of the world call a mode, and how they number it.

    ``label``: the word of the kernel's log. ``parameter``: the parameter of the module kvm_amd. ``status_bit``: the bit
    of SEV_STATUS, MSR C001_0131, that the mode adds to those below it (APM volume 2, 15.34.10). ``vm_type``: KVM's VM
    type, a bit of KVM_CAP_VM_TYPES (Linux, arch/x86/include/uapi/asm/kvm.h). ``policy``: the guest policy that sevkit
    launches with: no debugging, no key sharing (SEV); SMT allowed (SEV-SNP). ``words``: how files and users spell it.
    """

    label: str
    parameter: str | None
    status_bit: int | None
    vm_type: int | None
    policy: int | None
    words: tuple[str, ...]


MODE_FACTS: Mapping[Mode, ModeFacts] = {
    Mode.NOSEV: ModeFacts("none", None, None, None, None, ("nosev", "no-sev", "plain", "none")),
    Mode.SEV: ModeFacts("SEV", "sev", 0, 2, 0x1, ("sev",)),
    Mode.SEV_ES: ModeFacts("SEV-ES", "sev_es", 1, 3, 0x5, ("sev-es", "seves", "es")),
    Mode.SEV_SNP: ModeFacts("SEV-SNP", "sev_snp", 2, 4, 0x30000, ("sev-snp", "sevsnp", "snp")),
}
ENCRYPTED = (Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP)


def mode_from_word(word: str) -> Mode | None:
    """The mode that a word means, in a file name, a column or an option; None for any other word."""
    plain = word.strip().lower().replace("_", "-")
    return next((mode for mode, facts in MODE_FACTS.items() if plain in facts.words), None)


def labels_of(mode: Mode) -> str:
    """The features that a guest's kernel prints as active, in the order of the log: ``SEV SEV-ES`` for SEV-ES."""
    if mode is Mode.NOSEV:
        return ""
    return " ".join(MODE_FACTS[each].label for each in ENCRYPTED[: ENCRYPTED.index(mode) + 1])


def sev_status(mode: Mode) -> int:
    """SEV_STATUS in a guest of this mode: its own bit and those of the modes below."""
    bit = MODE_FACTS[mode].status_bit
    return 0 if bit is None else (2 << bit) - 1


class Provenance(StrEnum):
    """Where a result comes from. Results of different provenance are not compared unless asked for."""

    HARDWARE = "hardware"
    EMULATED = "emulated"
    MOCK = "mock"
    PUBLISHED = "published"


class Level(StrEnum):
    """What an experiment runs on. Each level has one provenance."""

    HARDWARE = "hardware"
    EMULATOR = "emulator"
    MODEL = "model"

    @property
    def provenance(self) -> Provenance:
        """The provenance of what is measured at this level."""
        return _PROVENANCES[self]

    @classmethod
    def of(cls, provenance: Provenance) -> "Level":
        """The level that results of a provenance come from; raises ValueError for published ones."""
        for level, each in _PROVENANCES.items():
            if each is provenance:
                return level
        raise ValueError(f"{provenance} is not a level that runs here")


_PROVENANCES = {
    Level.HARDWARE: Provenance.HARDWARE,
    Level.EMULATOR: Provenance.EMULATED,
    Level.MODEL: Provenance.MOCK,
}


class Verdict(StrEnum):
    """What an experiment concluded. Unfinished, or with a failed control, is inconclusive."""

    LEAKED = "leaked"
    PROTECTED = "protected"
    INCONCLUSIVE = "inconclusive"


class Evidence(StrEnum):
    """What a dump shows of a private guest page."""

    PLAINTEXT = "plaintext"
    CIPHERTEXT = "ciphertext"
    HOLE = "hole"
    ZERO = "zero"
