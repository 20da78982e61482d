"""What hypervisors counted while workloads ran: exits by reason, for each workload and mode."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sevkit.bench.analysis.compare import arms_of
from sevkit.bench.analysis.comparison import Arm, Series
from sevkit.bench.model import Sample
from sevkit.bench.payload import Counted, ExitsRow


def exits(samples: Sequence[Sample]) -> list[ExitsRow]:
    """The counts per sample of each arm that has any."""
    return [row for series, arms in arms_of(samples).items() for arm in arms.values() for row in _row(series, arm)]


def _row(series: Series, arm: Arm) -> Iterator[ExitsRow]:
    counted = [found for s in arm.samples if (found := _counts(s.extra.get("counted"))) is not None]
    if not counted:
        return
    names = sorted({name for one in counted for name in one})
    command = _command(arm)
    seconds = [float(s.extra.get("seconds", 0.0)) for s in arm.samples]
    yield {
        "workload": series.workload,
        "storage": series.storage or None,
        "conditions": dict(series.conditions),
        "arm": arm.name,
        "samples": len(counted),
        "seconds": sum(seconds) / len(seconds),
        "counts": {name: _counted([one.get(name, 0) for one in counted], command.get(name, 0.0)) for name in names},
    }


def _counts(value: Any) -> Mapping[str, int] | None:
    """The counters of a sample; None for anything else that a file may hold."""
    if not isinstance(value, dict):
        return None
    return {str(name): count for name, count in value.items() if isinstance(count, int) and count >= 0}


def _counted(values: Sequence[int], command: float) -> Counted:
    return {"mean": sum(values) / len(values), "least": min(values), "most": max(values), "command": command}


def _command(arm: Arm) -> Mapping[str, float]:
    """What an empty command counted, the mean over boots."""
    boots = {s.at.identity: s.at.environment.get("command counted") for s in arm.samples}
    found: dict[str, float] = {}
    for entry in boots.values():
        for name, count in (entry if isinstance(entry, dict) else {}).items():
            if isinstance(count, int | float):
                found[str(name)] = found.get(str(name), 0.0) + count
    return {name: count / len(boots) for name, count in found.items()}
