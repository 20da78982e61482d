"""The definition of an attack: data about it, and up to two experiments, in the software model and on a real guest.

A file that defines an attack imports all names that it needs from here.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from sevkit.attacks.mitigations import Mitigation, effective
from sevkit.attacks.notebook import Notebook, Observation, Outcome, Stage, Step
from sevkit.guest.spec import GuestSpec
from sevkit.vocabulary import Level, Mode

if TYPE_CHECKING:
    from sevkit.attacks.labs.guest_lab import GuestLab

__all__ = [
    "COLUMNS",
    "Aim",
    "Attack",
    "Expectation",
    "Form",
    "GuestExperiment",
    "Mitigation",
    "ModelExperiment",
    "Notebook",
    "Observation",
    "Outcome",
    "Source",
    "Stage",
    "Step",
]


class Aim(StrEnum):
    """What an attack is after."""

    CONFIDENTIALITY = "confidentiality"
    INTEGRITY = "integrity"
    AVAILABILITY = "availability"


class Form(StrEnum):
    """The two ways to perform an attack: in the software model, or on a running guest."""

    MODEL = "model"
    GUEST = "guest"


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


ModelExperiment = Callable[[Notebook], Observation]
GuestExperiment = Callable[["GuestLab", Notebook], Observation]

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

    ``model`` performs it in the software model, ``guest`` on a real guest (hardware or emulator). ``expected`` has an
    entry for every mode and is valid at every level; ``differs`` has the cells where a level cannot show what the
    model shows, with the reason. ``guest_modes``: the modes in which the real-guest form can show something; None:
    all modes that the attack applies to. ``guest_levels``: the levels of the real-guest form. ``on_mock``: the
    real-guest form needs only the guest protocol, so `attack run` performs it on the mock's guests at level model.
    ``image``: the image that it needs in place of the default.
    ``mitigations_of``: the mitigations that a guest of a given spec has, when its launch options decide.
    ``captures``: the real-guest form captures the VMM's memory, so it supports ``--capture`` and ``--keep``.
    ``ends_guest``: why the guest may not survive it, so that it is only performed on guests launched for it.

    ``falls_with`` is the check that alone stops the attack under SEV-SNP: a flaw of the platform that lets the host
    past it (attacks/flaws.py) lets the attack through.

    ``mitigated`` is what is expected with ``mitigations`` on (the decisive one stands first, or with
    ``any_suffices`` each of them is enough; None: no mitigation changes anything). ``generations`` says since when and
    on what the attack was shown. ``claim`` names the row of AMD's table of claims (attacks/claims.py) that it tests:
    the oracle of the matrix. ``breaks_claim`` cites the CVE or paper for the modes where the table is contradicted.
    """

    name: str
    title: str
    aim: Aim
    summary: str
    preconditions: Sequence[str]
    generations: str
    sources: Sequence[Source]
    expected: Mapping[Mode, Expectation]
    mitigations: Sequence[Mitigation] = ()
    mitigated: Expectation | None = None
    any_suffices: bool = False
    falls_with: str | None = None
    claim: str | None = None
    model: ModelExperiment | None = None
    guest: GuestExperiment | None = None
    guest_modes: Collection[Mode] | None = None
    guest_levels: frozenset[Level] = frozenset({Level.HARDWARE, Level.EMULATOR})
    differs: Mapping[tuple[Level, Mode], Expectation] = field(default_factory=dict)
    on_mock: bool = False
    image: str | None = None
    mitigations_of: Callable[[GuestSpec], frozenset[Mitigation]] | None = None
    captures: bool = False
    ends_guest: str | None = None
    breaks_claim: Source | None = None

    def expectation(
        self,
        mode: Mode,
        mitigations: frozenset[Mitigation] = frozenset(),
        level: Level = Level.MODEL,
        passed: frozenset[str] = frozenset(),
    ) -> Expectation:
        """What should happen in a mode at a level with these mitigations, without the checks ``passed``."""
        plain = self.differs.get((level, mode), self.expected[mode])
        if mode is Mode.SEV_SNP and self.falls_with in passed:
            return Expectation(Outcome.WORKS, f"the platform's flaw lets the host past {self.falls_with}")
        if self.mitigated is None or plain.outcome is Outcome.NOT_APPLICABLE:
            return plain
        decisive = self.mitigations if self.any_suffices else self.mitigations[:1]
        return plain if effective(mode, mitigations).isdisjoint(decisive) else self.mitigated

    def applies(self, mode: Mode) -> bool:
        """Whether the attack is possible at all in this mode."""
        return self.expected[mode].outcome is not Outcome.NOT_APPLICABLE

    def has_guest_form(self, mode: Mode) -> bool:
        """Whether the attack can be performed on a real guest of this mode."""
        return self.guest is not None and self.applies(mode) and (self.guest_modes is None or mode in self.guest_modes)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels at which the attack can be performed, the strongest first."""
        real = tuple(level for level in Level if level in self.guest_levels and self.guest is not None)
        return (*real, Level.MODEL) if self.model is not None or self.on_mock else real

    def perform(self, notebook: Notebook) -> Observation:
        """Run the experiment in the model, unless the attack does not apply to the mode."""
        if not self.applies(notebook.mode):
            why = self.expected[notebook.mode].why
            notebook.setup(why)
            return Observation(Outcome.NOT_APPLICABLE, why)
        assert self.model is not None, f"{self.name} has no experiment in the model"
        return self.model(notebook)
