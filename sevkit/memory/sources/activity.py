"""Whether data may have moved while a process was searched: it ran meanwhile, or another one can write to its memory.

What moves from memory that was not searched yet to memory that was is never seen. So a search of a process that ran
cannot show that something is not there.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from sevkit import procfs

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAY_RUN = "RW"  # states in stat, proc(5): running, waking
_KCMP, _VM = 312, 1  # the number of kcmp(2) on x86-64, and KCMP_VM
_libc = ctypes.CDLL(None, use_errno=True)


def ran(pid: int) -> dict[int, str] | None:
    """The threads of a process and how often and how long each has run (schedstat); None if it cannot be told.

    Equal at two moments, no thread of it ran between them. A thread that is running at one of them makes it None.
    """
    found: dict[int, str] = {}
    try:
        for thread in map(int, os.listdir(f"/proc/{pid}/task")):  # noqa: PTH208 - pathlib would cost start-up time
            time, _, slices = procfs.read(f"/proc/{pid}/task/{thread}/schedstat").split()
            state = procfs.thread_state(pid, thread)
            if not state or state in _MAY_RUN:
                return None
            found[thread] = f"{time} {slices}"
    except (OSError, ValueError):  # it ended, or a kernel without CONFIG_SCHED_INFO
        return None
    return found


def writers(pid: int, files: Iterable[tuple[str, int]]) -> list[int]:
    """Other processes that can write to this memory, and are not stopped.

    They map one of these files (device, inode) to write to it, or share the whole address space without being threads
    (CLONE_VM without CLONE_THREAD). Processes of other users are not seen without privileges.
    """
    wanted = set(files)
    others = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    return [other for other in others if other not in (pid, os.getpid()) and _writes(other, pid, wanted)]


def _writes(pid: int, to: int, wanted: set[tuple[str, int]]) -> bool:
    if _one_memory(pid, to):
        return procfs.thread_state(pid, pid) not in ("T", "t", "Z")
    if not wanted:
        return False
    for line in procfs.read(f"/proc/{pid}/maps").splitlines():
        _, perms, _, device, inode, *_ = line.split(maxsplit=5)
        if perms[1] == "w" and perms[3] == "s" and (device, int(inode)) in wanted:
            return procfs.thread_state(pid, pid) not in ("T", "t")
    return False


def _one_memory(one: int, other: int) -> bool:
    """Whether two processes share their address space; where kcmp(2) is refused, whether maps and counts are equal."""
    order = int(_libc.syscall(_KCMP, one, other, _VM, 0, 0))
    if order >= 0:
        return order == 0
    found = procfs.read(f"/proc/{one}/statm")
    return (
        bool(found)
        and found == procfs.read(f"/proc/{other}/statm")
        and procfs.read(f"/proc/{one}/maps") == procfs.read(f"/proc/{other}/maps")
    )
