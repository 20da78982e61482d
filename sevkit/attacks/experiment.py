"""What an attack is: an experiment as data, and the notebook it is written down in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sevkit.vocabulary import Mode


class Outcome(StrEnum):
    """What an attack achieved. For one that reads memory, ``works`` is what a leak test calls ``leaked``."""

    WORKS = "works"
    STOPPED = "stopped"
    NOT_APPLICABLE = "n/a"
    INCONCLUSIVE = "inconclusive"


class Aim(StrEnum):
    """What an attack is after."""

    CONFIDENTIALITY = "confidentiality"
    INTEGRITY = "integrity"
    AVAILABILITY = "availability"


class Mitigation(StrEnum):
    """What stops an attack beyond what the mode itself does."""

    CIPHERTEXT_HIDING = "ciphertext-hiding"
    VMSA_REG_PROT = "vmsa-reg-prot"
    ALIAS_CHECK = "alias-check"
    RESTRICTED_INJECTION = "restricted-injection"
    INVD_MICROCODE = "invd-microcode"
    DEBUG_FORBIDDEN = "debug-forbidden"
    VALIDATE_ONCE = "validate-once"
    ENCRYPTED_IO = "encrypted-io"
    CPUID_PAGE = "cpuid-page"


# Mitigations that do not need SEV-SNP; the others are without effect in the other modes.
BEFORE_SNP = frozenset({Mitigation.DEBUG_FORBIDDEN, Mitigation.ENCRYPTED_IO, Mitigation.INVD_MICROCODE})


def effective(mode: Mode, mitigations: frozenset[Mitigation]) -> frozenset[Mitigation]:
    """Those of the mitigations that a mode can have."""
    return mitigations if mode is Mode.SEV_SNP else mitigations & BEFORE_SNP


@dataclass(frozen=True)
class Source:
    """Where an attack is described: a paper, an advisory, a specification section."""

    text: str
    url: str | None = None

    def __str__(self) -> str:
        return f"{self.text} <{self.url}>" if self.url else self.text


@dataclass(frozen=True)
class Expectation:
    """What should happen in one column of the matrix, and which check or property is the reason."""

    outcome: Outcome
    why: str


@dataclass(frozen=True)
class Observation:
    """What did happen. ``check`` names the check that fired, or the property that let the attack through."""

    outcome: Outcome
    check: str
    detail: Mapping[str, Any] = field(default_factory=dict)


class Stage(StrEnum):
    """The order of a lab notebook."""

    SETUP = "setup"
    PREDICTION = "prediction"
    HOST = "what the host does"
    GUEST = "what the guest sees"
    VERDICT = "verdict"


@dataclass(frozen=True)
class Step:
    """One entry of the notebook: where in the experiment it stands, and what happened, with bytes where they tell."""

    stage: Stage
    text: str
    data: str | None = None


class Notebook:
    """What an experiment writes down while it runs; ``listener`` hears each entry at once (the narrated demo)."""

    def __init__(
        self,
        mode: Mode,
        mitigations: frozenset[Mitigation] = frozenset(),
        *,
        seed: int = 1,
        listener: Callable[[Step], None] | None = None,
        disabled_checks: frozenset[str] = frozenset(),
    ) -> None:
        self.mode = mode
        self.mitigations = effective(mode, mitigations)
        self.seed = seed
        self.disabled_checks = disabled_checks  # checks of the RMP to leave out: mutation tests
        self.steps: list[Step] = []
        self._listener = listener

    def has(self, mitigation: Mitigation) -> bool:
        """Whether this run has the mitigation on."""
        return mitigation in self.mitigations

    def setup(self, text: str, data: str | bytes | None = None) -> None:
        """What is prepared."""
        self._write(Stage.SETUP, text, data)

    def predict(self, text: str, data: str | bytes | None = None) -> None:
        """What should happen if the attack works, and if it does not."""
        self._write(Stage.PREDICTION, text, data)

    def host(self, text: str, data: str | bytes | None = None) -> None:
        """What the host does, as the attacker."""
        self._write(Stage.HOST, text, data)

    def guest(self, text: str, data: str | bytes | None = None) -> None:
        """What the guest does or sees."""
        self._write(Stage.GUEST, text, data)

    def verdict(self, text: str, data: str | bytes | None = None) -> None:
        """What follows."""
        self._write(Stage.VERDICT, text, data)

    def works(self, check: str, text: str, **detail: Any) -> Observation:
        """Close the experiment: the attack got through, because of ``check``."""
        self.verdict(text)
        return Observation(Outcome.WORKS, check, detail)

    def stopped(self, check: str, text: str, **detail: Any) -> Observation:
        """Close the experiment: ``check`` stopped the attack."""
        self.verdict(text)
        return Observation(Outcome.STOPPED, check, detail)

    def _write(self, stage: Stage, text: str, data: str | bytes | None) -> None:
        step = Step(stage, text, _shown(data) if isinstance(data, bytes) else data)
        self.steps.append(step)
        if self._listener is not None:
            self._listener(step)


def _shown(data: bytes) -> str:
    """Bytes in hexadecimal, and as text where they are text."""
    text = f'  "{data.decode()}"' if data and all(0x20 <= byte < 0x7F for byte in data) else ""
    return data.hex(" ", 4) + text


Experiment = Callable[[Notebook], Observation]

# The columns of the matrix: a mode, and whether all mitigations are on.
COLUMNS: tuple[tuple[Mode, bool], ...] = (
    (Mode.NOSEV, False),
    (Mode.SEV, False),
    (Mode.SEV_ES, False),
    (Mode.SEV_SNP, False),
    (Mode.SEV_SNP, True),
)


@dataclass(frozen=True)
class Attack:
    """An attack as executable data.

    ``expected`` has an entry for every mode; ``mitigated`` is what is expected with ``mitigations`` on (the decisive
    one stands first; None: no mitigation changes anything). ``generations`` says since when and on what the attack was
    shown. ``claim`` names the row of AMD's table of claims
    (attacks/claims.py) that it tests: the oracle of the matrix. ``breaks_claim`` cites the CVE or paper for the modes
    where the table is contradicted. ``experiment`` performs it in the software model.
    """

    name: str
    title: str
    aim: Aim
    summary: str
    preconditions: Sequence[str]
    generations: str
    sources: Sequence[Source]
    expected: Mapping[Mode, Expectation]
    mitigations: Sequence[Mitigation]
    mitigated: Expectation | None
    claim: str | None
    experiment: Experiment
    breaks_claim: Source | None = None

    def expectation(self, mode: Mode, mitigations: frozenset[Mitigation] = frozenset()) -> Expectation:
        """What should happen in a mode with these mitigations on; the first one that an attack names is decisive."""
        plain = self.expected[mode]
        if self.mitigated is None or plain.outcome is Outcome.NOT_APPLICABLE:
            return plain
        return self.mitigated if self.mitigations[0] in effective(mode, mitigations) else plain

    def perform(self, notebook: Notebook) -> Observation:
        """Run the experiment in the model, unless the mode lacks what the attack is about."""
        expectation = self.expected[notebook.mode]
        if expectation.outcome is Outcome.NOT_APPLICABLE:
            notebook.setup(expectation.why)
            return Observation(Outcome.NOT_APPLICABLE, expectation.why)
        return self.experiment(notebook)
