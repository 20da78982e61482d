"""Workloads and profiles as data: read from sevkit/bench/data, or from the user's own TOML."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from sevkit.bench.model import Direction, Metric
from sevkit.errors import BadInputError, UsageError
from sevkit.guest.spec import StorageKind
from sevkit.vocabulary import Mode

PARSERS = ("time", "rate", "number", "quantiles", "fio", "fio-first", "redis", "boot")


@dataclass(frozen=True)
class Workload:
    """One thing to measure.

    ``command`` is run by a shell (bash where there is one) with the variables of ``place.variables`` set: DISK, WORK,
    VCPUS, MEMORY_MIB, SCALE, SECONDS_EACH and RAMP_EACH, which have a unit (500ms). ``parse`` says how its result is
    read: ``time`` (its duration), ``rate`` (``amount`` / duration), ``number`` (``pattern`` in its output),
    ``quantiles`` (the same, and lines like ``p99 3``), ``fio``, ``fio-first`` (its first job alone, as the study read
    it), ``redis``. ``published`` is the study's command, for --as-published. ``prepare`` runs once per boot, ``before``
    before each sample; neither is timed. ``sources`` are C files of sevkit/bench/data/src, compiled on the host and
    copied to WORK. ``needs`` are programs that must be installed, ``device`` a file that must be there. A workload of
    the ``network`` finds address and port of a server on the host in NETWORK. ``after`` ends what ``prepare`` started.
    A workload that ``warms_itself`` (fio's ramp) needs no warm-ups. ``seconds`` is the approximate duration of a sample
    on hardware, 0 if its value is the duration; ``jobs`` is the number of CPUs that this duration took,
    ``job_memory_mib`` the memory that all but a few of its jobs take at most (MiB; 0 where it is little),
    ``largest_job_mib`` that of the largest job, and ``memory_mib`` the guest memory up to which the work grows, 0 if it
    does not. ``written_mib`` is what a sample writes to the guest's root disk (MiB, with that much memory; 0 where it
    is little). ``emulated`` is the measured duration of a sample without KVM, with all that is run before it; 0 where
    it was not measured. ``emulated_once`` is that of what is run once per boot. ``study`` is the study's row that the
    workload answers to, as WORKLOAD/METRIC, empty for the row of its own name; ``differs`` says in what it is not the
    study's.
    """

    name: str
    title: str
    family: str
    command: str
    metric: str = "time"
    unit: str = "s"
    direction: Direction = Direction.LOWER
    parse: str = "time"
    pattern: str = ""
    amount: float = 1.0
    needs: tuple[str, ...] = ()
    where: tuple[str, ...] = ("guest", "host", "mock")
    disk: bool = False
    network: bool = False
    device: str = ""
    image: str = "mini"
    prepare: str = ""
    before: str = ""
    sources: tuple[str, ...] = ()
    after: str = ""
    warms_itself: bool = False
    seconds: float = 0.0
    emulated: float = 0.0
    emulated_once: float = 0.0
    timeout: float = 120.0
    mock_value: float = 1.0
    mock_cost: float = 0.0
    published: str = ""
    jobs: int = 1
    job_memory_mib: int = 0
    largest_job_mib: int = 0
    memory_mib: int = 0
    written_mib: int = 0
    study: str = ""
    differs: str = ""

    @property
    def study_row(self) -> tuple[str, str]:
        """Workload and metric of the study's row that this one answers to, whether or not there is one."""
        workload, _, metric = self.study.partition("/")
        return (workload, metric) if self.study else (self.name, self.metric)

    @property
    def main_metric(self) -> Metric:
        """The main metric of the workload."""
        return Metric(self.metric, self.unit, self.direction)


@dataclass(frozen=True)
class Profile:
    """How much to measure, and on what.

    ``boots`` is the minimum number of guest boots per arm, ``most_boots`` the maximum. Between them the campaign ends
    when every ratio's interval is narrower than ``target`` on either side, or ``budget`` seconds are spent. With
    ``strongest`` the modes are nosev and the strongest of ``modes`` that can run, unless the user names others.
    ``factors`` are switched one at a time (see campaign/factors.py).
    """

    name: str
    title: str
    workloads: tuple[str, ...]
    modes: tuple[Mode, ...] = tuple(Mode)
    boots: int = 5
    most_boots: int = 20
    iterations: int = 3
    warmups: int = 1
    control: bool = True
    strongest: bool = False
    target: float = 0.02
    budget: float = 3600.0
    seconds: float = 10.0
    vcpus: tuple[int, ...] = (1,)
    memory_mib: tuple[int, ...] = (512,)
    storage: tuple[str, ...] = ("virtio-blk",)
    cache: tuple[str, ...] = ("none",)
    guests: tuple[int, ...] = (1,)
    factors: tuple[str, ...] = ()
    disk_mib: int = 256
    image: str = "mini"
    pin: str = "none"
    as_published: bool = False
    mistakes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        _check(1 <= self.boots <= self.most_boots <= 1000, "boots must be 1 to most_boots, and most_boots at most 1000")
        _check(1 <= self.iterations <= 10_000, "iterations must be 1 to 10000")
        _check(0 <= self.warmups <= 100, "warmups must be 0 to 100")
        _check(0 < self.target < 10, "target is a fraction: 0.02 means 2 %")
        _check(self.budget > 0 and self.seconds > 0, "budget and seconds must be above 0")
        _check(bool(self.workloads), "a profile needs workloads")
        _check(bool(self.modes), "a profile needs modes")
        for kind in self.storage:
            _check(kind in set(StorageKind), f"storage {kind!r} is not one of {', '.join(StorageKind)}")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise UsageError(message)


