"""How long a report over 100,000 samples takes, and how much memory: the promise is under 10 s and under 1 GiB."""

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sevkit.bench import report
from sevkit.bench.analysis.comparison import Rules
from sevkit.bench.imports import write
from sevkit.bench.imports.files import Imported
from sevkit.bench.model import AGAIN, IOPS, LATENCY, Boot, Sample
from sevkit.render import bench_html
from sevkit.vocabulary import Mode, Provenance


def synthetic(count: int) -> list[Sample]:
    """An interleaved campaign of that many samples: 10 workloads, 3 storages, five arms."""
    random = np.random.default_rng(0)
    arms = [(f"nosev{AGAIN}", Mode.NOSEV), *((str(mode), mode) for mode in Mode)]
    boots = count // (10 * 3 * len(arms) * 10)
    samples: list[Sample] = []
    for boot in range(boots):
        for arm, mode in arms:
            at = Boot(f"c0.b{boot}.{arm}.a0", Provenance.MOCK, {"kernel": "6.1"})
            for workload in range(10):
                metric = IOPS if workload % 2 else LATENCY
                for storage in ("virtio-blk", "virtio-scsi", "nvme"):
                    values = 1000 * np.exp(random.normal(0.02 * list(Mode).index(mode), 0.02, 10))
                    samples += [
                        Sample(f"w{workload}", storage, metric, mode, float(v), arm, boot, i, len(samples) + i, at=at)
                        for i, v in enumerate(values)
                    ]
    return samples


def main() -> None:
    """Write a campaign, report on it, print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "results"
        write.imported(path, Imported(synthetic(count)), source="synthetic")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        found = report.of_directory(path, Rules())
        page = bench_html.render(found)
        seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{count} samples: {seconds:.2f} s, peak {peak / 1024:.0f} MiB (before: {before / 1024:.0f}), {len(page)} bytes"
    )


if __name__ == "__main__":
    main()
