"""The environment of a measurement: the published study's table and more, and the facts that two arms must share."""

import contextlib
import hashlib
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

import sevkit
from sevkit import processes
from sevkit.bench.analysis import load

_CPU0 = Path("/sys/devices/system/cpu")


def of_host() -> dict[str, Any]:
    """The host: CPU, memory, kernel, QEMU and the settings that affect benchmarks. Unreadable values are left out."""
    cpu = cpu_info(_text("/proc/cpuinfo"))
    found: dict[str, Any] = {
        "sevkit": sevkit.__version__,
        "host": platform.node(),
        "host CPU": cpu.get("model name", platform.machine()),
        "host CPUs": f"{psutil.cpu_count(logical=False) or '?'} cores, {psutil.cpu_count() or '?'} threads",
        "microcode": cpu.get("microcode"),
        "host memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "host DIMMs": dimms(),
        "host kernel": f"{platform.release()} {platform.version()}",
        "virtualised host": "yes" if "hypervisor" in cpu.get("flags", "").split() else "no",
        "NUMA nodes": _numa(),
        "SMT": _text("/sys/devices/system/cpu/smt/control"),
        "governor": _text(_CPU0 / "cpu0/cpufreq/scaling_governor"),
        "boost": _text(_CPU0 / "cpufreq/boost"),
        "huge pages": _bracketed(_text("/sys/kernel/mm/transparent_hugepage/enabled")),
        "shmem huge pages": _bracketed(_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled")),
        "address randomisation": _text("/proc/sys/kernel/randomize_va_space"),
        "KSM": _text("/sys/kernel/mm/ksm/run"),
        "fio on the host": version("fio"),
        "Python": platform.python_version(),
    }
    return {key: value for key, value in found.items() if value}


CAMPAIGN = "SEVKIT_BENCH"  # in the environment of what a campaign starts on the host: its process


class Others:
    """The CPU time of other programs between two readings: all CPU time of the host, without that of this campaign.

    The load average cannot tell: it counts each of a guest's threads that waits for the disk, so that a campaign alone
    on two CPUs came to a load of 4. Time that a hypervisor below took away (steal) counts as that of others.
    """

    def __init__(self) -> None:
        self._last = self._read()

    def spent(self) -> tuple[float, float]:
        """The seconds of CPU that others used since the last reading, and how long ago that was, in seconds."""
        before, self._last = self._last, self._read()
        seconds, busy, own = (now - then for now, then in zip(self._last, before, strict=True))
        return round(max(0.0, busy - own), 3), round(max(0.0, seconds), 3)

    def cpus(self) -> float | None:
        """The CPUs that others used since the last reading; None where that was a moment ago."""
        spent, seconds = self.spent()
        return round(spent / seconds, 2) if seconds >= load.SHORTEST else None

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """The time, and seconds of CPU: used by all, used by this process and its descendants."""
        times = psutil.cpu_times()  # user has the time of guests in it
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        own = sum(os.times()[:4])  # with children that have ended
        for process in _own():
            with contextlib.suppress(psutil.Error):
                own += sum(process.cpu_times()[:4])
        return time.monotonic(), busy, own


def _own() -> Iterator[psutil.Process]:
    """The descendants of this process, and the daemons that a workload left behind, as redis-server does."""
    me = psutil.Process()
    children = me.children(recursive=True)
    yield from children
    found, mine = {me.pid, *(child.pid for child in children)}, str(me.pid)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            younger = process.pid not in found and process.create_time() > me.create_time()
            if younger and process.environ().get(CAMPAIGN) == mine:
                yield process


def moment(own_cpus: int, others: float | None) -> dict[str, Any]:
    """Values that change from boot to boot: load, the CPUs of the campaign and of others, free memory, clock."""
    return {
        "load": [round(value, 2) for value in os.getloadavg()],
        "other CPUs": others,
        "CPUs": psutil.cpu_count(),
        "own CPUs": own_cpus,
        "memory available MiB": psutil.virtual_memory().available >> 20,
        "CPU MHz": round(psutil.cpu_freq().current) if psutil.cpu_freq() else None,
    }


def host_facts() -> dict[str, str]:
    """The host's share of the facts that two arms must have in common. What this host does not have is left out."""
    optional = {
        "microcode": cpu_info(_text("/proc/cpuinfo")).get("microcode"),
        "governor": _text(_CPU0 / "cpu0/cpufreq/scaling_governor"),
        "boost": _text(_CPU0 / "cpufreq/boost"),
        "SMT": _text("/sys/devices/system/cpu/smt/control"),
    }
    return {
        "host": platform.node(),
        "host kernel": platform.release(),
        "huge pages": _bracketed(_text("/sys/kernel/mm/transparent_hugepage/enabled")) or "unknown",
        "sevkit": sevkit.__version__,
        **{key: value for key, value in optional.items() if value},
    }


def cpu_info(text: str) -> dict[str, str]:
    """The first processor of /proc/cpuinfo."""
    first = text.split("\n\n", maxsplit=1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def dimms() -> str:
    """The memory modules as ``8 x M386A8K40DM2-CWE 64 GB 3200 MT/s``; empty without root or dmidecode."""
    if os.geteuid() != 0 or not processes.have_tool("dmidecode"):
        return ""
    result = processes.run(["dmidecode", "-t", "17"], timeout=10)
    return dimms_from(result.text)


def dimms_from(text: str) -> str:
    """The modules in the output of ``dmidecode -t 17``."""
    counted: dict[str, int] = {}
    for block in text.split("\n\n"):
        fields = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in block.splitlines()) if v}
        if fields.get("Size", "No").split(" ", maxsplit=1)[0].isdigit():
            words = (fields.get(key, "") for key in ("Manufacturer", "Part Number", "Size", "Speed"))
            name = " ".join(word for word in words if word and word not in {"Unknown", "Not Specified"})
            counted[name] = counted.get(name, 0) + 1
    return ", ".join(f"{count} x {name}" for name, count in counted.items())


