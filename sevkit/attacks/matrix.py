"""The matrix: every attack in every mode, expected against observed, and AMD's table of claims against both."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sevkit.attacks.claims import THREATS, Claim
from sevkit.attacks.experiment import COLUMNS, Attack, Mitigation, Notebook, Observation, Outcome
from sevkit.vocabulary import Mode, Provenance


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
    expectation = attack.expectation(notebook.mode, notebook.mitigations)
    claim = THREATS[attack.claim].claim(notebook.mode) if attack.claim else None
    relevant = tuple(str(each) for each in attack.mitigations if each in notebook.mitigations)
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
    if attack.breaks_claim:
        return str(attack.breaks_claim)
    shown = [source for source in attack.sources if not source.text.startswith("AMD,")] or attack.sources
    return "; ".join(map(str, shown))


def run_matrix(attacks: Iterable[Attack], *, seed: int = 1) -> Iterator[Cell]:
    """All cells, attack by attack, column by column."""
    for attack in attacks:
        for mode, mitigated in COLUMNS:
            yield run_cell(attack, mode, mitigated, seed=seed)[0]


def as_data(attacks: Iterable[Attack], cells: Iterable[Cell], seed: int) -> dict[str, Any]:
    """The matrix as JSON-ready data: ``cells`` as the result format has them, and all that a reader needs beside."""
    made = list(cells)
    return {
        "provenance": str(Provenance.MOCK),
        "seed": seed,
        "columns": [column_name(mode, mitigated) for mode, mitigated in COLUMNS],
        "attacks": [describe(attack) for attack in attacks],
        "cells": [cell.as_dict() for cell in made],
        "as_expected": all(cell.as_expected for cell in made),
        "deviations": [cell.as_dict() for cell in made if not cell.as_expected],
        "contradicted_claims": [cell.as_dict() for cell in made if cell.contradicts_claim],
    }


def describe(attack: Attack) -> dict[str, Any]:
    """An attack without its experiment."""
    return {
        "name": attack.name,
        "title": attack.title,
        "aim": str(attack.aim),
        "summary": attack.summary,
        "preconditions": list(attack.preconditions),
        "generations": attack.generations,
        "sources": [str(source) for source in attack.sources],
        "mitigations": [str(each) for each in attack.mitigations],
        "claim": THREATS[attack.claim].title if attack.claim else None,
    }


def story(attack: Attack, notebook: Notebook, cell: Cell) -> dict[str, Any]:
    """One experiment with every entry of its notebook."""
    steps = [{"stage": str(step.stage), "text": step.text, "data": step.data} for step in notebook.steps]
    mitigations = sorted(str(each) for each in notebook.mitigations)
    return {**describe(attack), **cell.as_dict(), "mitigations_on": mitigations, "steps": steps}
