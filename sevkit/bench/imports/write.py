"""Write results that were not measured here as a results directory."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sevkit.bench.analysis import published
from sevkit.bench.imports.files import Given, Imported
from sevkit.bench.model import Sample
from sevkit.bench.records import SkippedFile
from sevkit.bench.store import Store, digest

_AT_ONCE = 5000


def imported(output: Path, found: Imported, *, folder: Path, given: Given) -> None:
    """Make a results directory from the samples in ``folder``, with a copy of each file that they came from."""
    sources = {name: digest((folder / name).read_bytes()) for name in found.files}
    header = {
        "origin": "import",
        "title": f"Imported from {folder.name}",
        "files": found.files,
        "sources": sources,
        "given": asdict(given),
        "created": time.time(),
    }
    with Store.create(output, header) as store:
        for name in found.files:
            store.keep_raw(name, (folder / name).read_bytes())
        _samples(store, found.samples)
        store.append(*(SkippedFile(name, reason).record() for name, reason in found.skipped))


def study(output: Path, *, first_job_only: bool = False) -> int:
    """Make a results directory of the published study; returns the number of samples."""
    about = published.about()
    header = {
        "origin": "import",
        "title": about["title"],
        "environment": {"source": about["source"], **about["environment"]},
        "known_mistakes": [about["note"], *about["known_mistakes"]],
        "created": time.time(),
    }
    samples = published.samples(first_job_only=first_job_only)
    with Store.create(output, header) as store:
        _samples(store, samples)
    return len(samples)


def _samples(store: Store, samples: Sequence[Sample]) -> None:
    """Append samples, each boot before its first sample, with few writes."""
    records = list(_records(samples))
    for start in range(0, len(records), _AT_ONCE):
        store.append(*records[start : start + _AT_ONCE])


def _records(samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for sample in samples:
        if sample.at.identity not in seen:
            seen.add(sample.at.identity)
            yield sample.at.record()
        yield sample.record()
