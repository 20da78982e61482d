"""fio's JSON output, read into values. Field names as in fio's documentation, section "JSON output"."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from sevkit.bench.imports import documents
from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, LATENCY_P50, LATENCY_P99, Metric, checked, number
from sevkit.errors import BadInputError

SIDES = ("read", "write", "trim", "mixed")  # "mixed" with unified_rw_reporting
PERCENTILES = ((LATENCY_P50, 50.0), (LATENCY_P99, 99.0))
_TOLERANCE = 0.05  # fio computes rates from the totals; older versions round them to whole numbers
_NO_ETA = 2**31 - 1  # not known, also in the last report of a run
ALL_CLIENTS = "All clients"  # the sum that fio adds for several servers


@dataclass(frozen=True)
class Side:
    """What one job did in one direction. Rates per second, latencies (completion) in ns, ``runtime`` in seconds.

    ``bins`` is the histogram of the latencies (ns: requests), which only --output-format=json+ prints.
    """

    name: str
    iops: float
    bandwidth: float
    ios: int
    runtime: float
    latency_mean: float
    latency_deviation: float
    percentiles: Mapping[float, float]
    short_ios: int = 0
    bins: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One entry of ``jobs``: with group_reporting it is the sum of all clones of the job.

    ``mixed`` is fio's own sum of ``sides``, with unified_rw_reporting=both.
    """

    name: str
    group: int
    error: int
    options: Mapping[str, str]
    sides: tuple[Side, ...]
    depth_levels: Mapping[str, float]
    elapsed: float
    mixed: Side | None = None

    def option(self, name: str, default: str = "") -> str:
        """An option as text; an option without a value (a flag) reads as ``1``."""
        value = self.options.get(name)
        return default if value is None else value or "1"

    def number(self, name: str, default: int) -> int:
        """An option as a whole number, with fio's suffixes."""
        return size(self.option(name), default)


@dataclass(frozen=True)
class FioRun:
    """One fio run: one output file. ``time`` is when it ended (seconds since 1970).

    ``everything`` is the sum over all jobs of all servers that a client of several prints beside them.
    """

    path: Path
    version: str
    time: float
    jobs: tuple[Job, ...]
    disks: Mapping[str, Mapping[str, Any]]
    options_known: bool = True  # fio before 3.0, and its terse format, do not record their options
    unfinished: bool = False  # an intermediate report (--status-interval) of a run whose end is not in the file
    everything: Job | None = None

    def part(self, jobs: Sequence[Job]) -> "FioRun":
        """The run with some of its jobs only."""
        return self if tuple(jobs) == self.jobs else replace(self, jobs=tuple(jobs), everything=None)

    @property
    def failure(self) -> str | None:
        """Why the run is not a measurement (a job ended with an error, transfers were short or dropped), or None."""
        errors = [job.error for job in self.jobs if job.error]
        if not errors:
            short = self.short
            return f"{short} of fio's transfers were short or dropped: their rate is no measurement" if short else None
        jobs = f"{len(errors)} of {len(self.jobs)} jobs"
        return f"fio reports error {errors[0]} in {jobs}: a run that failed is no measurement"

    @property
    def short(self) -> int:
        """How many transfers were short or dropped."""
        return sum(side.short_ios for job in self.jobs for side in job.sides)

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
        """A latency percentile of all requests, in ns; None where the output has none.

        It is exact where one job moved data in one direction, where fio printed the sum of all, or with histograms
        (json+). Percentiles of several jobs or directions cannot be put together: their mean is no percentile.
        """
        if (whole := self._whole()) is not None:
            return whole.percentiles.get(which)
        return _quantile([side.bins for side in self._sides], which)

    def mean_percentile(self, which: float) -> float | None:
        """What versions before this one recorded instead: the mean over jobs and directions, by their requests.

        None where ``percentile`` has a value, or fio printed none.
        """
        pairs = [(side.ios, side.percentiles[which]) for side in self._sides if which in side.percentiles]
        return _weighted(pairs) if pairs and self.percentile(which) is None else None

    @property
    def _sides(self) -> list[Side]:
        return [side for job in self.jobs for side in job.sides]

    def _whole(self) -> Side | None:
        """The side that has all requests of the run."""
        jobs = [job for job in self.jobs if job.sides]
        job = jobs[0] if len(jobs) == 1 else self.everything
        if job is None:
            return None
        return job.sides[0] if len(job.sides) == 1 else job.mixed

    def metrics(self) -> list[tuple[Metric, float]]:
        """All metrics of the run, over all its jobs."""
        found = [(IOPS, self.total("iops")), (BANDWIDTH, self.total("bandwidth")), (LATENCY, self.latency())]
        found += [(metric, value) for metric, which in PERCENTILES if (value := self.percentile(which)) is not None]
        return [(metric, value) for metric, value in found if value > 0]

    def mean_percentiles(self) -> list[tuple[Metric, float]]:
        """The metrics of older versions that are none."""
        found = [(metric, value) for metric, which in PERCENTILES if (value := self.mean_percentile(which)) is not None]
        return [(metric, value) for metric, value in found if value > 0]


