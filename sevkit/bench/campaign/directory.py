"""Set up a campaign: make a plan, an executor and a header from a profile and the user's changes."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sevkit.bench import suite
from sevkit.bench.campaign import estimate, executors, hostlock, plan, room
from sevkit.bench.campaign.plan import Plan
from sevkit.bench.campaign.run import Ending, Local, Progress, Scheduler, open_store, run
from sevkit.bench.suite import Profile
from sevkit.errors import UnsupportedModeError, UsageError
from sevkit.vocabulary import Mode

_PATIENCE = 600.0  # seconds to wait for another campaign on this host


@dataclass(frozen=True)
class Wish:
    """The user's request, in addition to the profile."""

    profile: Profile
    where: str = "guest"
    hypervisor: str = "auto"
    modes: tuple[Mode, ...] = ()
    suite_file: Path | None = None
    seed: int = 0
    pin: str | None = None
    timeout: float | None = None  # seconds that a sample may take, instead of each workload's own limit
    mock_delay: float = 0.0


@dataclass(frozen=True)
class Prepared:
    """A campaign that can be run."""

    plan: Plan
    setup: executors.Setup
    executor: Any
    missing_modes: Mapping[str, str]
    progress: Callable[[str], None] | None = None


def prepare(wish: Wish, progress: Callable[[str], None] | None = None) -> Prepared:
    """Find out what can be measured here; raises UnsupportedModeError when a requested mode cannot."""
    profile = wish.profile
    if profile.as_published:
        profile = as_published(profile)
    known = suite.workloads(wish.suite_file)
    chosen = suite.chosen(profile, known)
    if wish.timeout is not None:
        chosen = [replace(workload, timeout=wish.timeout) for workload in chosen]
    setup = executors.Setup(
        where=wish.where,
        hypervisor=wish.hypervisor,
        seconds=profile.seconds,
        pin=wish.pin or profile.pin,
        vcpus=max(profile.vcpus),
        seed=wish.seed,
        delay=wish.mock_delay,
    )
    executor = executors.make(setup, progress)
    wanted = wish.modes or profile.modes
    able, missing = executor.modes(wanted)
    if wish.modes and missing:
        reasons = "; ".join(f"{mode}: {reason}" for mode, reason in missing.items())
        raise UnsupportedModeError(f"not every mode asked for can be measured here: {reasons}")
    able = [mode for mode in wanted if mode in able]
    if profile.strongest and not wish.modes:
        able = [able[0], able[-1]] if len(able) > 1 else able
    made = plan.make(
        profile,
        chosen,
        able,
        where=wish.where,
        seed=wish.seed,
        mock_delay=wish.mock_delay,
        emulated=executor.emulated,
    )
    return Prepared(made, setup, executor, missing, progress)


def as_published(profile: Profile) -> Profile:
    """The profile with the study's mistakes: default cache, no warm-up, no control, one boot."""
    return replace(profile, cache=("writeback",), warmups=0, control=False, boots=1, most_boots=1, iterations=1)


def check(prepared: Prepared) -> None:
    """Refuse what cannot fit: the budget, the time limits of workloads, the memory and disks of this host."""
    estimate.check_budget(prepared.plan)
    room.check(prepared.plan)


def measure(
    prepared: Prepared,
    output: Path,
    *,
    scheduler: Scheduler | None = None,
    report: Callable[[Progress], None] | None = None,
) -> Ending:
    """Run or resume a campaign; raises UsageError or NoSpaceError if it cannot fit."""
    if scheduler is None:
        check(prepared)
        prepared = _settled(prepared)
    else:
        estimate.check_budget(prepared.plan)
    title = f"Campaign {prepared.plan.profile.name}"
    header = {
        "title": title,
        "created": time.time(),
        "where": prepared.plan.where,
        "seed": prepared.plan.seed,
        "missing_modes": dict(prepared.missing_modes),
        "environment": prepared.executor.environment(),
        "as_published": prepared.plan.profile.as_published,
    }
    if prepared.plan.profile.as_published:
        header["known_mistakes"] = list(prepared.plan.profile.mistakes)
    store, campaign = open_store(output, prepared.plan, header)
    with store:
        if scheduler is not None:
            return run(prepared.plan, store, campaign, scheduler, report)
        with _host_to_itself(prepared):
            prepared.executor.ready(prepared.plan.configs)
            return run(prepared.plan, store, campaign, Local(prepared.executor), report)


def _settled(prepared: Prepared) -> Prepared:
    """The campaign, checked again if KVM turns out not to run guests: before hours of building and measuring."""
    if prepared.executor.tried() is not None:
        return prepared
    with _host_to_itself(prepared):
        prepared.executor.settle()
    prepared = replace(prepared, plan=replace(prepared.plan, emulated=prepared.executor.emulated))
    check(prepared)
    return prepared


def _host_to_itself(prepared: Prepared) -> AbstractContextManager[None]:
    """The host's lock, needed by every campaign that measures this host."""
    return nullcontext() if prepared.setup.where == "mock" else hostlock.alone(_PATIENCE, prepared.progress)


def sweeps(words: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    """``vcpus=1,2`` and the like as profile fields; raises UsageError."""
    found: dict[str, tuple[Any, ...]] = {}
    for word in words:
        key, _, values = word.partition("=")
        key = {"memory": "memory_mib"}.get(key, key)
        if key not in plan.SWEEPS or not values:
            raise UsageError(
                f"--sweep {word} makes no sense", hint=f"give one of {', '.join(plan.SWEEPS)} and values: vcpus=1,2,4"
            )
        try:
            parts = values.split(",")
            found[key] = tuple(parts) if key in {"storage", "cache"} else tuple(_positive(part) for part in parts)
        except ValueError as error:
            raise UsageError(f"--sweep {word}: {error}") from error
    return found


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{value} is below 1")
    return value
