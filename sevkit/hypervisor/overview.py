"""An overview of the running guests: mode, processor time, and how the host sees their memory now."""

import os
import time

from sevkit.errors import SevkitError
from sevkit.hypervisor import registry, select
from sevkit.hypervisor.payload import GuestGlance
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.guest_ram.picture import guest_pages
from sevkit.memory.sources.process import LiveMemory

_TICKS = os.sysconf("SC_CLK_TCK")


class Overview:
    """Examines all guests repeatedly; processor time is relative to the previous call."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}  # PID -> time of the last call, processor time in seconds

    def look(self) -> list[GuestGlance]:
        """One row per running guest, in order of name. Reading a guest's memory takes a while for each GiB."""
        return [self._row(record) for record in registry.running()]

    def _row(self, record: registry.Record) -> GuestGlance:
        pages: dict[str, int] | None = None
        problem = None
        try:
            with LiveMemory(record.pid) as source:
                ram = GuestMap(select.attach(record.name).ram_blocks(), "hypervisor")
                pages = guest_pages(source, ram).counts()
        except SevkitError as error:  # the guest may end while its memory is read
            problem = error.message
        return {
            "name": record.name,
            "mode": record.mode,
            "provenance": record.provenance,
            "accel": record.accel,
            "pid": record.pid,
            "cpu_percent": self._cpu(record.pid),
            "pages": pages,
            "problem": problem,
        }

    def _cpu(self, pid: int) -> float | None:
        """Per cent of one CPU since the last call; None on the first call, and for a process that has ended."""
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - not a file that a path would help with
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        now, used = time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS  # utime and stime, proc(5)
        before = self._before.get(pid)
        self._before[pid] = now, used
        return None if before is None or now == before[0] else round(100 * (used - before[1]) / (now - before[0]), 1)