def _quantile(histograms: Sequence[Mapping[float, int]], which: float) -> float | None:
    """A percentile of several histograms together, as fio reads one from its own (stat.c); None if one is missing."""
    if not histograms or not all(histograms):
        return None
    counts: Counter[float] = Counter()
    for histogram in histograms:
        counts.update(histogram)
    wanted, seen = which / 100 * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return value
    return None


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
    """Read a file of one run; raises BadInputError when it is not fio's JSON."""
    return parse(ended(documents.read(path), path)[-1], path)


def ended(found: documents.Documents, path: Path) -> list[Any]:
    """The documents that count: the last one of each run, since fio reports from a run's start (--status-interval).

    Raises BadInputError for several documents of which one is not fio's.
    """
    several = found.found
    if len(several) > 1 and not all(looks_like_fio(document) for document in several):
        raise BadInputError(
            f"{path} holds {len(several)} JSON documents that are not fio's", hint="one result per file"
        )
    kept: list[Any] = []
    for document in several:
        if kept and _same_run(kept[-1], document):
            kept[-1] = document
        else:
            kept.append(document)
    return kept


def _same_run(old: Any, new: Any) -> bool:
    """Whether a document is a later report on the same run: the run began before the older report was written."""
    try:
        before, after = _progress(old), _progress(new)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return True  # the damaged document is refused when it is read
    if before.jobs != after.jobs or after.ios < before.ios or after.milliseconds < before.milliseconds:
        return False
    known = bool(before.written and after.written)
    return not known or after.written - after.milliseconds < before.written


class _Progress(NamedTuple):
    jobs: list[str]
    ios: int
    milliseconds: float
    written: float


def _progress(document: Mapping[str, Any]) -> _Progress:
    entries = _entries(document)
    sides = [entry[name] for entry in entries for name in SIDES if isinstance(entry.get(name), dict)]
    return _Progress(
        [str(entry.get("jobname")) for entry in entries],
        sum(int(side.get("total_ios") or 0) for side in sides),
        max((float(side.get("runtime") or 0) for side in sides), default=0.0),
        float(document.get("timestamp_ms") or 1000 * (document.get("timestamp") or 0)),
    )


def parse(document: Any, path: Path) -> FioRun:
    """Read a JSON document; raises BadInputError naming ``path`` when it is not fio's."""
    if not looks_like_fio(document):
        raise BadInputError(f"{path} is JSON, but not fio's", hint="fio writes it with --output-format=json")
    try:
        return _run(document, path)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInputError(f"{path} is fio's JSON, but damaged: {type(error).__name__}: {error}") from error


def _run(document: Mapping[str, Any], path: Path) -> FioRun:
    shared = document.get("global options", {})
    entries = _entries(document)
    disks = {str(d.get("name", "?")): d for d in document.get("disk_util", [])}
    sums = [entry for entry in document.get("client_stats", ()) if all(entry is not own for own in entries)]
    return FioRun(
        path,
        str(document["fio version"]),
        finite(document.get("timestamp") or 0),
        tuple(_job(entry, shared) for entry in entries),
        disks,
        options_known=all("job options" in entry for entry in entries),
        unfinished=any(0 < (entry.get("eta") or 0) < _NO_ETA for entry in entries),
        everything=_job(sums[0], shared) if len(sums) == 1 else None,
    )