def of_guest(text: str) -> dict[str, str]:
    """The guest's own view from the output of ``GUEST_PROBE``."""
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip() for key, value in lines.items() if value.strip()}


# One command that prints the values that of_guest() reads.
GUEST_PROBE = """
echo "guest kernel=$(uname -r) $(uname -v)"
echo "guest CPU=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)"
echo "guest CPUs=$(grep -c ^processor /proc/cpuinfo)"
echo "guest memory=$(sed -n 's/^MemTotal: *//p' /proc/meminfo)"
echo "guest huge pages=$(cat /sys/kernel/mm/transparent_hugepage/enabled 2>/dev/null)"
echo "guest encryption=$(dmesg 2>/dev/null | grep -i 'memory encryption' | head -n 1)"
echo "guest bounce buffers=$(dmesg 2>/dev/null | grep -i 'software io tlb: mapped' | head -n 1)"
echo "guest command line=$(cat /proc/cmdline)"
mount -t debugfs none /sys/kernel/debug 2>/dev/null
tlb=/sys/kernel/debug/swiotlb/io_tlb_used
echo "guest bounce slabs=$(cat ${tlb}_hiwater 2>/dev/null || cat $tlb 2>/dev/null)"
echo "guest clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)"
"""
# Linux calls the TSC tsc-early until it has measured it against another clock: the same counter.
_CLOCKS = {"tsc-early": "tsc"}
SLOW_CLOCKS = frozenset({"hpet", "acpi_pm", "jiffies", "refined-jiffies"})
SAME_IN_GUESTS = ("guest kernel", "guest CPU", "guest CPUs", "guest huge pages", "guest clock")


def guest_facts(seen: Mapping[str, str]) -> dict[str, str]:
    """The guest's share of the facts that two arms must have in common."""
    return {key: _CLOCKS.get(seen[key], seen[key]) for key in SAME_IN_GUESTS if key in seen}


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _bracketed(text: str) -> str:
    """The chosen word of a sysfs list like ``always [madvise] never``."""
    return text.partition("[")[2].partition("]")[0] or text


def _numa() -> str:
    return _text("/sys/devices/system/node/online")


@lru_cache(maxsize=32)
def version(program: str) -> str:
    """The first line of ``PROGRAM --version``; empty if the program is missing."""
    if not processes.have_tool(program):
        return ""
    return processes.run([program, "--version"], timeout=10).text.partition("\n")[0].strip()


def firmware(command_line: Sequence[str]) -> str:
    """The firmware of a QEMU command line, by file name and the start of its SHA-256; SeaBIOS if none is named."""
    words = [word for word in command_line if "if=pflash,unit=0" in word]
    path = words[0].rpartition("file=")[2] if words else ""
    if "-bios" in command_line:
        path = command_line[list(command_line).index("-bios") + 1]
    return _digest(Path(path)) if path else "SeaBIOS"


@lru_cache(maxsize=32)
def _digest(path: Path) -> str:
    try:
        return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    except OSError:
        return path.name
