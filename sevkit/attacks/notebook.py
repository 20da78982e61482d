"""The notebook in which an experiment records its steps, and the observation at its end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sevkit.attacks.mitigations import Mitigation, effective
from sevkit.vocabulary import Mode

if TYPE_CHECKING:
    from sevkit.memory.guest_ram.picture import Picture


class Outcome(StrEnum):
    """What an attack achieved. For one that reads memory, ``works`` is what a leak test calls ``leaked``."""

    WORKS = "works"
    STOPPED = "stopped"
    NOT_APPLICABLE = "n/a"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Observation:
    """What happened. ``check`` names the check that fired, or the property that let the attack through.

    ``detail`` has JSON values specific to the attack. ``captured`` is what an attack that captures memory adds to its
    result (payload.Captured, and ``details``).
    """

    outcome: Outcome
    check: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    captured: Mapping[str, Any] = field(default_factory=dict)
    picture: "Picture | None" = None


class Stage(StrEnum):
    """The order of a lab notebook."""

    SETUP = "setup"
    PREDICTION = "prediction"
    HOST = "what the host does"
    GUEST = "what the guest sees"
    VERDICT = "verdict"


@dataclass(frozen=True)
class Step:
    """One entry of the notebook: the stage of the experiment, and what happened, with bytes if they are of interest."""

    stage: Stage
    text: str
    data: str | None = None


class Notebook:
    """The record of a running experiment; ``listener`` is called with each entry at once (the narrated demo)."""

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
        """Record what is prepared."""
        self._write(Stage.SETUP, text, data)

    def predict(self, text: str, data: str | bytes | None = None) -> None:
        """Record what should happen if the attack works, and if it does not."""
        self._write(Stage.PREDICTION, text, data)

    def host(self, text: str, data: str | bytes | None = None) -> None:
        """Record what the host does, as the attacker."""
        self._write(Stage.HOST, text, data)

    def guest(self, text: str, data: str | bytes | None = None) -> None:
        """Record what the guest does or sees."""
        self._write(Stage.GUEST, text, data)

    def verdict(self, text: str, data: str | bytes | None = None) -> None:
        """Record the conclusion."""
        self._write(Stage.VERDICT, text, data)

    def works(self, check: str, text: str, **detail: Any) -> Observation:
        """Close the experiment: the attack succeeded, because of ``check``."""
        self.verdict(text)
        return Observation(Outcome.WORKS, check, detail)

    def stopped(self, check: str, text: str, **detail: Any) -> Observation:
        """Close the experiment: ``check`` stopped the attack."""
        self.verdict(text)
        return Observation(Outcome.STOPPED, check, detail)

    def inconclusive(self, check: str, text: str, **detail: Any) -> Observation:
        """Close the experiment without an answer; ``text`` is the reason."""
        self.verdict(text)
        return Observation(Outcome.INCONCLUSIVE, check, detail)

    def _write(self, stage: Stage, text: str, data: str | bytes | None) -> None:
        step = Step(stage, text, _shown(data) if isinstance(data, bytes) else data)
        self.steps.append(step)
        if self._listener is not None:
            self._listener(step)


def _shown(data: bytes) -> str:
    """Bytes in hexadecimal, and also as text if they are text."""
    text = f'  "{data.decode()}"' if data and all(0x20 <= byte < 0x7F for byte in data) else ""
    return data.hex(" ", 4) + text
