"""The matrix: every attack in every mode, expected against observed, at one level or at several levels."""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from sevkit.attacks import flaws as flaws_of
from sevkit.attacks import runner
from sevkit.attacks.experiment import COLUMNS, Attack, Form, Mitigation, Notebook, Observation, Outcome
from sevkit.attacks.flaws import Flaw
from sevkit.attacks.payload import MatrixCell, MatrixData, PlannedCell
from sevkit.attacks.plan import HYPERVISORS, Planned, Target, plan
from sevkit.attacks.runner import Run
from sevkit.attacks.sessions import Session, opened
from sevkit.errors import GuestError, HypervisorError, SevkitError
from sevkit.guest.spec import GuestSpec
from sevkit.hypervisor import select
from sevkit.vocabulary import Level, Mode

MEMORY_MIB = 256  # of each guest: the host searches all of it
BUDGET = 600.0  # seconds for all experiments on real guests
_GUESTS_AT_ONCE = 2  # modes that are performed side by side: a guest with one vCPU needs one processor
OUT_OF_TIME = "the time for the matrix was over"
_SHOWN = (
    *("attack", "mode", "level", "provenance", "mitigations", "expected", "observed", "check", "as_expected", "why"),
    *("claim", "cites", "seconds"),
)


Place = tuple[str, str]  # attack, column


@dataclass(frozen=True)
class Cell:
    """One attack in one column at one level."""

    run: Run
    mitigated: bool
    flaws: tuple[Flaw, ...] = ()

    @property
    def place(self) -> Place:
        """Attack and column: cells of different levels with the same place are compared."""
        return self.run.attack.name, self.column

    @property
    def column(self) -> str:
        """The heading of the cell's column."""
        return vulnerable_column(self.flaws) if self.flaws else column_name(self.run.mode, self.mitigated)

    def as_dict(self, model: "Cell | None" = None) -> MatrixCell:
        """The cell as in ``data.cells``; ``model`` is the model's cell of the same place, if there is one."""
        whole = self.run.as_dict()
        shown = {key: value for key, value in whole.items() if key in _SHOWN}
        return cast("MatrixCell", {**shown, "column": self.column, **self._compared(model)})

    def _compared(self, model: "Cell | None") -> dict[str, object]:
        """Whether this level agrees with the model; null if they cannot be compared, with the reason."""
        if self.run.level is Level.MODEL or model is None:
            return {"agrees": None, "not_compared": None}
        declared = self.run.attack.differs.get((self.run.level, self.run.mode))
        if declared is not None:
            return {"agrees": None, "not_compared": declared.why}
        if self.run.outcome is Outcome.INCONCLUSIVE:
            return {"agrees": None, "not_compared": f"inconclusive: {self.run.reason}"}
        return {"agrees": self.run.outcome is model.run.outcome, "not_compared": None}


def column_name(mode: Mode, mitigated: bool) -> str:
    """The heading of a column."""
    return f"{mode} + mitigations" if mitigated else str(mode)


def vulnerable_column(flaws: Sequence[Flaw]) -> str:
    """The heading of the column of an unpatched platform."""
    return f"{Mode.SEV_SNP} + {', '.join(flaw.bulletin for flaw in flaws)}"


def in_model(
    attack: Attack, mode: Mode, mitigated: bool, *, seed: int = 1, disabled_checks: frozenset[str] = frozenset()
) -> Cell:
    """One cell in the software model. In the mitigated column all mitigations are on."""
    mitigations = frozenset(Mitigation) if mitigated else frozenset()
    return Cell(runner.in_model(attack, mode, mitigations, seed=seed, disabled_checks=disabled_checks), mitigated)


def run_model(attacks: Iterable[Attack], *, seed: int = 1) -> Iterator[Cell]:
    """All cells of the software model, attack by attack, column by column."""
    for attack in attacks:
        for mode, mitigated in COLUMNS if attack.model is not None else ():
            yield in_model(attack, mode, mitigated, seed=seed)


