"""What the runner adds to a job: the same fio job by itself and under `sevkit bench run --where host`, in turns.

Added to each job is the time from one record to the next without the job's own time by the same clock: preparing, the
two looks at the clock, reading the output, writing it to the disk. Setting up a campaign (looking at the host) comes
once and is told apart. The job by itself stands beside it, to show that it is the same job. The promise is under 1 %
of a 30 s job. Give the seconds of a job and the number of rounds: 30 3 by default.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sevkit.bench import suite
from sevkit.bench.campaign import directory as campaign
from sevkit.bench.campaign.directory import Wish
from sevkit.vocabulary import Mode

COMMAND = (
    "fio --name=job --filename=$DISK --rw=randread --bs=4k --size=32M --ioengine=psync --time_based"
    " --runtime=$SECONDS_EACH --output-format=json"
)


def alone(seconds: float, folder: Path) -> float:
    """Seconds of the job by itself."""
    disk = folder / "disk.img"
    with disk.open("wb") as stream:
        stream.truncate(64 << 20)
    command = COMMAND.replace("$DISK", str(disk)).replace("$SECONDS_EACH", f"{seconds:g}")
    started = time.perf_counter()
    subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=True)
    return time.perf_counter() - started


def under_the_runner(seconds: float, folder: Path, index: int) -> tuple[float, float, float]:
    """Seconds of the job in a campaign of one sample, what was added to it, and what setting up took."""
    (folder / "own.toml").write_text(
        f"family = 'own'\n[workload.job]\ncommand = '''{COMMAND}'''\nparse = 'fio'\nmetric = 'iops'\nunit = '1/s'\n"
        "direction = 'higher is better'\n"
    )
    profile = suite.Profile("o", "o", ("job",), (Mode.NOSEV,), 1, 1, 1, 0, control=False, seconds=seconds, disk_mib=64)
    prepared = campaign.prepare(Wish(profile, where="host", suite_file=folder / "own.toml"))
    moments = [time.perf_counter()]
    outcome = campaign.measure(prepared, folder / f"r{index}", report=lambda _: moments.append(time.perf_counter()))
    moments.append(time.perf_counter())
    assert not outcome.failures, outcome.failures
    job = float(outcome.samples[0].extra["seconds"])
    # The moments: start, boot recorded, first metric of the sample recorded, …, end.
    return job, moments[2] - moments[1] - job, moments[1] - moments[0]


def main() -> None:
    """Take turns, print both and the difference."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    plain, jobs, added, setting_up = [], [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for index in range(rounds):
            plain.append(alone(seconds, folder))
            job, more, once = under_the_runner(seconds, folder, index)
            jobs.append(job)
            added.append(more)
            setting_up.append(once)
    middle = sorted(added)[rounds // 2]
    print(f"the job alone {statistics(plain)} s, in the campaign {statistics(jobs)} s")
    print(f"the runner adds {middle * 1000:.0f} ms to each job: {middle / seconds:.2%}")
    print(f"setting up, once: {statistics(setting_up)} s")


def statistics(values: list[float]) -> str:
    """Median and range."""
    return f"{sorted(values)[len(values) // 2]:.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
