"""The running guests at a glance: mode, processor time, and what their memory looks like to the host right now."""

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
    """Looks at all guests again and again; processor time is since the look before."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, float]] = {}  # PID -> when, seconds of processor time

    def look(self) -> list[GuestGlance]:
        """One row for each running guest, in order of name. Reading a guest's memory takes a while for each GiB."""
        return [self._row(record) for record in registry.running()]

    def _row(self, record: registry.Record) -> GuestGlance:
        pages: dict[str, int] | None = None
        problem = None
        try:
            with LiveMemory(record.pid) as source:
                ram = GuestMap(select.attach(record.name).ram_blocks(), "hypervisor")
                pages = guest_pages(source, ram).counts()
        except SevkitError as error:  # it may end while it is looked at
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
        """Per cent of one CPU since the last look; None at the first, and for a process that is gone."""
        try:
            with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - not a file that a path would help with
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return None
        now, used = time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS  # utime and stime, proc(5)
        before = self._before.get(pid)
        self._before[pid] = now, used
        return None if before is None or now == before[0] else round(100 * (used - before[1]) / (now - before[0]), 1)
