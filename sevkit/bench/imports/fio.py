"""fio's JSON output, read into values. Field names as in fio's documentation, section "JSON output"."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, LATENCY_P50, LATENCY_P99, Metric
from sevkit.errors import BadInputError

LARGEST_FILE = 64 << 20
SIDES = ("read", "write", "trim")


@dataclass(frozen=True)
class Side:
    """What one job did in one direction. Rates a second, latencies (completion) in ns, ``runtime`` in seconds."""

    name: str
    iops: float
    bandwidth: float
    ios: int
    runtime: float
    latency_mean: float
    latency_deviation: float
    percentiles: Mapping[float, float]
    short_ios: int = 0


@dataclass(frozen=True)
class Job:
    """One entry of ``jobs``: with group_reporting it stands for all clones of the job."""

    name: str
    group: int
    error: int
    options: Mapping[str, str]
    sides: tuple[Side, ...]
    depth_levels: Mapping[str, float]
    elapsed: float

    def option(self, name: str, default: str = "") -> str:
        """An option as text; an option without a value (a flag) reads as ``1``."""
        value = self.options.get(name)
        return default if value is None else value or "1"

    def number(self, name: str, default: int) -> int:
        """An option as a whole number, with fio's suffixes."""
        return size(self.option(name), default)


@dataclass(frozen=True)
class FioRun:
    """One fio run: one output file. ``time`` is when it ended (seconds since 1970)."""

    path: Path
    version: str
    time: float
    jobs: tuple[Job, ...]
    disks: Mapping[str, Mapping[str, Any]]

    @property
    def seconds(self) -> float:
        """The longest time that a job moved data."""
        return max((side.runtime for job in self.jobs for side in job.sides), default=0.0)

    def total(self, metric: str) -> float:
        """The sum of a rate over all jobs and directions."""
        return math.fsum(getattr(side, metric) for job in self.jobs for side in job.sides)

    def latency(self) -> float:
        """The mean completion latency of all requests of all jobs, in ns."""
        return _weighted((s.ios, s.latency_mean) for j in self.jobs for s in j.sides)

    def percentile(self, which: float) -> float | None:
        """A latency percentile in ns, averaged over the jobs by their requests; None when fio gave none."""
        pairs = [(s.ios, s.percentiles[which]) for j in self.jobs for s in j.sides if which in s.percentiles]
        return _weighted(pairs) if pairs else None

    def metrics(self) -> list[tuple[Metric, float]]:
        """All that the run says, over all its jobs."""
        found = [(IOPS, self.total("iops")), (BANDWIDTH, self.total("bandwidth")), (LATENCY, self.latency())]
        for metric, which in ((LATENCY_P50, 50.0), (LATENCY_P99, 99.0)):
            value = self.percentile(which)
            if value is not None:
                found.append((metric, value))
        return [(metric, value) for metric, value in found if value > 0]


def _weighted(pairs: Iterable[tuple[float, float]]) -> float:
    weight = total = 0.0
    for count, value in pairs:
        weight += count
        total += count * value
    return total / weight if weight else 0.0


def looks_like_fio(document: Any) -> bool:
    """Whether a JSON document is fio's."""
    return isinstance(document, dict) and "fio version" in document


def read(path: Path) -> FioRun:
    """Read a file; raises BadInputError when it is not fio's JSON."""
    return parse(read_json(path), path)


def read_json(path: Path) -> Any:
    """A JSON file, also with fio's warnings before the document; raises BadInputError."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise BadInputError(f"{path} is larger than {LARGEST_FILE >> 20} MiB: not a benchmark result")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    start = text.find("{")
    try:
        return json.loads(text[start:] if start > 0 and text.lstrip().startswith("fio:") else text)
    except RecursionError as error:
        raise BadInputError(f"{path} is nested too deeply to be a benchmark result") from error
    except ValueError as error:
        raise BadInputError(f"{path} is not JSON: {error}", hint="is the file cut off?") from error


def parse(document: Any, path: Path) -> FioRun:
    """Read a JSON document; raises BadInputError naming ``path`` when it is not fio's."""
    if not looks_like_fio(document):
        raise BadInputError(f"{path} is JSON, but not fio's", hint="fio writes it with --output-format=json")
    try:
        shared = document.get("global options", {})
        jobs = tuple(_job(entry, shared) for entry in document["jobs"])
        disks = {str(d.get("name", "?")): d for d in document.get("disk_util", [])}
        return FioRun(path, str(document["fio version"]), float(document.get("timestamp", 0)), jobs, disks)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInputError(f"{path} is fio's JSON, but damaged: {type(error).__name__}: {error}") from error


def _job(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Job:
    options = {str(k): str(v) for k, v in {**shared, **entry.get("job options", {})}.items()}
    sides = tuple(_side(name, entry[name]) for name in SIDES if entry.get(name, {}).get("total_ios", 0) > 0)
    return Job(
        name=str(entry.get("jobname", "")),
        group=int(entry.get("groupid", 0)),
        error=int(entry.get("error", 0)),
        options=options,
        sides=sides,
        depth_levels={str(k): float(v) for k, v in entry.get("iodepth_level", {}).items()},
        elapsed=float(entry.get("elapsed", 0)),
    )


def _side(name: str, entry: Mapping[str, Any]) -> Side:
    latency, scale = _latency(entry)
    return Side(
        name=name,
        iops=_finite(entry["iops"]),
        bandwidth=_finite(entry.get("bw_bytes", float(entry.get("bw", 0)) * 1024)),
        ios=int(entry["total_ios"]),
        runtime=_finite(entry["runtime"]) / 1000,
        latency_mean=_finite(latency.get("mean", 0)) * scale,
        latency_deviation=_finite(latency.get("stddev", 0)) * scale,
        percentiles={float(k): float(v) * scale for k, v in latency.get("percentile", {}).items()},
        short_ios=int(entry.get("short_ios", 0)) + int(entry.get("drop_ios", 0)),
    )


def _latency(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], float]:
    """Completion latency and its factor to ns: fio before 3.0 wrote ``clat`` in microseconds."""
    if "clat_ns" in entry:
        return entry["clat_ns"], 1.0
    return entry.get("clat", {}), 1000.0


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is not a measured quantity")
    return number


_SUFFIX = {"k": 10, "m": 20, "g": 30, "t": 40}


def size(text: str, default: int) -> int:
    """A number as fio writes it (``4K``, ``1g``, ``128``); the default when it is not one."""
    text = text.strip().lower().removesuffix("ib").removesuffix("b")
    shift = _SUFFIX.get(text[-1:], 0)
    digits = text[:-1] if shift else text
    return int(digits) << shift if digits.isdigit() else default