def _entries(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The jobs. A client (``--client``) writes those of its servers, and their sum if there are several."""
    if "client_stats" not in document:
        return list(document["jobs"])
    entries = list(document["client_stats"])
    return [entry for entry in entries if entry.get("jobname") != ALL_CLIENTS] or entries


def _job(entry: Mapping[str, Any], shared: Mapping[str, Any]) -> Job:
    options = {str(k): str(v) for k, v in {**shared, **entry.get("job options", {})}.items()}
    moved = [_side(name, entry[name]) for name in SIDES if (entry.get(name, {}).get("total_ios") or 0) > 0]
    sides, mixed = apart(moved)
    return Job(
        name=str(entry.get("jobname", "")),
        group=int(entry.get("groupid", 0)),
        error=int(checked(entry.get("error", 0))),
        options=options,
        sides=sides,
        depth_levels={str(k): finite(v) for k, v in entry.get("iodepth_level", {}).items()},
        elapsed=finite(entry.get("elapsed", 0)),
        mixed=mixed,
    )


def apart(sides: Sequence[Side]) -> tuple[tuple[Side, ...], Side | None]:
    """The directions, and their sum where fio printed both (unified_rw_reporting=both)."""
    directions = tuple(side for side in sides if side.name != "mixed")
    if not directions:
        return tuple(sides), None
    return directions, next((side for side in sides if side.name == "mixed"), None)


def _side(name: str, entry: Mapping[str, Any]) -> Side:
    latency, scale = _latency(entry)
    iops, ios, runtime = finite(entry["iops"]), finite(entry["total_ios"]), finite(entry["runtime"]) / 1000
    bandwidth = finite(entry["bw_bytes"]) if "bw_bytes" in entry else finite(entry.get("bw", 0)) * 1024
    agree(f"{name} IOPS", iops, ios, runtime)
    if "bw_bytes" in entry and "io_kbytes" in entry:  # without io_kbytes, in fio 2, io_bytes counts KiB
        agree(f"{name} bandwidth", bandwidth, finite(entry["io_bytes"]), runtime)
    percentiles = {finite(k): finite(v) * scale for k, v in latency.get("percentile", {}).items() if v is not None}
    return Side(
        name=name,
        iops=iops,
        bandwidth=bandwidth,
        ios=int(ios),
        runtime=runtime,
        latency_mean=finite(latency.get("mean") or 0) * scale,
        latency_deviation=finite(latency.get("stddev") or 0) * scale,
        percentiles=percentiles,
        short_ios=int(finite(entry.get("short_ios") or 0) + finite(entry.get("drop_ios") or 0)),
        bins=_bins(latency, percentiles),
    )


def _bins(latency: Mapping[str, Any], percentiles: Mapping[float, float]) -> dict[float, int]:
    """The histogram of json+, where fio's own percentiles follow from it.

    They do not in fio 2, which numbers the bins, and nothing would tell a later change of the format.
    """
    entries = latency.get("bins") or {}
    if not all(str(key).isdecimal() for key in entries):
        return {}
    bins = {finite(key): int(finite(count)) for key, count in entries.items()}
    known = [(which, value) for which, value in percentiles.items() if 0 < which < 100]
    return bins if known and all(_quantile([bins], which) == value for which, value in known) else {}


def _latency(entry: Mapping[str, Any]) -> tuple[Mapping[str, Any], float]:
    """Completion latency and its factor to ns: fio before 3.0 wrote ``clat`` in microseconds."""
    if "clat_ns" in entry:
        return entry["clat_ns"], 1.0
    return entry.get("clat", {}), 1000.0


def finite(value: Any) -> float:
    """The number; raises ValueError for one that no measurement can give (nan, infinite, below zero)."""
    if value is None:
        raise ValueError("nan or null where a figure must be")
    found = number(value)
    if found < 0:
        raise ValueError(f"{value!r} is not a measured quantity")
    return found


def agree(what: str, rate: float, amount: float, seconds: float) -> None:
    """Raise ValueError for a rate that contradicts the amount and the time from which fio computes it."""
    computed = amount / seconds if seconds else 0.0
    if abs(rate - computed) > max(1.0, _TOLERANCE * computed):
        raise ValueError(f"{what} is {rate:g} per second, but {amount:g} in {seconds:g} s are {computed:g}")


_SUFFIX = {"k": 10, "m": 20, "g": 30, "t": 40}


def size(text: str, default: int) -> int:
    """Parse a number as fio writes it (``4K``, ``1g``, ``128``); the default if it is not one."""
    text = text.strip().lower().removesuffix("ib").removesuffix("b")
    shift = _SUFFIX.get(text[-1:], 0)
    digits = text[:-1] if shift else text
    return int(digits) << shift if digits.isdigit() else default
