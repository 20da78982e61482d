"""What the attack commands print with --json, as types: the schema that `sevkit schema` prints comes from here."""

from typing import Any, NotRequired, TypedDict


class StepRow(TypedDict):
    """One entry of the notebook."""

    stage: str
    text: str
    data: str | None


class About(TypedDict):
    """An attack without its experiments."""

    name: str
    title: str
    aim: str
    summary: str
    preconditions: list[str]
    generations: str
    sources: list[str]
    mitigations: list[str]
    claim: str | None


class Hit(TypedDict):
    """Where a secret stands; ``gpa`` is null outside of guest RAM."""

    address: int
    gpa: int | None
    region: str
    secret: str


class Captured(TypedDict):
    """What attacks that capture memory add: the verdict and what it rests on (docs/leak.md)."""

    verdict: NotRequired[str]
    evidence: NotRequired[str | None]
    predicted: NotRequired[str]
    as_predicted: NotRequired[bool]
    reasons: NotRequired[list[str]]
    hits: NotRequired[list[Hit]]
    coverage: NotRequired[dict[str, int]]
    controls: NotRequired[dict[str, bool]]
    pages: NotRequired[dict[str, int]]
    phases: NotRequired[dict[str, float]]


class Experiment(Captured):
    """One attack in one mode at one level. ``detail`` holds what this attack has of its own."""

    attack: str
    mode: str
    level: str
    provenance: str
    form: str
    expected: str
    why: str
    observed: str
    as_expected: bool
    check: str
    mitigations: list[str]
    mitigations_on: list[str]
    claim: str | None
    cites: str | None
    steps: list[StepRow]
    seconds: float
    guest_log: list[str]
    detail: dict[str, Any]
    details: dict[str, Any]


class RunData(About):
    """`attack run`. ``provenance`` is null when the experiments' differ."""

    attack: str
    as_predicted: bool
    provenance: str | None
    seconds: float
    started: str
    versions: dict[str, str]
    experiments: list[Experiment]


class PlannedRow(TypedDict):
    """One mode of a dry run; ``hypervisor`` and ``command_line`` are null without a guest.

    ``guest`` names one that runs already.
    """

    mode: str
    level: str
    form: str
    hypervisor: str | None
    command_line: list[str] | None
    guest: str | None


class PlanData(TypedDict):
    """`attack run --dry-run`."""

    attack: str
    dry_run: bool
    plan: list[PlannedRow]
    capture: str | None
    would_write: dict[str, str]


class MatrixCell(TypedDict):
    """One cell. ``agrees``: with the model; null where that cannot be said, with the reason in ``not_compared``."""

    attack: str
    mode: str
    level: str
    provenance: str
    column: str
    mitigations: list[str]
    expected: str
    observed: str
    check: str
    as_expected: bool
    why: str
    claim: str | None
    cites: str | None
    seconds: float
    agrees: bool | None
    not_compared: str | None


class Unavailable(TypedDict):
    """A mode whose guests do not run at a level here."""

    level: str
    mode: str
    reason: str


class MatrixData(TypedDict):
    """`attack matrix`."""

    provenance: str | None
    levels: list[str]
    seed: int
    columns: list[str]
    attacks: list[About]
    cells: list[MatrixCell]
    unavailable: list[Unavailable]
    as_expected: bool
    deviations: list[MatrixCell]
    disagreements: list[MatrixCell]
    contradicted_claims: list[MatrixCell]


class PlannedCell(TypedDict):
    """One cell of a dry run."""

    attack: str
    level: str
    mode: str
    column: str


class MatrixPlan(TypedDict):
    """`attack matrix --dry-run`."""

    dry_run: bool
    cells: list[PlannedCell]


class ExerciseRow(TypedDict):
    """An exercise of the course."""

    number: int
    title: str
    attack: str
    mode: str
    question: str
    answer_is: str


class Explained(Experiment, About):
    """`attack explain`: one cell with its story."""

    column: str


class Told(Experiment, About):
    """An experiment with what it is about."""


class Exercises(TypedDict):
    """`lab list`."""

    exercises: list[ExerciseRow]


class LabChecked(TypedDict):
    """`lab check`. ``right`` is null when the experiment was inconclusive."""

    exercise: ExerciseRow
    answer: str
    right: bool | None
    experiment: Told


class ListedAttack(TypedDict):
    """An attack, and the levels at which it can be performed."""

    name: str
    title: str
    summary: str
    levels: list[str]


class ListData(TypedDict):
    """`attack list`; with --generation also what is published, judged (as `sevkit tcb` prints it)."""

    attacks: list[ListedAttack]
    generation: NotRequired[str]
    mode: NotRequired[str]
    published: NotRequired[list[dict[str, Any]]]