def run_vulnerable(attacks: Iterable[Attack], flaws: Sequence[Flaw], *, seed: int = 1) -> Iterator[Cell]:
    """The column of a SEV-SNP platform with these flaws, in the software model."""
    on = flaws_of.mitigations(flaws)
    for attack in attacks:
        if attack.model is not None:
            run = runner.in_model(attack, Mode.SEV_SNP, on, seed=seed, flaws=flaws)
            yield Cell(run, mitigated=False, flaws=tuple(flaws))


def available(level: Level) -> dict[Mode, str | None]:
    """For each mode: None if its guests run at this level here, else the reason why not."""
    hypervisor = select.make(HYPERVISORS[level])
    able = {mode: hypervisor.availability(mode) for mode in Mode}
    return {mode: None if each.available else each.reason for mode, each in able.items()}


def nothing_runs(level: Level) -> str | None:
    """The reason why no guest at all runs at a level here; None if at least one mode runs."""
    reasons = available(level)
    return None if None in reasons.values() else next(iter(reasons.values()))


def planned(attacks: Sequence[Attack], levels: Sequence[Level]) -> list[PlannedCell]:
    """The cells that would be performed, as JSON values; starts nothing."""
    cells: list[PlannedCell] = []
    for level in levels:
        missing = {} if level is Level.MODEL else available(level)
        for attack in attacks:
            for mode, mitigated in COLUMNS:
                real = not mitigated and attack.has_guest_form(mode) and missing.get(mode) is None
                if attack.model is not None if level is Level.MODEL else real:
                    column = column_name(mode, mitigated)
                    cells.append({"attack": attack.name, "level": str(level), "mode": str(mode), "column": column})
    return cells


def run_guests(
    attacks: Sequence[Attack],
    level: Level,
    *,
    progress: Callable[[str], None] = lambda _: None,
    budget: float = BUDGET,
    modes: Collection[Mode] = tuple(Mode),
) -> Iterator[Cell]:
    """All cells that real guests can show at this level, two modes at a time; a guest is reused while it answers.

    Cells for which ``budget`` seconds are not enough are inconclusive, with the reason.
    """
    course = _Course(time.monotonic() + budget)
    target = Target(level=level, capture="live", spec=GuestSpec(memory_mib=MEMORY_MIB))
    groups: list[tuple[Mode, list[Attack]]] = []
    for mode, missing in available(level).items():
        if missing is None and mode in modes:
            able = [attack for attack in attacks if attack.has_guest_form(mode)]
            images = dict.fromkeys(attack.image for attack in able)
            groups += [(mode, [attack for attack in able if attack.image == image]) for image in images]
    with ThreadPoolExecutor(_GUESTS_AT_ONCE) as pool:
        running = [pool.submit(_one_mode, alike, mode, target, course, progress) for mode, alike in groups]
        try:
            for each in running:
                yield from each.result()
        except BaseException:
            course.end()
            raise


@dataclass
class _Course:
    """What the threads of a matrix share: when the time is over, and the guests that run."""

    deadline: float
    sessions: list[Session] = field(default_factory=list)
    repeated: set[tuple[Mode, str]] = field(default_factory=set)

    def deserves_another(self, run: Run) -> bool:
        """Whether an experiment is to be performed in a fresh guest: once, if it shows neither this nor that."""
        if run.outcome is not Outcome.INCONCLUSIVE or run.as_expected or self.over:
            return False
        place = run.mode, run.attack.name
        first = place not in self.repeated
        self.repeated.add(place)
        return first

    @property
    def over(self) -> bool:
        """Whether nothing new may begin."""
        return time.monotonic() > self.deadline

    def end(self) -> None:
        """Begin nothing new; without its guest an experiment ends at once."""
        self.deadline = 0.0
        for session in list(self.sessions):
            session.end()


def _one_mode(
    attacks: Sequence[Attack], mode: Mode, target: Target, course: _Course, progress: Callable[[str], None]
) -> list[Cell]:
    """All attacks on guests of one mode and image: the same guest for as long as it answers, then a fresh one.

    An experiment that shows neither this nor that is performed once more, in a fresh guest.
    """
    left, cells = list(attacks), list[Cell]()
    while left:
        planned = plan(left[0], [mode], target, progress=progress)
        if course.over:
            return cells + [Cell(_not_run(attack, planned[0], OUT_OF_TIME), False) for attack in left]
        try:
            with opened(planned, target.timeout, progress) as sessions:
                course.sessions.append(sessions[mode])
                cells += _while_it_lives(left, sessions[mode], target, course, progress)
        except SevkitError as error:  # no guest boots: continue with the other modes
            return cells + [Cell(_not_run(attack, planned[0], error.message), False) for attack in left]
    return cells


