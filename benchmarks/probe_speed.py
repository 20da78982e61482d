"""How fast the probe is, as ratios within one run: `python -m benchmarks.probe_speed`.

Start-up: `sevkit probe --json`, and `sevkit scan --json` of a small process, against a bare `python -c pass`,
interleaved, with byte code compiled beforehand as an installation has it. Decoding: dumps of `cpuid -r`, of one and of
64 CPUs, from bytes to the whole report. The output is one JSON document.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sevkit.probe.report import report
from sevkit.probe.report_leaf import leaf_report
from sevkit.probe.sources import facts_from

ROUNDS = 40
_ANY = "eax=0x00000001 ebx=0x00000002 ecx=0x00000003 edx=0x00000004"
_LEAVES = (
    "0x00000000 0x00: eax=0x00000010 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65",
    "0x00000001 0x00: eax=0x00a10f11 ebx=0x00000800 ecx=0x7ef8320b edx=0x178bfbff",
    *(f"0x{leaf:08x} 0x00: {_ANY}" for leaf in range(2, 17)),
    *(f"0x0000000d 0x{sub:02x}: {_ANY}" for sub in range(1, 40)),
    "0x80000000 0x00: eax=0x80000028 ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65",
    *(f"0x{leaf:08x} 0x00: {_ANY}" for leaf in range(0x80000005, 0x8000001F)),
    "0x8000001f 0x00: eax=0x030ffffb ebx=0x00004173 ecx=0x000003ee edx=0x00000064",
)  # fmt: skip


def dump(cpus: int) -> bytes:
    """A dump as long as those of real machines: 84 lines for each CPU."""
    return "".join(f"CPU {cpu}:\n" + "".join(f"   {line}\n" for line in _LEAVES) for cpu in range(cpus)).encode()


def start_up(cache: str) -> dict[str, float]:
    """Seconds of the commands, taken in turns, and the ratios of the medians and of the minima to bare Python's."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with subprocess.Popen(["sleep", "600"]) as target:
        scan = ["-m", "sevkit", "scan", "--json", "--pid", str(target.pid), "--secret", "not-in-this-process"]
        commands = {"bare": ["-c", "pass"], "probe": ["-m", "sevkit", "probe", "--json"], "scan": scan}
        times: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(ROUNDS + 2):
            for name, words in commands.items():
                start = time.perf_counter()
                subprocess.run([sys.executable, *words], env=environment, stdout=subprocess.DEVNULL, check=True)
                if number >= 2:  # the first rounds compile, and warm the caches
                    times[name].append(time.perf_counter() - start)
        target.kill()
    found: dict[str, float] = {"rounds": ROUNDS}
    for name, seconds in times.items():
        found[f"{name}_median_s"] = statistics.median(seconds)
        found[f"{name}_ratio_of_medians"] = statistics.median(seconds) / statistics.median(times["bare"])
        found[f"{name}_ratio_of_minima"] = min(seconds) / min(times["bare"])
    return found


def rate(work: Callable[[], object], seconds: float = 2.0) -> float:
    """Calls a second."""
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        work()
        count += 1
    return count / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    small, large = dump(1), dump(64)
    with tempfile.TemporaryDirectory() as cache:
        result = {
            "start_up": start_up(cache),
            "dumps_decoded_per_second": {
                "one_cpu_leaf": rate(lambda: leaf_report(facts_from(small, "x"))),
                "one_cpu_whole_report": rate(lambda: report(facts_from(small, "x"))),
                "64_cpus_leaf": rate(lambda: leaf_report(facts_from(large, "x"))),
            },
            "dump_bytes": {"one_cpu": len(small), "64_cpus": len(large)},
            "python": sys.version.split()[0],
            "cpus": os.cpu_count(),
            "machine": Path("/proc/cpuinfo").read_text().partition("model name")[2].partition("\n")[0].strip("\t: "),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
