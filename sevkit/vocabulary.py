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
