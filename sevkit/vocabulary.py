"""The words of the field that every layer shares: modes, provenance, verdicts, evidence."""

from enum import StrEnum


class Mode(StrEnum):
    """How a guest is protected."""

    NOSEV = "nosev"
    SEV = "sev"
    SEV_ES = "sev-es"
    SEV_SNP = "sev-snp"


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
