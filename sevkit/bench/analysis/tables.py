"""The CSV tables of the published study, each shape by its columns."""

import csv
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from sevkit.bench import names
from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, Direction, Metric, checked, number
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode, mode_from_word

MILLISECONDS = Metric("time", "ms", Direction.LOWER)
COPY_RATE = Metric("copy_rate", "MB/s", Direction.HIGHER)
REQUESTS = Metric("requests", "1/s", Direction.HIGHER)
REDIS_LATENCY = Metric("latency_mean", "ms", Direction.LOWER, primary=False)


@dataclass(frozen=True)
class Row:
    """One value of a table."""

    workload: str
    metric: Metric
    value: float
    mode: Mode | None = None
    storage: str = ""
    time: float = 0.0


@dataclass(frozen=True)
class Table:
    """The values of a file; ``derived`` when they were computed from other files."""

    rows: list[Row]
    derived: bool


def parse(text: str, path: Path) -> Table:
    """Read a table; raises BadInputError when its columns are not known or a value is no number."""
    try:
        lines = [line for line in csv.reader(text.splitlines()) if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise BadInputError(f"{path} cannot be read as CSV: {error}") from error
    if len(lines) < 2:
        raise BadInputError("a table without rows")
    header = [cell.strip().lower() for cell in lines[0]]
    for columns, reader, derived in _SHAPES:
        if header[: len(columns)] == list(columns):
            return Table(_all(reader, header, lines[1:], path), derived)
    raise BadInputError(f"columns that are not known here: {', '.join(header)[:120]}")


_Reader = Callable[[list[str], list[str], Path], list[Row]]


def _all(reader: _Reader, header: list[str], lines: list[list[str]], path: Path) -> list[Row]:
    rows: list[Row] = []
    for place, line in enumerate(lines, 2):
        try:
            rows += reader(header, line, path)
        except IndexError as error:
            raise BadInputError(f"line {place}: {len(line)} cells, the header has {len(header)}") from error
        except ValueError as error:
            raise BadInputError(f"line {place}: {error}") from error
    return rows


def _ratios(header: list[str], line: list[str], path: Path) -> list[Row]:
    """``group,name,nosev,sev,result``: one value a mode, and their ratio."""
    prefix = path.stem.split("-")[0]
    metric = {"bw": BANDWIDTH, "iops": IOPS, "al": LATENCY}.get(prefix)
    if metric is None:
        raise ValueError(f"the file's name does not say what was measured ({prefix})")
    return [
        Row(f"{prefix}_{line[0]}", metric, number(line[i]), mode_from_word(header[i]), line[1])
        for i in range(2, len(header))
        if mode_from_word(header[i]) is not None
    ]


def _grouped(header: list[str], line: list[str], path: Path) -> list[Row]:
    """``group,name,result``: the name is a mode, or a storage and a mode."""
    named = names.from_name(line[1])
    prefix = path.stem.removesuffix("_results")
    workload = f"{prefix}_{line[0]}" if names.metric_of(prefix) and not names.metric_of(line[0]) else line[0]
    metric = names.metric_of(workload) or (COPY_RATE if workload in {"memcpy", "memset"} else MILLISECONDS)
    del header
    return [Row(workload, metric, number(line[2]), named.mode, named.storage)]


def _redis_summary(header: list[str], line: list[str], path: Path) -> list[Row]:
    """``group,name,results,result,…``: two columns are named alike, so that only the places can be believed."""
    del header, path
    workload, mode = f"redis-{line[0].lower()}", mode_from_word(line[1])
    return [
        Row(workload, REQUESTS, number(line[2]), mode),
        Row(workload, REDIS_LATENCY, number(line[3]), mode),
    ]


def _redis_raw(header: list[str], line: list[str], path: Path) -> list[Row]:
    """``timestamp,test,rps,avg_latency_ms,…``: the mode is in the folder's name."""
    del path
    if "needed" in line[1]:  # redis-benchmark's own preparation for the next test
        return []
    workload, when = f"redis-{line[1].split(' ')[0].lower()}", _seconds(line[0])
    latency = header.index("avg_latency_ms")
    return [
        Row(workload, REQUESTS, number(line[2]), time=when),
        Row(workload, REDIS_LATENCY, number(line[latency]), time=when),
    ]


def _timed(header: list[str], line: list[str], path: Path) -> list[Row]:
    """``timestamp[,type],completion_time_ms``: the file's name is the workload."""
    kind = f"-{line[1]}" if "type" in header else ""
    metric = replace(MILLISECONDS)
    workload = names.from_name(path.stem).workload or path.stem
    return [Row(workload + kind, metric, number(line[header.index("completion_time_ms")]), time=_seconds(line[0]))]


def _seconds(text: str) -> float:
    """A time stamp as seconds since 1970: a number, or a date and time (taken as UTC)."""
    try:
        return checked(float(text))
    except ValueError:
        return dt.datetime.fromisoformat(text.strip()).replace(tzinfo=dt.UTC).timestamp()


_SHAPES: tuple[tuple[tuple[str, ...], _Reader, bool], ...] = (
    (("group", "name", "nosev", "sev"), _ratios, True),
    (("group", "name", "results", "result"), _redis_summary, True),
    (("group", "name", "result"), _grouped, True),
    (("timestamp", "test", "rps"), _redis_raw, False),
    (("timestamp", "type", "completion_time_ms"), _timed, False),
    (("timestamp", "completion_time_ms"), _timed, False),
)
