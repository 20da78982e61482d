"""Speed of the emulator, as ratios side by side in one run: ``python benchmarks/emulator.py --help``.

Guests of all modes run in the same QEMU binary with the same firmware (the one that SEV-SNP needs); which goes first
changes from round to round, and each round gives a ratio to its own plain guest. Judged is the processor time of the
VMM, which other load on the machine hardly moves; the ratio of elapsed times stands beside it. Needs the emulator
built, gcc, openssl.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sevkit.guest import firmware, image  # noqa: E402
from sevkit.guest.spec import GuestSpec  # noqa: E402
from sevkit.vocabulary import Mode  # noqa: E402
from tests.integration.emulator_guest import SOURCES, Emulator, EmulatorGuest, compile_static  # noqa: E402

# Bounds: "boot" and work are slowdowns against the plain guest, at most; "work" is the geometric mean of the suite;
# "cipher" is a share of openssl's speed, at least.
TARGETS = {
    "boot sev": 1.25,
    "boot sev-es": 1.4,
    "boot sev-snp": 1.5,
    "work": 1.15,
    "cpu": 2.0,
    "memory": 2.0,
    "cipher": 0.8,
    "rebuild": 60.0,
    "cached": 2.0,
}
MODES = list(Mode)
WORK = {
    "cpu: SHA-256 of 64 MiB of zeros": "{ head -c 67108864 /dev/zero && : >/tmp/whole; } | sha256sum && rm /tmp/whole",
    "cpu: a shell loop": "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done",
    "memory: 120 MiB into tmpfs": "dd if=/dev/zero of=/tmp/x bs=1M count=120 && rm /tmp/x",
    "memory: SHA-256 of a 64 MiB file": "sha256sum /root/file",
    "memory: strided passes over 64 MiB": "faith memory 64",
    "cpu: 400 forks": "i=0; while [ $i -lt 400 ]; do /bin/busybox true; i=$((i+1)); done",
}
Row = dict[str, object]


@dataclass
class Times:
    """Processor and elapsed seconds of the same work, one of each a round."""

    cpu: list[float] = field(default_factory=list)
    elapsed: list[float] = field(default_factory=list)

    def add(self, cpu: float, elapsed: float) -> None:
        """Keep one round."""
        self.cpu.append(round(cpu, 3))
        self.elapsed.append(round(elapsed, 3))


ByMode = dict[Mode, Times]


def by_mode() -> ByMode:
    return {mode: Times() for mode in MODES}


def cpu_seconds(guest: EmulatorGuest) -> float:
    """User and system time of the VMM with all its threads."""
    spent = psutil.Process(guest.process.pid).cpu_times()
    return float(spent.user + spent.system)


def timed(action: Callable[[], object]) -> float:
    start = time.monotonic()
    action()
    return time.monotonic() - start


def row(name: str, kind: str, value: float, samples: object) -> Row:
    target = TARGETS[kind]
    met = value >= target if kind == "cipher" else value <= target
    return {"name": name, "value": round(value, 3), "target": target, "met": met, "samples": samples}


def median_ratio(below: list[float], above: list[float]) -> float:
    """The median of the ratios of rounds: what disturbs a round disturbs both its halves."""
    return statistics.median(b / a for a, b in zip(below, above, strict=True))


def ratio_rows(name: str, kind: str, times: ByMode) -> list[Row]:
    """One row for each encrypted mode: how much more it took than the plain guest."""
    plain = times[Mode.NOSEV]
    rows = []
    for mode in MODES[1:]:
        samples = {"plain": asdict(plain), "encrypted": asdict(times[mode])}
        target = f"boot {mode}" if kind == "boot" else kind
        made = row(f"{mode}: {name}", target, median_ratio(plain.cpu, times[mode].cpu), samples)
        rows.append({**made, "mode": str(mode), "elapsed": round(median_ratio(plain.elapsed, times[mode].elapsed), 3)})
    return rows


def suite_rows(work: list[list[Row]], label: str) -> list[Row]:
    """The geometric mean of the work suite for each encrypted mode."""
    rows = []
    for number, mode in enumerate(MODES[1:]):
        of_mode = [rows[number] for rows in work]
        made = row(
            f"{mode}: work suite, geometric mean, {label}",
            "work",
            statistics.geometric_mean(float(str(each["value"])) for each in of_mode),
            None,
        )
        elapsed = statistics.geometric_mean(float(str(each["elapsed"])) for each in of_mode)
        rows.append({**made, "mode": str(mode), "elapsed": round(elapsed, 3)})
    return rows


def in_turn(index: int) -> list[Mode]:
    """All modes, beginning with another one each round."""
    return MODES[index % len(MODES) :] + MODES[: index % len(MODES)]


def guests(emulator: Emulator, repeats: int, options: str) -> list[Row]:
    boots = by_mode()
    work = {name: by_mode() for name in WORK}
    for index in range(repeats):
        running: dict[Mode, EmulatorGuest] = {}
        try:
            for mode in in_turn(index):
                spec = GuestSpec(name=str(mode), mode=mode, memory_mib=512)
                start = time.monotonic()
                chosen = "" if mode is Mode.NOSEV else options
                running[mode] = emulator.launch(spec, options=chosen, programs=["faith"])
                boots[mode].add(cpu_seconds(running[mode]), time.monotonic() - start)
            for guest in running.values():
                guest.run("head -c 67108864 /dev/urandom >/root/file")
            for name, command in WORK.items():
                for mode in in_turn(index):
                    guest = running[mode]
                    before = cpu_seconds(guest)
                    elapsed = timed(partial(guest.run, command, timeout=300))
                    work[name][mode].add(cpu_seconds(guest) - before, elapsed)
        finally:
            for guest in running.values():
                guest.stop()
        print(f"round {index + 1} of {repeats} done", file=sys.stderr)
    label = options or "default cache"
    done = [ratio_rows(f"{name}, {label}", name.split(":", maxsplit=1)[0], times) for name, times in work.items()]
    rows = [*ratio_rows(f"boot to the agent, OVMF, {label}", "boot", boots), *suite_rows(done, label)]
    return rows + [each for rows_of_work in done for each in rows_of_work]


def cipher(folder: Path, repeats: int) -> Row:
    """Page encryption against ``openssl speed`` with the same block size, one after the other, several times."""
    driver = folder / "xex"
    engine = ROOT / "emulator/engine"
    subprocess.run(
        [
            *("gcc", "-O2", "-DSOC_XEX_STANDALONE", f"-I{engine}/include", "-o", driver),
            *(engine / "accel/tcg/soc-xex.c", SOURCES / "xex.c"),
        ],
        check=True,
    )
    ours, theirs = [], []
    path = "vaes" if subprocess.run([driver, "vaes", "speed"], check=False, capture_output=True).stdout else "aesni"
    for _ in range(max(3, repeats)):
        ours.append(float(subprocess.run([driver, path, "speed"], check=True, capture_output=True).stdout))
        command = ["openssl", "speed", "-seconds", "1", "-bytes", "4096", "-evp", "aes-128-xts"]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        theirs.append(float(re.findall(r"^AES-128-XTS\s+([\d.]+)k", text, re.MULTILINE | re.IGNORECASE)[0]) * 1000)
    shares = [a / b for a, b in zip(ours, theirs, strict=True)]
    figures = {"engine_GBps": [round(x / 1e9, 2) for x in ours], "openssl_GBps": [round(x / 1e9, 2) for x in theirs]}
    return row(f"page encryption ({path}), share of openssl aes-128-xts", "cipher", statistics.median(shares), figures)


def builds() -> list[Row]:
    """A cached call, and a rebuild after a one-line change (made in a copy of emulator/)."""
    build = ROOT / "emulator/build.sh"
    cached = timed(lambda: subprocess.run([build], check=True, capture_output=True))
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "emulator"
        subprocess.run(["cp", "-r", ROOT / "emulator", copy], check=True)
        with (copy / "engine/accel/tcg/soc-cache.c").open("a") as source:
            source.write(f"/* {time.time()} */\n")
        done: list[str] = []

        def rebuild() -> None:
            run = subprocess.run([copy / "build.sh"], check=True, capture_output=True, text=True)
            done.append(run.stdout.split()[-1])

        seconds = timed(rebuild)
        subprocess.run(["rm", "-r", Path(done[0]).parents[1]], check=True)
    subprocess.run([build], check=True, capture_output=True)  # point "current" back
    return [
        row("cached build, s", "cached", cached, [cached]),
        row("rebuild after one line, s", "rebuild", seconds, [seconds]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--options", action="append", help="options of the encrypting object, such as cache-pages=1024; repeatable"
    )
    parser.add_argument("--image", default="mini", help="mini, or mini-6.12")
    parser.add_argument("--no-builds", action="store_true", help="leave out how long builds take")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    path = subprocess.run([ROOT / "emulator/build.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="sevkit-bench-") as scratch:
        bios = firmware.find(Mode.SEV_SNP, emulated=True)
        emulator = Emulator(Path(path), image.get(given.image), Path(scratch), bios=bios)
        emulator.programs["faith"] = Path(scratch) / "faith"
        compile_static(SOURCES / "faith.c", emulator.programs["faith"])
        rows = [cipher(Path(scratch), given.repeats), *([] if given.no_builds else builds())]
        for options in given.options or ["", "cache-pages=1024"]:
            rows += guests(emulator, given.repeats, options)
    for entry in rows:
        met = "met" if entry["met"] else "MISSED"
        elapsed = f"(elapsed {entry['elapsed']:.2f})" if "elapsed" in entry else ""
        print(f"{entry['name']:60} {entry['value']:8.2f}  target {entry['target']:<5} {met} {elapsed}")
    if given.json:
        given.json.write_text(json.dumps({"load_average": os.getloadavg(), "rows": rows}, indent=2) + "\n")
    return 0 if all(entry["met"] for entry in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