def workloads(extra: Path | None = None) -> dict[str, Workload]:
    """All workloads by name: those that come with sevkit and those of the user's file."""
    found = dict(_own_workloads())
    if extra is not None:
        found |= _read_suite(_toml(extra), str(extra))
    return found


def profile(name: str) -> Profile:
    """A profile by name, or from the TOML file of that path; raises UsageError when there is none."""
    if name.endswith(".toml"):
        path = Path(name)
        return _read_profile(path.stem, _toml(path))
    found = profiles()
    if name not in found:
        raise UsageError(
            f"there is no profile {name!r}", hint=f"profiles: {', '.join(found)}, or a file ending in .toml"
        )
    return found[name]


@cache
def profiles() -> dict[str, Profile]:
    """The profiles that come with sevkit."""
    folder = resources.files("sevkit") / "bench" / "data" / "profiles"
    entries = sorted((e for e in folder.iterdir() if e.name.endswith(".toml")), key=lambda e: e.name)
    return {e.name[:-5]: _read_profile(e.name[:-5], tomllib.loads(e.read_text(encoding="utf-8"))) for e in entries}


def chosen(wanted: Profile, known: Mapping[str, Workload]) -> list[Workload]:
    """The workloads of a profile in its order; ``@family`` means all workloads of a family."""
    picked: dict[str, Workload] = {}
    for name in wanted.workloads:
        if name.startswith("@"):
            family = [w for w in known.values() if w.family == name[1:]]
            if not family:
                raise UsageError(f"no workload is of the family {name[1:]!r}", hint="`sevkit bench list` shows them")
            picked |= {w.name: w for w in family}
        elif name in known:
            picked[name] = known[name]
        else:
            raise UsageError(f"there is no workload {name!r}", hint="`sevkit bench list` shows them")
    return [as_published(w) if wanted.as_published else w for w in picked.values()]


def as_published(workload: Workload) -> Workload:
    """The workload as the study ran and read it, including the study's mistakes."""
    if not workload.published:
        return workload
    parse = "fio-first" if workload.parse == "fio" else workload.parse
    return replace(workload, command=workload.published, parse=parse)


def changed(base: Profile, **changes: Any) -> Profile:
    """A profile with some fields replaced; None leaves a field as it is."""
    return replace(base, **{key: value for key, value in changes.items() if value is not None})


@cache
def _own_workloads() -> dict[str, Workload]:
    folder = resources.files("sevkit") / "bench" / "data" / "suites"
    found: dict[str, Workload] = {}
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.name.endswith(".toml"):
            found |= _read_suite(tomllib.loads(entry.read_text(encoding="utf-8")), entry.name)
    return found


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not TOML: {error}") from error


def _read_suite(document: Mapping[str, Any], where: str) -> dict[str, Workload]:
    family = str(document.get("family", "other"))
    shared = document.get("defaults", {})
    entries = document.get("workload")
    if not isinstance(entries, dict):
        raise BadInputError(f"{where} defines no workload", hint="write [workload.NAME] with a command")
    return {name: workload_from(name, {"family": family, **shared, **entry}, where) for name, entry in entries.items()}


def workload_from(name: str, entry: Mapping[str, Any], where: str) -> Workload:
    """A workload of a suite or of a campaign's header; raises BadInputError, naming ``where`` it is from."""
    known = {f.name for f in fields(Workload)}
    if unknown := sorted(set(entry) - known):
        raise BadInputError(f"{where}: workload {name} has unknown keys: {', '.join(unknown)}")
    try:
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
        if "direction" in values:
            values["direction"] = Direction(values["direction"])
        made = Workload(**{"name": name, "title": name, **values})
    except (TypeError, ValueError) as error:
        raise BadInputError(f"{where}: workload {name}: {error}") from error
    if made.parse not in PARSERS:
        raise BadInputError(f"{where}: workload {name}: parse is {made.parse!r}, not one of {', '.join(PARSERS)}")
    return made


def _read_profile(name: str, document: Mapping[str, Any]) -> Profile:
    known = {f.name for f in fields(Profile)}
    if unknown := sorted(set(document) - known):
        raise BadInputError(f"profile {name} has unknown keys: {', '.join(unknown)}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
    try:
        if "modes" in values:
            values["modes"] = tuple(Mode(mode) for mode in values["modes"])
        return Profile(**{"name": name, "title": name, **values})
    except (TypeError, ValueError) as error:
        raise BadInputError(f"profile {name}: {error}") from error
