"""From launch to the first command: sevkit against the bare QEMU command line with the same image, side by side.

Run: python -m benchmarks.guest_launch [ROUNDS]. Rounds alternate, so that a slow minute hits both alike.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

from sevkit import processes
from sevkit.guest import image
from sevkit.guest.channel import AgentChannel
from sevkit.guest.spec import Accel, GuestSpec
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor


def with_sevkit(hypervisor: QemuHypervisor, number: int) -> float:
    started = time.perf_counter()
    guest = hypervisor.launch(GuestSpec(name=f"bench-{number}", accel=Accel.TCG))
    guest.run("true")
    seconds = time.perf_counter() - started
    guest.stop()
    return seconds


def bare(hypervisor: QemuHypervisor, number: int) -> float:
    spec = GuestSpec(name=f"bare-{number}", accel=Accel.TCG)
    with tempfile.TemporaryDirectory() as folder:
        words = list(hypervisor.command_line(spec))
        here = next(word for word in words if "id=qmp" in word).split("path=")[1].split("/qmp,")[0]
        words = [word.replace(here, folder) for word in words]
        started = time.perf_counter()
        process = processes.start(words)
        try:
            agent = AgentChannel(Path(folder) / "agent", lambda: process.poll() is None)
            agent.wait_ready(time.monotonic() + 120)
            agent.run("true", timeout=10)
            return time.perf_counter() - started
        finally:
            processes.stop(process)


def many(hypervisor: QemuHypervisor, count: int) -> float:
    started = time.perf_counter()
    specs = [GuestSpec(name=f"many-{i}", memory_mib=256, accel=Accel.TCG) for i in range(count)]
    guests = hypervisor.launch_many(specs, timeout=300)
    seconds = time.perf_counter() - started
    for guest in guests:
        guest.stop()
    return seconds


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    image.get("mini")
    hypervisor = QemuHypervisor()
    bare(hypervisor, 0)  # warm the page cache
    pairs = [(with_sevkit(hypervisor, i), bare(hypervisor, i)) for i in range(rounds)]
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    print(f"sevkit   {statistics.median(ours for ours, _ in pairs):6.2f} s (median of {rounds})")
    print(f"bare     {statistics.median(theirs for _, theirs in pairs):6.2f} s")
    print(
        f"ratio    {statistics.median(ratios):6.2f}   (from {ratios[0]:.2f} to {ratios[-1]:.2f}; wanted: at most 1.15)"
    )
    print(f"8 guests {many(hypervisor, 8):6.1f} s until all answer")


if __name__ == "__main__":
    main()
