"""Shared by the readers of other programs' results: the user's options, information in names, and numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from sevkit.bench import names
from sevkit.bench.model import Boot, Direction, Metric, Sample, number
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode, Provenance

PACKED = (".gz", ".xz", ".bz2", ".zst")


@dataclass(frozen=True)
class Given:
    """The user's information on files whose names lack it."""

    mode: Mode | None = None
    storage: str | None = None
    workload: str | None = None
    provenance: Provenance = Provenance.PUBLISHED


@dataclass(frozen=True)
class Value:
    """One figure of another program's result, before a mode is assigned to it.

    ``system`` is the text beside it that may say the mode: the name of a configuration, or a ``command``, in which a
    word may look like a mode. ``facts`` are the settings of the test, which must be the same in two modes.
    """

    workload: str
    metric: Metric
    values: tuple[float, ...]
    system: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    time: float = 0.0
    command: bool = False


@dataclass(frozen=True)
class Reading:
    """What a file holds: samples, and the reasons why some of its figures were left out.

    ``derived``: the values are sums of other files (a table), rather than raw.
    """

    samples: list[Sample]
    left_out: tuple[str, ...] = ()
    derived: bool = False


def settle(named: names.Named, given: Given, fallback: str) -> tuple[str, str, Mode]:
    """Workload, storage and mode: from the names, else from the user; raises BadInputError if the mode is unknown.

    The user fills in what names leave open. Where the two contradict each other, neither is believed.
    """
    if given.mode is not None and named.mode not in (None, given.mode):
        raise _contradiction("--mode", given.mode, named.mode)
    mode = named.mode or given.mode
    if mode is None:
        said = f"says {named.unclear}" if named.unclear else "does not say the mode (nosev, sev, sev-es, sev-snp)"
        raise BadInputError(f"its name {said}; give --mode")
    if given.storage and named.storage and _bare(given.storage) != _bare(named.storage):
        raise _contradiction("--storage", given.storage, named.storage)
    storage = given.storage if given.storage is not None else named.storage
    return given.workload or named.workload or fallback, storage, mode


def _contradiction(option: str, given: str, named: object) -> BadInputError:
    return BadInputError(f"its name says {named}, and {option} {given}: rename it, or leave {option} out")


def _bare(storage: str) -> str:
    return storage.lower().replace("_", "-").removeprefix("virtio-")


def samples_of(values: Iterable[Value], name: PurePath, given: Given, left_out: Sequence[str] = ()) -> Reading:
    """Samples of values that name their workload, with their mode; raises BadInputError where no mode is known.

    Where the values of a file say different modes, each says its own; else the file's name says it, or the user.
    """
    known = list(values)
    named = names.from_path(name)
    said = [names.from_command(value.system) for value in known]
    several = len({own.mode for own in said} - {None}) > 1
    titles = {value.workload for value in known}
    reasons = list(left_out)
    chosen: list[tuple[Value, str, Mode]] = []
    for value, own in zip(known, said, strict=True):
        try:
            _, storage, mode = settle(replace(named, **_said(value, own, named, given, several=several)), given, "")
        except BadInputError as error:
            reasons.append(f"{value.workload}: {error.message}")
        else:
            chosen.append((value, storage, mode))
    chosen, pooled = _apart(chosen)
    reasons += pooled
    if not chosen:
        raise BadInputError("; ".join(dict.fromkeys(reasons)) or "it holds no figures")
    alike = len({tuple(sorted(value.facts.items())) for value, _, _ in chosen}) == 1
    found: list[Sample] = []
    for value, storage, mode in chosen:
        at = Boot(str(name) if alike else f"{name}#{value.workload}", given.provenance, value.facts)
        title = value.workload
        if given.workload:
            title = given.workload if len(titles) == 1 else f"{given.workload}/{title}"
        found += [
            Sample(title, storage, value.metric, mode, number, iteration=i, at=at, boot=named.boot, time=value.time)
            for i, number in enumerate(value.values)
        ]
    return Reading(found, tuple(dict.fromkeys(reasons)))


def _said(value: Value, own: names.Named, named: names.Named, given: Given, *, several: bool) -> dict[str, Any]:
    """The mode of one of a file's values, as the name says it or the text beside it; raises BadInputError."""
    silent = given.mode is None and (several or not (named.mode or named.unclear))
    if own.unclear and silent:
        raise BadInputError(f"{value.system[:80]!r} says {own.unclear}: name each after its mode")
    if several:
        if own.mode is None and given.mode is None:
            raise BadInputError(f"{value.system[:80]!r} does not say its mode, as others of the file do; give --mode")
        return {"mode": own.mode, "unclear": own.unclear}
    if own.mode and named.mode and own.mode is not named.mode and given.mode is None and not value.command:
        raise BadInputError(f"{value.system[:80]!r} says {own.mode}, the file's name {named.mode}; give --mode")
    if named.mode or named.unclear:
        return {}
    return {"mode": own.mode, "unclear": own.unclear}


def _apart(chosen: list[tuple[Value, str, Mode]]) -> tuple[list[tuple[Value, str, Mode]], list[str]]:
    """Leave out values of several systems that would be pooled as one mode."""
    systems: dict[tuple[str, str, str, Mode], dict[str, None]] = {}
    for value, storage, mode in chosen:
        systems.setdefault((value.workload, storage, value.metric.name, mode), {})[value.system] = None
    kept, reasons = [], []
    for value, storage, mode in chosen:
        alike = systems[value.workload, storage, value.metric.name, mode]
        if len(alike) == 1:
            kept.append((value, storage, mode))
            continue
        listed = " and ".join(repr(text[:80]) for text in list(alike)[:3])
        reasons.append(f"{value.workload}: {listed} would both be mode {mode}: name each after its mode")
    return kept, reasons


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    """Check measured values; raises BadInputError for one that is not a number."""
    try:
        return tuple(number(value) for value in values)
    except (ValueError, TypeError) as error:
        raise BadInputError(str(error)) from error


def metric(name: str, unit: str, *, higher: bool) -> Metric:
    """Make a metric from its unit and whether more is better."""
    return Metric(name, unit, Direction.HIGHER if higher else Direction.LOWER)


BITS = metric("throughput", "bit/s", higher=True)


def own_name(name: PurePath) -> PurePath:
    """The name of a file without the suffix of a compression."""
    return name.with_suffix("") if name.suffix.lower() in PACKED else name
