"""Shared by the readers of other programs' results: the user's options, information in names, and numbers."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from sevkit.bench import names
from sevkit.bench.model import Boot, Direction, Metric, Sample, direction_of, number, sensible
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
    """One figure of another program's result, before a mode is assigned to it."""

    workload: str
    metric: Metric
    values: tuple[float, ...]
    system: str = ""  # the name that the program gives the machine or configuration


def settle(named: names.Named, given: Given, fallback: str) -> tuple[str, str, Mode]:
    """Workload, storage and mode: from the user, else from the names; raises BadInputError if the mode is unknown."""
    mode = given.mode or named.mode
    if mode is None:
        raise BadInputError("its name does not say the mode (nosev, sev, sev-es, sev-snp); give --mode")
    storage = given.storage if given.storage is not None else named.storage
    return given.workload or named.workload or fallback, storage, mode


def samples_of(values: Iterable[Value], name: PurePath, given: Given) -> list[Sample]:
    """Samples of values that name their workload; the mode is from the user, or from the system's or file's name."""
    found: list[Sample] = []
    named = names.from_path(name)
    at = Boot(str(name), given.provenance)
    for value in values:
        mode = given.mode or names.from_name(value.system).mode or named.mode
        _, storage, mode = settle(names.Named("", named.storage, mode), given, value.workload)
        found += [
            Sample(value.workload, storage, value.metric, mode, number, iteration=i, at=at, boot=named.boot)
            for i, number in enumerate(value.values)
        ]
    return found


def numbers(values: Iterable[Any]) -> tuple[float, ...]:
    """Check measured values; raises BadInputError for one that is not a number."""
    try:
        return tuple(number(value) for value in values)
    except (ValueError, TypeError) as error:
        raise BadInputError(str(error)) from error


def metric(name: str, unit: str, *, higher: bool) -> Metric:
    """Make a metric from its unit and whether more is better."""
    return Metric(name, unit, Direction.HIGHER if higher else Direction.LOWER)


def proportioned(unit: str, proportion: object) -> Metric:
    """The metric of a Phoronix result: HIB or LIB (higher, lower is better), else by its unit.

    Raises BadInputError where neither says it, or where they contradict each other.
    """
    word = str(proportion or "").strip().upper()
    known = {"HIB": Direction.HIGHER, "LIB": Direction.LOWER}.get(word) or direction_of(unit)
    if known is None:
        raise BadInputError(f"a result in {unit!r} that does not say whether more or less is better")
    try:
        return sensible(Metric("result", unit, known))
    except ValueError as error:
        raise BadInputError(str(error)) from error


BITS = metric("throughput", "bit/s", higher=True)


def own_name(name: PurePath) -> PurePath:
    """The name of a file without the suffix of a compression."""
    return name.with_suffix("") if name.suffix.lower() in PACKED else name
