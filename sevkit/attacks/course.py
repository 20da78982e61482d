"""The exercises of the course: a question about an attack, answered by performing it.

This file holds no answers: the result of the experiment is right, at the strongest level that works on this machine.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sevkit.attacks import find, runner
from sevkit.attacks.experiment import Mitigation, Outcome
from sevkit.attacks.payload import ExerciseRow
from sevkit.attacks.plan import Target
from sevkit.attacks.runner import Run
from sevkit.errors import UsageError
from sevkit.vocabulary import Evidence, Level, Mode


@dataclass(frozen=True)
class Exercise:
    """A question. ``asks`` is the kind of answer: an outcome, an evidence, a check, or a mitigation."""

    number: int
    title: str
    attack: str
    mode: Mode
    question: str
    asks: str
    level: Level | None = None

    def as_dict(self) -> ExerciseRow:
        """The exercise as JSON values."""
        return {
            "number": self.number,
            "title": self.title,
            "attack": self.attack,
            "mode": str(self.mode),
            "question": self.question,
            "answer_is": self.asks,
        }


_OUTCOME, _EVIDENCE = "works or stopped", "plaintext, ciphertext, zero or hole"
_CHECK, _MITIGATION = "the name of a check", "the name of a mitigation"
EXERCISES = (
    Exercise(1, "Read a guest's memory", "leak", Mode.NOSEV, "What does a dump show of a plain guest?", _EVIDENCE),
    Exercise(2, "Encrypt it", "leak", Mode.SEV, "What does a dump show of a SEV guest's pages?", _EVIDENCE),
    Exercise(3, "Replay it", "replay", Mode.SEV, "Does replay of old memory work against SEV?", _OUTCOME),
    Exercise(4, "Stop the replay", "replay", Mode.SEV_SNP, "Which check of SEV-SNP stops the replay?", _CHECK),
    Exercise(
        5,
        "Validate twice",
        "double-validate",
        Mode.SEV_SNP,
        "Does the swap of a page work against a guest that validates again?",
        _OUTCOME,
        Level.MODEL,
    ),
    Exercise(6, "Leak registers", "register-leak", Mode.SEV, "Does the host get a SEV guest's registers?", _OUTCOME),
    Exercise(
        7,
        "Verify a report",
        "tcb-rollback",
        Mode.SEV_SNP,
        "Which check keeps an old firmware from claiming to be the newest?",
        _CHECK,
        Level.MODEL,
    ),
    Exercise(
        8,
        "Find the mitigation",
        "badram",
        Mode.SEV_SNP,
        "Which mitigation stops a memory module with ghost addresses?",
        _MITIGATION,
        Level.MODEL,
    ),
)


@dataclass(frozen=True)
class Marked:
    """An answer compared with an experiment. ``right`` is None if the experiment was inconclusive."""

    exercise: Exercise
    answer: str
    right: bool | None
    run: Run


def exercise(number: int) -> Exercise:
    """The exercise of that number; raises UsageError."""
    for each in EXERCISES:
        if each.number == number:
            return each
    raise UsageError(f"there is no exercise {number}", hint=f"exercises: 1 to {len(EXERCISES)}")


def check(
    number: int, answer: str, target: Target | None = None, progress: Callable[[str], None] = lambda _: None
) -> Marked:
    """Perform the exercise's experiment and compare the answer with it; raises UsageError for an invalid answer."""
    asked, word = exercise(number), answer.strip().lower()
    possible = {_OUTCOME: ("works", "stopped"), _EVIDENCE: tuple(Evidence)}.get(asked.asks)
    if not word or (possible is not None and word not in possible):
        raise UsageError(f"{answer!r} is not an answer", hint=f"answer with {asked.asks}")
    target = replace(target or Target(capture="live"), mitigations=_switched_on(asked, word))
    if asked.level is not None:
        if target.level not in (None, asked.level):
            raise UsageError(f"exercise {number} is at level {asked.level} only", hint="leave --level out")
        target = replace(target, level=asked.level)
    (run,) = runner.run(find(asked.attack), [asked.mode], target, progress=progress)
    return Marked(asked, word, None if run.outcome is Outcome.INCONCLUSIVE else _fits(asked, word, run), run)


def _switched_on(asked: Exercise, word: str) -> frozenset[Mitigation]:
    """The mitigation that an answer names; raises UsageError with the valid names."""
    if asked.asks != _MITIGATION:
        return frozenset()
    try:
        return frozenset({Mitigation(word)})
    except ValueError as error:
        raise UsageError(f"{word!r} is not a mitigation", hint=f"known: {', '.join(Mitigation)}") from error


def _fits(asked: Exercise, word: str, run: Run) -> bool:
    if asked.asks == _OUTCOME:
        return word == str(run.outcome)
    if asked.asks == _EVIDENCE:
        return word == run.observation.captured.get("evidence")
    if asked.asks == _CHECK:
        return word == run.observation.check
    return run.outcome is Outcome.STOPPED
