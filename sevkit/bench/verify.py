"""Do the recorded values follow from what the programs printed? Raw outputs are parsed again, by the same readers.

The chain of hashes shows an edit of a line, or of the header. Whoever writes a new chain around a changed value is
found here, unless the raw output was changed to fit as well.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from sevkit.bench import store as stores
from sevkit.bench import suite
from sevkit.bench.imports import files, parse
from sevkit.bench.model import Sample
from sevkit.bench.store import Campaign
from sevkit.bench.suite import Workload
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode, Provenance

_MOST_REASONS = 20
_ROUNDING = 1e-9
_TIMED = ("time", "rate")
Run = tuple[str, str, str, int, bool, Any]  # one run of a workload: boot, name, storage, iteration, warm-up, guest


class Finding(StrEnum):
    """What the values are worth."""

    INTACT = "intact"
    CHANGED = "changed"
    INCONCLUSIVE = "inconclusive"


@dataclass
class Verification:
    """The result; ``parsed`` and ``timed`` count the samples that were checked in either way.

    ``means`` follow from their raw outputs, but are no percentiles: older versions averaged those of fio's jobs.
    """

    samples: int
    chained: bool
    parsed: int = 0
    timed: int = 0
    raw_files: int = 0
    changes: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    means: list[Sample] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """What is worth knowing of values that follow from their raw outputs."""
        return [told_means(self.means)] if self.means else []

    @property
    def finding(self) -> Finding:
        """The verdict: intact needs every sample to be checked."""
        if self.changes:
            return Finding.CHANGED
        return Finding.INCONCLUSIVE if self.unsure else Finding.INTACT

    @property
    def reasons(self) -> list[str]:
        """What was found, the first twenty."""
        found = [*self.changes, *self.unsure]
        more = [f"… and {len(found) - _MOST_REASONS} more"] if len(found) > _MOST_REASONS else []
        return [*found[:_MOST_REASONS], *more]


def told_means(means: Sequence[Sample]) -> str:
    """What is said of samples that older versions took for percentiles."""
    names = ", ".join(sorted({f"{s.workload} ({s.metric.name})" for s in means}))
    return (
        f"{len(means)} values are left aside: an older sevkit recorded means of the percentiles of several jobs or "
        f"directions, which are no percentiles ({names})"
    )


def verify(path: Path) -> Verification:
    """Check a results directory; raises BadInputError when it is none."""
    return verified(stores.load(path))


def verified(campaign: Campaign) -> Verification:
    """Check a results directory that was read, and note the raw outputs in it that were changed."""
    found = Verification(len(campaign.samples), bool(campaign.header.get("chained")))
    found.changes += campaign.damage
    campaign.changed_raw = stores.changed_raw(campaign)
    found.changes += [f"{name} is missing, or was changed" for name in campaign.changed_raw]
    if not found.chained:
        found.unsure.append("lines are not chained (an older version, or removed): an edit would not show")
    if campaign.header.get("origin") == "run":
        _measured(campaign, found)
    elif isinstance(campaign.header.get("sources"), dict):
        _imported(campaign, found)
    else:
        found.unsure.append("no raw outputs were kept: the values cannot be parsed again")
    left = found.samples - found.parsed - found.timed
    if left and not found.changes and not found.unsure:
        found.unsure.append(f"{left} of {found.samples} samples have no raw output")
    return found


def _measured(campaign: Campaign, found: Verification) -> None:
    known = _workloads(campaign, found)
    found.changes += _misplaced(campaign)
    runs: dict[Run, list[Sample]] = {}
    for sample in campaign.samples:
        which = (sample.iteration, sample.warmup, sample.extra.get("guest"))
        run = (sample.at.identity, sample.workload, sample.storage, *which)
        runs.setdefault(run, []).append(sample)
    for run, samples in runs.items():
        workload = known.get(run[1])
        if len(samples) > 1 and len({sample.metric.name for sample in samples}) < len(samples):
            found.changes.append(f"{_words(samples[0])} is there twice")
        own = samples[0].family == "boot" and workload is None  # a workload of the plan cannot be called one
        if samples[0].at.provenance is Provenance.MOCK or own:
            found.timed += len(samples)  # invented, or taken from several clocks: nothing to parse
        elif workload is not None:
            _run(campaign, workload, samples, found)


def _misplaced(campaign: Campaign) -> Iterator[str]:
    """Samples are numbered as they are written, and each raw output is of one sample: gaps and repetitions show."""
    orders = sorted(sample.order for sample in campaign.samples)
    if orders != list(range(len(orders))) and not campaign.damage:
        yield f"the numbers of the {len(orders)} samples have gaps or repetitions: samples were removed or added"
    names = Counter(name for s in campaign.samples if isinstance(name := s.extra.get("raw"), str))
    yield from (f"{name} is the raw output of {count} samples" for name, count in names.items() if count > 1)


def _workloads(campaign: Campaign, found: Verification) -> dict[str, Workload]:
    """The workloads as the header has them."""
    entries = campaign.header.get("plan", {}).get("workloads", {})
    try:
        return {name: suite.workload_from(name, entry, stores.HEADER) for name, entry in entries.items()}
    except (BadInputError, AttributeError, TypeError) as error:
        found.unsure.append(f"the header's workloads cannot be read: {error}")
        return {}


def _run(campaign: Campaign, workload: Workload, samples: Sequence[Sample], found: Verification) -> None:
    name = next((s.extra["raw"] for s in samples if isinstance(s.extra.get("raw"), str)), None)
    seconds = samples[0].extra.get("seconds")
    if not isinstance(seconds, int | float) or (name is None and workload.parse not in _TIMED):
        return
    raw = b""
    if name is not None:
        found.raw_files += 1
        try:
            raw = stores.read_raw(campaign.path, Path(name).name)
        except OSError:
            return  # told already
    try:
        values = {metric.name: value for metric, value in parse.read(workload, raw, float(seconds))}
    except BadInputError as error:
        found.changes.append(f"{_words(samples[0])}: {name or 'its time'} gives no value: {error.message}")
        return
    missing = any(sample.metric.name not in values for sample in samples)
    means = parse.mean_percentiles(workload, raw) if missing else {}
    for sample in samples:
        name = sample.metric.name
        if name not in values and name in means and math.isclose(sample.value, means[name], rel_tol=_ROUNDING):
            found.means.append(sample)
        else:
            _value(sample, values.get(name), found)
    if workload.parse in _TIMED:
        found.timed += len(samples)
    else:
        found.parsed += len(samples)


def _value(sample: Sample, expected: float | None, found: Verification) -> None:
    if expected is None or not math.isclose(sample.value, expected, rel_tol=_ROUNDING):
        told = "nothing" if expected is None else f"{expected:g}"
        found.changes.append(f"{_words(sample)}: {sample.value:g} is recorded, its raw output says {told}")


def _words(sample: Sample) -> str:
    return f"{sample.workload} ({sample.metric.name}) in {sample.at.identity}, sample {sample.iteration}"


def _imported(campaign: Campaign, found: Verification) -> None:
    """Import the kept files again, and compare all values."""
    folder = campaign.path / stores.RAW
    found.changes += list(_changed_sources(campaign.header["sources"], campaign.path))
    try:
        again = files.read_folder(folder, _given(campaign.header.get("given", {})))
    except (BadInputError, ValueError) as error:
        found.changes.append(f"the kept files cannot be imported again: {error}")
        return
    found.raw_files = len(again.files)
    means = set(map(_key, again.means))
    found.means = [sample for sample in campaign.samples if _key(sample) in means]
    recorded = _counted([sample for sample in campaign.samples if _key(sample) not in means])
    expected = _counted(again.samples)
    for key in recorded - expected:
        workload, metric, mode, value = key
        found.changes.append(f"{workload} ({metric}) in {mode}: {value:g} is recorded, no kept file says so")
    for key in expected - recorded:
        workload, metric, mode, value = key
        found.changes.append(f"{workload} ({metric}) in {mode}: {value:g} is in a kept file, and not recorded")
    found.parsed = len(campaign.samples)


def _changed_sources(sources: Mapping[str, str], path: Path) -> Iterator[str]:
    for name, expected in sources.items():
        try:
            same = stores.digest(stores.read_raw(path, name)) == expected
        except OSError:
            same = False
        if not same:
            yield f"{stores.RAW}/{name} is missing, or was changed"


def _given(entry: Mapping[str, Any]) -> files.Given:
    mode = entry.get("mode")
    return files.Given(
        Mode(mode) if mode else None,
        entry.get("storage"),
        entry.get("workload"),
        Provenance(entry.get("provenance", Provenance.PUBLISHED)),
    )


def _counted(samples: Sequence[Sample]) -> Counter[tuple[str, str, str, float]]:
    return Counter(map(_key, samples))


def _key(sample: Sample) -> tuple[str, str, str, float]:
    return sample.workload, sample.metric.name, sample.arm_name, float(f"{sample.value:.9g}")
