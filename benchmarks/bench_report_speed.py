"""How long compare, report and lint take over 100,000 samples, and how much memory: each as users call it, a process.

The promise is under 3 s and 200 MB each.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sevkit.bench.campaign import directory, run
from sevkit.bench.model import AGAIN, IOPS, LATENCY, Boot, Sample
from sevkit.bench.records import Stop
from sevkit.bench.suite import Profile
from sevkit.vocabulary import Mode, Provenance

_STORAGES = ("virtio-blk", "virtio-scsi", "nvme")


def synthetic(count: int) -> list[Sample]:
    """An interleaved campaign of about that many samples: 10 workloads, 3 storages, five arms."""
    random = np.random.default_rng(0)
    arms = [(f"nosev{AGAIN}", Mode.NOSEV), *((str(mode), mode) for mode in Mode)]
    boots = round(count / (10 * 3 * len(arms) * 10))
    samples: list[Sample] = []
    for boot in range(boots):
        for arm, mode in arms:
            at = Boot(f"c0.b{boot}.{arm}.a0", Provenance.MOCK, {"kernel": "6.1"})
            for workload in range(10):
                metric = IOPS if workload % 2 else LATENCY
                for storage in _STORAGES:
                    values = 1000 * np.exp(random.normal(0.02 * list(Mode).index(mode), 0.02, 10))
                    samples += [
                        Sample(f"w{workload}", storage, metric, mode, float(v), arm, boot, i, len(samples) + i, at=at)
                        for i, v in enumerate(values)
                    ]
    return samples


def write(path: Path, samples: list[Sample]) -> None:
    """Write them as a campaign of the mock that has ended."""
    profile = Profile("speed", "speed", ("sha256",))
    plan = directory.prepare(directory.Wish(profile, where="mock")).plan
    store, _ = run.open_store(path, plan, {"title": "speed"})
    boots = {s.at.identity: s.at for s in samples}
    with store:
        store.append(*(boot.record() for boot in boots.values()), *(s.record() for s in samples))
        store.append(Stop("boots", len({s.boot for s in samples})).record())


def _prepare(path: Path, count: int) -> int:
    samples = synthetic(count)
    write(path, samples)
    return len(samples)


def measure(*words: str | Path) -> str:
    """Run a command; returns its wall clock time and the most memory that it had."""
    started = time.perf_counter()
    argv = [sys.executable, "-m", "sevkit", "bench", *map(str, words)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    return f"{seconds:.2f} s ({usage.ru_utime + usage.ru_stime:.2f} s of CPU), {usage.ru_maxrss / 1000:.0f} MB"


def main() -> None:
    """Write a campaign, run the commands on it, print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_800
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "results"
        # In another process: what this one has held would count as the memory of each command that it starts.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(f"{pool.apply(_prepare, (path, count))} samples")
        for words in (("compare",), ("report",), ("report", "--html", Path(scratch) / "r.html"), ("lint",)):
            name = " ".join(str(word) for word in words if not isinstance(word, Path))
            print(f"{name}: {measure(words[0], path, *words[1:])}")


if __name__ == "__main__":
    main()
