"""Facts about a process from /proc (proc(5))."""

import os

_YAMA = "/proc/sys/kernel/yama/ptrace_scope"


def process_start_time(pid: int) -> int | None:
    """The start time of a process in clock ticks since boot (stat, field 22). It distinguishes uses of one PID."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def is_zombie(pid: int) -> bool:
    """Whether a process has ended but was not reaped yet (stat, field 3)."""
    return _stat(pid)[:1] == ["Z"]


def command_line(pid: int) -> bytes:
    """The words of a process's command line, each followed by a zero byte, from its memory; empty if it has ended."""
    return read(f"/proc/{pid}/cmdline").encode(errors="surrogateescape")


def ptrace_hint(pid: int) -> str:
    """Why the kernel may have refused ptrace, and what to do."""
    tracer = _tracer(pid)
    if tracer:
        return f"process {tracer} already traces it (a debugger?): end that first"
    scope = read(_YAMA).strip()
    if scope == "3":
        return f"{_YAMA} is 3: ptrace is off until the next boot"
    if scope not in ("", "0") and os.geteuid() != 0:
        return f"run as root, or set {_YAMA} (now {scope}) to 0"
    return "run as root; in a container add the capability SYS_PTRACE"


def _stat(pid: int) -> list[str]:
    """The fields from the third on. The second, the name, may contain blanks and parentheses."""
    return _fields(f"/proc/{pid}/stat")


def _fields(stat: str) -> list[str]:
    return read(stat).rpartition(")")[2].split()


def _tracer(pid: int) -> int:
    """The process that traces ``pid``; TracerPid may name one of its threads."""
    tracer = _status(pid, "TracerPid")
    return _status(tracer, "Tgid") or tracer if tracer else 0


def _status(pid: int, field: str) -> int:
    lines = read(f"/proc/{pid}/status").splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)


def thread_state(pid: int, thread: int) -> str:
    """The state of a thread, a letter of proc(5); "" when there is none."""
    return next(iter(_fields(f"/proc/{pid}/task/{thread}/stat")), "")


def read(path: str) -> str:
    """The text of a file; "" when it cannot be read."""
    try:
        with open(path, errors="surrogateescape") as file:  # noqa: PTH123 - pathlib would cost start-up time
            return file.read()
    except OSError:
        return ""
