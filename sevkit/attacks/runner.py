"""Perform an attack: one loop for all attacks and levels, one form of result, one rule for the exit code."""

import platform as host
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

from sevkit import __version__
from sevkit.attacks.claims import THREATS, Claim
from sevkit.attacks.experiment import Attack, Expectation, Form, Mitigation, Notebook, Observation, Outcome, Step
from sevkit.attacks.flaws import Flaw, passed
from sevkit.attacks.labs.guest_lab import GuestLab, describe
from sevkit.attacks.payload import About, Experiment, RunData
from sevkit.attacks.plan import Planned, Target, plan
from sevkit.attacks.sessions import Session, opened
from sevkit.errors import ExitCode, InconclusiveError, UsageError
from sevkit.guest import verify
from sevkit.hypervisor.protocols import Guest
from sevkit.vocabulary import Level, Mode

Progress = Callable[[str], None]
Listener = Callable[[Step], None]
_AT_ONCE = 2  # guests whose memory is captured and searched


@dataclass(frozen=True)
class Run:
    """One attack performed in one mode at one level. ``seconds`` includes the boot of a real guest.

    ``details`` says what it ran on; ``guest_log`` has the lines of the guest's kernel log that mention encryption.
    ``flaws``: those of the modelled platform.
    """

    attack: Attack
    mode: Mode
    level: Level
    form: Form
    mitigations: frozenset[Mitigation]
    expectation: Expectation
    observation: Observation
    steps: tuple[Step, ...]
    seconds: float
    details: Mapping[str, Any] = field(default_factory=dict)
    guest_log: tuple[str, ...] = ()
    flaws: tuple[Flaw, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What the attack achieved."""
        return self.observation.outcome

    @property
    def reason(self) -> str:
        """The conclusion in words: for an inconclusive run, why."""
        return self.steps[-1].text if self.steps else self.observation.check

    @property
    def as_expected(self) -> bool:
        """Whether the experiment ended as it should."""
        return self.outcome is self.expectation.outcome

    @property
    def claim(self) -> Claim | None:
        """What AMD's table says about this attack and mode."""
        return THREATS[self.attack.claim].claim(self.mode) if self.attack.claim else None

    @property
    def contradicts_claim(self) -> bool:
        """Whether the attack works although AMD's table says that the mode mitigates it."""
        return self.claim is Claim.MITIGATED and self.outcome is Outcome.WORKS

    @property
    def cites(self) -> str | None:
        """The publication that shows the attack on real hardware, if it worked here against an encrypted guest."""
        if self.outcome is not Outcome.WORKS or self.mode is Mode.NOSEV:
            return None
        if self.attack.falls_with in passed(self.flaws):
            return "; ".join(f"{flaw.name}, {flaw.bulletin} (secondary)" for flaw in self.flaws if flaw.passes)
        if self.attack.breaks_claim:
            return str(self.attack.breaks_claim)
        shown = [each for each in self.attack.sources if not each.text.startswith("AMD,")] or self.attack.sources
        return "; ".join(map(str, shown))

    def as_dict(self) -> Experiment:
        """The run as JSON values."""
        captured = dict(self.observation.captured)
        details = {**self.details, **captured.pop("details", {})}
        common: Experiment = {
            "attack": self.attack.name,
            "mode": str(self.mode),
            "level": str(self.level),
            "provenance": str(self.level.provenance),
            "form": str(self.form),
            "expected": str(self.expectation.outcome),
            "why": self.expectation.why,
            "observed": str(self.outcome),
            "as_expected": self.as_expected,
            "check": self.observation.check,
            "mitigations": [str(each) for each in self.attack.mitigations if each in self.mitigations],
            "mitigations_on": sorted(map(str, self.mitigations)),
            "claim": None if self.claim is None else str(self.claim),
            "cites": self.cites,
            "steps": [{"stage": str(step.stage), "text": step.text, "data": step.data} for step in self.steps],
            "seconds": round(self.seconds, 3),
            "guest_log": list(self.guest_log),
            "detail": dict(self.observation.detail),
            "details": details,
        }
        return cast("Experiment", {**common, **captured})


def run(
    attack: Attack,
    modes: Sequence[Mode],
    target: Target,
    *,
    progress: Progress = lambda _: None,
    listener: Callable[[Planned], Listener] | None = None,
) -> list[Run]:
    """Perform an attack in each mode. Everything is checked before the first guest starts."""
    return list(run_planned(attack, plan(attack, modes, target, progress=progress), target, progress, listener))


def run_planned(
    attack: Attack,
    planned: Sequence[Planned],
    target: Target,
    progress: Progress = lambda _: None,
    listener: Callable[[Planned], Listener] | None = None,
) -> Iterator[Run]:
    """Perform the plan: real guests boot in parallel, then the modes are performed, in the order of the plan.

    An attack that captures memory is performed on two guests at a time: while one is dumped, the other is searched.
    """
    with opened(planned, target.timeout, progress) as sessions:

        def perform(each: Planned) -> Run:
            heard = listener(each) if listener else None
            if each.form is Form.MODEL:
                return in_model(attack, each.mode, target.mitigations, seed=target.seed, listener=heard)
            session = sessions[each.mode]
            try:
                return on_guest(attack, session, target, progress, heard)
            finally:
                session.end()

        if not attack.captures or listener:
            yield from map(perform, planned)
            return
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            running = [pool.submit(perform, each) for each in planned]
            try:
                for each in running:
                    yield each.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for session in sessions.values():  # without its guest an experiment ends at once
                    session.end()
                raise


def in_model(
    attack: Attack,
    mode: Mode,
    mitigations: frozenset[Mitigation] = frozenset(),
    *,
    seed: int = 1,
    listener: Listener | None = None,
    disabled_checks: frozenset[str] = frozenset(),
    flaws: Sequence[Flaw] = (),
) -> Run:
    """Perform an attack in the software model; raises UsageError if the attack has no form for it.

    ``flaws`` are those of the platform; ``disabled_checks`` are left out of the RMP, and the expectation stays.
    """
    if attack.model is None:
        raise UsageError(f"{attack.name} has no form for the software model", hint="sevkit attack run")
    began = time.monotonic()
    note = Notebook(mode, mitigations, seed=seed, listener=listener, disabled_checks=disabled_checks | passed(flaws))
    observation = attack.perform(note)
    return Run(
        attack,
        mode,
        Level.MODEL,
        Form.MODEL,
        note.mitigations,
        attack.expectation(mode, note.mitigations, passed=passed(flaws)),
        observation,
        tuple(note.steps),
        time.monotonic() - began,
        {"seed": seed},
        flaws=tuple(flaws),
    )


def on_guest(
    attack: Attack, session: Session, target: Target, progress: Progress, listener: Listener | None = None
) -> Run:
    """Perform an attack on a running guest. If it cannot be decided, the outcome is inconclusive, with the reason."""
    guest, mode = session.guest, session.planned.mode
    level = Level.of(guest.provenance)
    began = time.monotonic()
    mitigations = attack.mitigations_of(guest.spec) if attack.mitigations_of else frozenset()
    note = Notebook(mode, mitigations, listener=listener)
    lab = GuestLab(guest, target.capture, target.keep, session.boot_seconds, session.pages, progress)
    lab.as_published = target.as_published
    lab.launch = partial(session.planned.hypervisor.launch, timeout=target.timeout)
    details, log = _before(session, guest)
    boot, session.boot_seconds = session.boot_seconds, 0.0
    assert attack.guest is not None
    try:
        observation = attack.guest(lab, note)
    except InconclusiveError as error:
        observation = note.inconclusive("not-found", error.message)
    return Run(
        attack,
        mode,
        level,
        Form.GUEST,
        note.mitigations,
        attack.expectation(mode, note.mitigations, level),
        observation,
        tuple(note.steps),
        boot + time.monotonic() - began,
        details,
        log,
    )


def _before(session: Session, guest: Guest) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Facts about the guest, collected before the attack: it may not survive the attack."""
    choice = session.planned.choice
    assert choice is not None
    chosen = {
        "hypervisor": choice.hypervisor.name,
        "why_this_hypervisor": choice.reason,
        "passed_over": list(choice.passed_over),
    }
    return {**chosen, **describe(guest)}, tuple(verify.collect(guest).log_lines)


def exit_code(runs: Sequence[Run]) -> int:
    """INCONCLUSIVE if one run is, else DONE or NO: whether all ended as expected."""
    if any(each.outcome is Outcome.INCONCLUSIVE for each in runs):
        return ExitCode.INCONCLUSIVE
    return ExitCode.DONE if all(each.as_expected for each in runs) else ExitCode.NO


def as_data(attack: Attack, runs: Sequence[Run], started: datetime, seconds: float) -> RunData:
    """All runs of an attack as JSON values; from ``started``, they took ``seconds``."""
    provenances = list(dict.fromkeys(str(each.level.provenance) for each in runs))
    return {
        **about(attack),
        "attack": attack.name,
        "as_predicted": all(each.as_expected for each in runs),
        "provenance": provenances[0] if len(provenances) == 1 else None,  # null: each experiment has its own
        "seconds": round(seconds, 3),
        "started": started.astimezone(UTC).isoformat(timespec="seconds"),
        "versions": _versions(runs),
        "experiments": [each.as_dict() for each in runs],
    }


def about(attack: Attack) -> About:
    """An attack without its experiments, as JSON values."""
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


def _versions(runs: Sequence[Run]) -> dict[str, str]:
    """The versions that the result depends on; they are recorded with every verdict."""
    versions = {"sevkit": __version__, "python": host.python_version(), "host kernel": host.release()}
    for each in runs:
        versions |= {f"{name} ({each.mode})": text for name, text in each.details.get("versions", {}).items()}
    return versions
