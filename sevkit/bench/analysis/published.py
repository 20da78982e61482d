"""The published study's results, as data that comes with sevkit (sevkit/bench/data/published)."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

from sevkit.bench import names
from sevkit.bench.model import BANDWIDTH, IOPS, LATENCY, LATENCY_P50, LATENCY_P99, Boot, Direction, Metric, Sample
from sevkit.vocabulary import Mode, Provenance

_FIRST_PER_WORKLOAD = {"time", "copy_rate", "requests"}


@dataclass(frozen=True)
class TableRow:
    """A row of the article's three ratio tables, as printed."""

    table: str
    workload: str
    storage: str
    metric: str
    unit: str
    direction: Direction
    nosev: float
    sev: float
    ratio: float


def about() -> dict[str, Any]:
    """Source, environment, confounds and known mistakes of the study."""
    document: dict[str, Any] = json.loads(_text("study.json"))
    return document


def others() -> list[dict[str, str]]:
    """Figures that others published, with configuration and source."""
    figures: list[dict[str, str]] = json.loads(_text("others.json"))["figures"]
    return figures


def article_tables() -> list[TableRow]:
    """The ratio tables of the article. They show the first of four jobs for IOPS."""
    return [
        TableRow(
            row["table"],
            row["workload"],
            row["storage"],
            row["metric"],
            row["unit"],
            Direction(row["direction"]),
            float(row["nosev"]),
            float(row["sev"]),
            float(row["ratio"]),
        )
        for row in _rows("study-tables.csv")
    ]


def samples(*, first_job_only: bool = False) -> list[Sample]:
    """All values of the study. ``first_job_only`` reads fio as the article did: jobs[0] alone."""
    found = [*_fio(first_job_only), *_runs()]
    return [replace(sample, order=index) for index, sample in enumerate(found)]


@cache
def ratios() -> Mapping[tuple[str, str, str], float]:
    """The study's ratios over all jobs: (workload, storage, metric) -> sev / nosev."""
    from sevkit.bench.analysis.compare import compare
    from sevkit.bench.analysis.comparison import Rules

    found = compare(samples(), Rules(accept_confounds=True, all_metrics=True))
    return {(c.series.workload, c.series.storage, c.series.metric): c.ratio for c in found if c.ratio is not None}


def _fio(first_job_only: bool) -> Iterator[Sample]:
    confounds = tuple(about()["confounds"]["fio"])
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for row in _rows("study-fio.csv"):
        if not (first_job_only and row["job"] != "0"):
            groups.setdefault((row["workload"], row["storage"], row["mode"]), []).append(row)
    for (workload, storage, mode), rows in groups.items():
        main = names.metric_of(workload)
        at = Boot(f"study {workload}-{storage}-{mode}", Provenance.PUBLISHED, confounds=confounds)
        for metric, value in _totals(rows):
            chosen = replace(metric, primary=main is not None and metric.name == main.name)
            time = float(rows[0]["ended"])
            yield Sample(workload, storage, chosen, Mode(mode), value, time=time, family=_family(workload), at=at)


def _family(workload: str) -> str:
    return {"bw": "bandwidth", "iops": "IOPS", "al": "latency"}[workload.split("_", maxsplit=1)[0]]


def _totals(rows: list[dict[str, str]]) -> list[tuple[Metric, float]]:
    """The metrics over all jobs of a run. Percentiles are those of a single job: several have no common one."""
    requests = sum(float(row["requests"]) for row in rows)
    found = [
        (IOPS, sum(float(row["iops"]) for row in rows)),
        (BANDWIDTH, sum(float(row["bandwidth_bytes"]) for row in rows)),
        (LATENCY, sum(float(row["latency_mean_ns"]) * float(row["requests"]) for row in rows) / requests),
    ]
    if len(rows) == 1:
        found += [(LATENCY_P50, float(rows[0]["latency_p50_ns"])), (LATENCY_P99, float(rows[0]["latency_p99_ns"]))]
    return found


def _runs() -> Iterator[Sample]:
    confounds = tuple(about()["confounds"]["all"])
    for row in _rows("study-runs.csv"):
        direction = Direction(row["direction"])
        metric = Metric(row["metric"], row["unit"], direction, primary=row["metric"] in _FIRST_PER_WORKLOAD)
        mode = Mode(row["mode"])
        at = Boot(f"study {row['family']} {mode}", Provenance.PUBLISHED, confounds=confounds)
        iteration = int(row["run"]) - 1
        yield Sample(
            row["workload"], "", metric, mode, float(row["value"]), iteration=iteration, family=row["family"], at=at
        )


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(_text(name).splitlines()))


def _text(name: str) -> str:
    return (resources.files("sevkit") / "bench" / "data" / "published" / name).read_text(encoding="utf-8")