def _while_it_lives(
    left: list[Attack], session: Session, target: Target, course: _Course, progress: Callable[[str], None]
) -> Iterator[Cell]:
    """Perform the attacks in ``left`` while the guest answers; removes those that need not be performed again."""
    while left:
        attack = left.pop(0)
        if course.over:
            yield Cell(_not_run(attack, session.planned, OUT_OF_TIME), False)
            continue
        progress(f"{session.planned.mode}: {attack.name}")
        run = _performed(attack, session, target, progress)
        if course.deserves_another(run):
            progress(f"{run.mode}: {attack.name}: inconclusive ({run.reason}); once more in a fresh guest")
            left.insert(0, attack)
            return
        yield Cell(run, False)
        if not _answers(session):
            return


def _performed(attack: Attack, session: Session, target: Target, progress: Callable[[str], None]) -> Run:
    try:
        return runner.on_guest(attack, session, target, progress)
    except SevkitError as error:  # a failing guest must not lose the results of the other cells
        return _not_run(attack, session.planned, error.message)


def _not_run(attack: Attack, planned: Planned, why: str) -> Run:
    note = Notebook(planned.mode)
    note.setup(why)
    expectation = attack.expectation(planned.mode, level=planned.level)
    observation = Observation(Outcome.INCONCLUSIVE, why)
    steps = tuple(note.steps)
    return Run(attack, planned.mode, planned.level, Form.GUEST, frozenset(), expectation, observation, steps, 0.0)


def _answers(session: Session) -> bool:
    """Whether the guest still executes commands."""
    try:
        return session.guest.alive() and session.guest.run("true", timeout=20).status == 0
    except (GuestError, HypervisorError):
        return False


def _model_of(cell: Cell, seed: int) -> Cell | None:
    """The model's cell of the same place, to compare with; None if the attack has no form there."""
    attack, mode, mitigated = cell.run.attack, cell.run.mode, cell.mitigated
    return in_model(attack, mode, mitigated, seed=seed) if attack.model is not None else None


def _columns(flaws: Sequence[Flaw]) -> list[str]:
    """The headings of all columns, in order."""
    names = [column_name(mode, mitigated) for mode, mitigated in COLUMNS]
    return [*names, vulnerable_column(flaws)] if flaws else names


def as_data(
    attacks: Sequence[Attack], cells: Iterable[Cell], levels: Sequence[Level], seed: int, flaws: Sequence[Flaw] = ()
) -> MatrixData:
    """The matrix as JSON values: ``cells`` in the order of attacks, columns and levels."""
    order = {attack.name: number for number, attack in enumerate(attacks)}
    columns = _columns(flaws)
    made = sorted(cells, key=lambda c: (order[c.run.attack.name], columns.index(c.column)))
    models: dict[Place, Cell | None] = {cell.place: cell for cell in made if cell.run.level is Level.MODEL}
    models |= {cell.place: _model_of(cell, seed) for cell in made if cell.place not in models}
    shown = [cell.as_dict(models.get(cell.place)) for cell in made]
    provenances = [str(level.provenance) for level in levels]
    return {
        "provenance": provenances[0] if len(provenances) == 1 else None,  # null: each cell has its own
        "levels": [str(level) for level in levels],
        "seed": seed,
        "columns": columns,
        "attacks": [runner.about(attack) for attack in attacks],
        "cells": shown,
        "unavailable": [
            {"level": str(level), "mode": str(mode), "reason": reason}
            for level in levels
            if level is not Level.MODEL
            for mode, reason in available(level).items()
            if reason is not None
        ],
        "as_expected": all(cell.run.as_expected for cell in made),
        "deviations": [each for each in shown if not each["as_expected"]],
        "disagreements": [each for each in shown if each["agrees"] is False],
        "contradicted_claims": [each for cell, each in zip(made, shown, strict=True) if cell.run.contradicts_claim],
    }
