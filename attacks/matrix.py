"""The matrix: every attack in every mode, expected against observed, and AMD's table of claims against both."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sevkit.attacks.base import COLUMNS, Attack, Mitigation, Notebook, Observation, Outcome
from sevkit.attacks.claims import THREATS, Claim
from sevkit.words import Mode


@dataclass(frozen=True)
class Cell:
    """One attack in one column."""

    attack: str
    mode: Mode
    mitigations: tuple[str, ...]
    mitigated: bool
    expected: Outcome
    observed: Outcome
    check: str
    why: str
    claim: Claim | None
    cites: str | None

    @property
    def as_expected(self) -> bool:
        """Whether the experiment ended as it should."""
        return self.expected is self.observed

    @property
    def contradicts_claim(self) -> bool:
        """Whether the attack works although AMD's table says that the mode mitigates it."""
        return self.claim is Claim.MITIGATED and self.observed is Outcome.WORKS

    def as_dict(self) -> dict[str, object]:
        """The cell as it stands in ``data.cells``."""
        return {
            "attack": self.attack,
            "mode": str(self.mode),
            "mitigations": list(self.mitigations),
            "expected": str(self.expected),
            "observed": str(self.observed),
            "check": self.check,
            "column": column_name(self.mode, self.mitigated),
            "as_expected": self.as_expected,
            "why": self.why,
            "claim": None if self.claim is None else str(self.claim),
            "cites": self.cites,
        }


def column_name(mode: Mode, mitigated: bool) -> str:
    """The heading of a column."""
    return f"{mode} + mitigations" if mitigated else str(mode)


def run_cell(
    attack: Attack, mode: Mode, mitigated: bool, *, seed: int = 1, disabled_checks: frozenset[str] = frozenset()
) -> tuple[Cell, Notebook]:
    """Perform one experiment of the matrix. The mitigated column has every mitigation there is switched on."""
    mitigations = frozenset(Mitigation) if mitigated else frozenset()
    notebook = Notebook(mode, mitigations, seed=seed, disabled_checks=disabled_checks)
    observation = attack.perform(notebook)
    return make_cell(attack, notebook, mitigated, observation), notebook


def make_cell(attack: Attack, notebook: Notebook, mitigated: bool, observation: Observation) -> Cell:
    """The cell of an experiment that has ended."""
    expectation = attack.expectation(notebook.mode, mitigated)
    claim = THREATS[attack.claim].claim(notebook.mode) if attack.claim else None
    relevant = tuple(str(each) for each in attack.mitigations) if mitigated else ()
    return Cell(
        attack.name,
        notebook.mode,
        relevant,
        mitigated,
        expectation.outcome,
        observation.outcome,
        observation.check,
        expectation.why,
        claim,
        _cites(attack) if observation.outcome is Outcome.WORKS and notebook.mode is not Mode.NOSEV else None,
    )


def _cites(attack: Attack) -> str:
    """The CVE or paper that shows the attack on real parts."""
    return str(attack.breaks_claim) if attack.breaks_claim else "; ".join(str(source) for source in attack.sources)


def run_matrix(attacks: Iterable[Attack], *, seed: int = 1) -> Iterator[Cell]:
    """All cells, attack by attack, column by column."""
    for attack in attacks:
        for mode, mitigated in COLUMNS:
            yield run_cell(attack, mode, mitigated, seed=seed)[0]
