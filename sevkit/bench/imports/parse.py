"""Read the metrics in a workload's output, by the method that its suite declares."""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sevkit import strictjson
from sevkit.bench.imports import fio
from sevkit.bench.model import Direction, Metric
from sevkit.bench.suite import Workload
from sevkit.errors import BadInputError

_QUANTILE = re.compile(r"^(p\d{1,2}) (\d+(?:\.\d+)?(?:e[+-]?\d+)?)$", re.MULTILINE)
REDIS_LATENCY = Metric("latency_mean", "ms", Direction.LOWER, primary=False)


@dataclass(frozen=True)
class Measured:
    """One sample of a workload: its metrics, how long the command took, what it printed, what a hypervisor counted."""

    values: tuple[tuple[Metric, float], ...]
    seconds: float
    raw: bytes = b""
    host_seconds: float = 0.0
    counted: Mapping[str, int] = field(default_factory=dict)


def read(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    """The metrics in the output of a command that took ``seconds``; raises BadInputError when there are none."""
    return _READERS[workload.parse](workload, output, seconds)


def _time(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    del output
    return [(workload.main_metric, seconds)]


def _rate(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    del output
    if seconds <= 0:
        raise BadInputError(f"{workload.name} took no time at all: the clock cannot resolve it")
    return [(workload.main_metric, workload.amount / seconds)]


def _number(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    del seconds
    match = re.search(workload.pattern, output.decode(errors="replace"))
    if match is None:
        shown = output[-200:].decode(errors="replace").strip()
        raise BadInputError(f"{workload.name} printed no match for {workload.pattern!r}", detail=shown)
    try:
        return [(workload.main_metric, float(match.group(1)) * workload.amount)]
    except (ValueError, IndexError) as error:
        raise BadInputError(f"{workload.name}: {match.group(0)!r} is not a number") from error


def _quantiles(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    """The main value, and its distribution as secondary metrics: ``p99 3`` becomes ``exit_cost_p99``."""
    main, name = _number(workload, output, seconds), workload.metric.removesuffix("_mean")
    found = _QUANTILE.findall(output.decode(errors="replace"))
    return main + [
        (replace(workload.main_metric, name=f"{name}_{word}", primary=False), float(value) * workload.amount)
        for word, value in found
    ]


def _fio(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    del seconds
    run = _fio_run(workload, output)
    if run.failure:
        raise BadInputError(f"{workload.name}: {run.failure}")
    values = [(replace(m, primary=m.name == workload.metric), value) for m, value in run.metrics()]
    if not any(metric.primary for metric, _ in values):
        raise BadInputError(f"{workload.name}: fio ended with status 0, but measured no {workload.metric}")
    return values


def mean_percentiles(workload: Workload, output: bytes) -> dict[str, float]:
    """What older versions recorded as percentiles of a fio run and are none, by metric; see ``fio.FioRun``."""
    if workload.parse not in {"fio", "fio-first"}:
        return {}
    return {metric.name: value for metric, value in _fio_run(workload, output).mean_percentiles()}


def _fio_run(workload: Workload, output: bytes) -> fio.FioRun:
    text = output.decode(errors="replace")
    try:
        document = strictjson.decoder(float).decode(text[max(0, text.find("{")) :])
    except ValueError as error:
        raise BadInputError(f"{workload.name}: fio printed no JSON", detail=text[-300:]) from error
    run = fio.parse(document, Path(workload.name))
    return run.part(run.jobs[:1]) if workload.parse == "fio-first" else run


def _redis(workload: Workload, output: bytes, seconds: float) -> list[tuple[Metric, float]]:
    """The CSV of redis-benchmark: test, requests per second, mean latency in ms, and more."""
    del seconds
    for line in csv.reader(output.decode(errors="replace").splitlines()):
        if len(line) >= 3 and line[0].upper() == workload.pattern.upper():
            return [(workload.main_metric, float(line[1])), (REDIS_LATENCY, float(line[2]))]
    raise BadInputError(f"{workload.name}: redis-benchmark printed no line for {workload.pattern}")


_READERS: dict[str, Callable[[Workload, bytes, float], list[tuple[Metric, float]]]] = {
    "time": _time,
    "rate": _rate,
    "number": _number,
    "quantiles": _quantiles,
    "fio": _fio,
    "fio-first": _fio,
    "redis": _redis,
}
