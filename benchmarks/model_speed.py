"""How fast the model is: encryption next to OpenSSL's own benchmark, the matrix, the mock's leak demo, the laws.

The two sides of the encryption take turns in one run, both bound to one core, and are given as the ratio of medians:
absolute speeds move with what else the machine does. Run as ``python -m benchmarks.model_speed``; ``--quick`` for a
short one.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

from sevkit import processes
from sevkit.model.cipher import PAGE, UNIT, MemoryKey, Scheme
from sevkit.model.launch import launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.platform import Platform
from sevkit.vocabulary import Mode


def against_openssl(turns: int, seconds: int) -> dict[str, float]:
    """Bytes per second of whole-page encryption (XEX, 2 MiB at a time) and of ``openssl speed`` at its best size."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    key, data, out = MemoryKey(bytes(range(16))), os.urandom(UNIT), memoryview(bytearray(UNIT + 15))
    own: list[float] = []
    theirs: dict[int, list[float]] = {PAGE: [], 16 * PAGE: []}
    for _ in range(turns):
        own.append(_rate(lambda: key.encrypt_into(5 * UNIT, data, out), UNIT, seconds))
        for size, rates in theirs.items():
            rates.append(_openssl(size, seconds))
    best = max(statistics.median(rates) for rates in theirs.values())
    result = {f"openssl_{size}_bytes_per_s": statistics.median(rates) for size, rates in theirs.items()}
    return {"model_bytes_per_s": statistics.median(own), **result, "ratio": statistics.median(own) / best}


def _rate(action: Callable[[], object], size: int, seconds: float) -> float:
    """Bytes per second of processor time, which is what ``openssl speed`` counts too."""
    count, start = 0, time.thread_time()
    while time.thread_time() - start < seconds:
        action()
        count += 1
    return count * size / (time.thread_time() - start)


def _openssl(size: int, seconds: int) -> float:
    argv = ["openssl", "speed", "-evp", "aes-128-xts", "-bytes", str(size), "-seconds", str(seconds), "-mr"]
    done = processes.run(argv, timeout=60 + seconds)
    line = next(line for line in done.text.splitlines() if line.startswith("+F:"))
    return float(line.rsplit(":", 1)[1])


def single_accesses(seconds: float) -> dict[str, float]:
    """Guest accesses of one block a second, by mode and scheme: what the matrix and the laws are made of."""
    result = {}
    for mode in Mode:
        for scheme in Scheme if mode is Mode.SEV else (Scheme.XEX,):
            platform = Platform(PlatformConfig(snp=mode is Mode.SEV_SNP, scheme=scheme))
            vm = launch(platform, mode, pages=4).vm
            name = f"{mode}_{scheme}_writes_per_s"
            result[name] = _rate(lambda vm=vm: vm.write(PAGE, b"sixteen bytes..."), 1, seconds)  # type: ignore[misc]
    return result


def command_seconds(*arguments: str) -> float:
    """Wall time of a whole sevkit command."""
    start = time.perf_counter()
    done = processes.run([sys.executable, "-m", "sevkit", *arguments], timeout=600)
    if done.status != 0:
        raise SystemExit(f"sevkit {' '.join(arguments)} ended with {done.status}: {done.error_text}")
    return time.perf_counter() - start


def tebibyte() -> dict[str, float]:
    """What a guest of 1 TiB costs that touches three pages."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    platform = Platform(PlatformConfig(memory=2 << 40, snp=False))
    vm = launch(platform, Mode.SEV, pages=0).vm
    vm.npt.map_region(0, 1 << 40, 1 << 30)
    for gpa in (0, 1 << 39, (1 << 40) - PAGE):
        vm.write(gpa, b"touched")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"seconds": time.perf_counter() - start, "grown_mib": grown / 1024}


def main() -> None:
    """Run all and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    repeats = 1 if options.quick else 5
    affinity = os.sched_getaffinity(0)
    results: dict[str, object] = {"load_average": os.getloadavg(), "cores": os.cpu_count()}
    results["encryption"] = against_openssl(3 if options.quick else 9, 1)
    os.sched_setaffinity(0, affinity)
    results["accesses"] = single_accesses(0.2 if options.quick else 1)
    results["tebibyte"] = tebibyte()
    demo = ("attack", "run", "leak", "--hypervisor", "mock", "--modes", "nosev,sev", "--json")
    for name, arguments in {
        "matrix_s": ("attack", "matrix", "--json"),
        "mock_leak_demo_live_s": (*demo, "--capture", "live"),
        "mock_leak_demo_gcore_s": (*demo, "--capture", "gcore"),
    }.items():
        results[name] = statistics.median(command_seconds(*arguments) for _ in range(repeats))
    print(json.dumps(results, indent=2, default=lambda value: round(value, 3)))


if __name__ == "__main__":
    main()
