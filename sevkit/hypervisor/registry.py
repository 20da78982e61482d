"""The registry of guests that sevkit has started on this machine, so that later processes find them.

There is one private folder per guest. A record is valid only while its VMM runs: PID and start time must match, so that
a process that reuses the PID is not taken for a guest. Folders of guests that have ended are removed. Files that
another user could have written are ignored, and symbolic links are not followed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sevkit import processes, procfs
from sevkit.errors import NotPermittedError, UsageError
from sevkit.guest.spec import check_name
from sevkit.paths import state_dir, write_private
from sevkit.vocabulary import Mode, Provenance

HYPERVISORS = ("qemu", "emulated", "mock")
_RECORD = "guest.json"
_OWNER = "owner"  # PID and start time of the process that is starting the guest
_MARK = "vmm.mark"  # PID and start time of a detached VMM, written before the record exists
_SOCKETS = ("qmp", "agent", "console", "vmm", "soc")  # of QEMU, and of the mock
_LIMIT = 1 << 20  # bytes; a record is a few thousand


@dataclass(frozen=True)
class Record:
    """What a later process needs to know about a running guest."""

    name: str
    hypervisor: str
    mode: str
    provenance: str
    accel: str
    pid: int
    start_time: int
    detached: bool
    command_line: list[str]
    spec: dict[str, Any]
    notes: list[str]

    def alive(self) -> bool:
        """Whether the process that was started still runs (and not another one with its PID)."""
        return procfs.process_start_time(self.pid) == self.start_time and not procfs.is_zombie(self.pid)


def folder(name: str) -> Path:
    """The private folder of a guest (whether it exists or not)."""
    return state_dir("guests") / check_name(name)


def mark(path: Path) -> Path:
    """The file in a guest's folder that identifies its VMM process if the launch is interrupted."""
    return path / _MARK


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    path = state_dir("guests") / ".lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotPermittedError(f"cannot lock the registry: {path}: {error.strerror}", hint=f"rm {path}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def claim(name: str) -> Path:
    """Create the folder of a new guest; raises UsageError if a guest of that name runs or is being started."""
    with _locked():
        path = folder(name)
        if os.path.lexists(path):
            if not _is_ours(path):
                raise NotPermittedError(f"{path} is not a folder that sevkit made for this user", hint="remove it")
            if not _stale(path):
                raise UsageError(f"a guest named {name} is running", hint=f"sevkit guest stop {name}, or choose --name")
            _remove(path)
        path.mkdir(mode=0o700)
        write_private(path / _OWNER, f"{os.getpid()} {procfs.process_start_time(os.getpid())}")
        return path


def write(record: Record) -> None:
    """Write a guest's record atomically."""
    path = folder(record.name)
    temporary = path / f".{_RECORD}"
    write_private(temporary, json.dumps(asdict(record), indent=2))
    temporary.rename(path / _RECORD)


def read(name: str) -> Record:
    """The record of a running guest; raises UsageError when there is none of that name."""
    record = _read(folder(name))
    if record is None or not record.alive():
        names = ", ".join(other.name for other in running()) or "none"
        raise UsageError(f"no guest named {name} is running", hint=f"running guests: {names}")
    return record


def running() -> list[Record]:
    """The records of all running guests; also removes folders of guests that have ended."""
    with _locked():
        found = []
        for path in sorted(state_dir("guests").iterdir()):
            if not _is_ours(path):
                continue
            record = _read(path)
            if record is not None and record.alive():
                found.append(record)
            elif _stale(path):
                _remove(path)
        return found


def unreadable() -> list[tuple[str, str]]:
    """The folders in the registry about which ``running`` can say nothing, by the guest's name, and why."""
    with _locked():
        found = []
        for path in sorted(state_dir("guests").iterdir()):
            if path.name.startswith("."):
                continue
            if not _is_ours(path):
                found.append((path.name, f"{path} is not a folder that only this user can write to"))
                continue
            record = _read(path)
            if (record is None or not record.alive()) and _answers(path):
                found.append((path.name, f"it runs where its PID is another one (a container?), or {path} is damaged"))
        return found


def forget(name: str) -> None:
    """Remove a guest's folder with its content."""
    shutil.rmtree(folder(name), ignore_errors=True)


def _is_ours(path: Path) -> bool:
    """Whether a path is a folder (not a link) of this user that nobody else can write to."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() and not info.st_mode & 0o022


def _stale(path: Path) -> bool:
    """Whether both the guest and the process that was starting it have ended."""
    record = _read(path)
    alive = record.alive() if record is not None else _runs(path / _OWNER)
    return not alive and (_runs(path / _MARK) or not _answers(path))


def _answers(path: Path) -> bool:
    """Whether a program listens on a socket in a guest's folder.

    In another PID namespace the guest's PID is not that of its record: the guest looks as if it had ended.
    """
    for name in _SOCKETS:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(str(path / name))
            except TimeoutError:  # its queue is full
                return True
            except OSError:
                continue
            return True
    return False


def _remove(path: Path) -> None:
    """Remove the folder of a guest that nothing can use any more, and end its VMM if that still runs."""
    if (marked := _process(path / _MARK)) is not None:
        processes.end(*marked)
    shutil.rmtree(path, ignore_errors=True)


def _runs(file: Path) -> bool:
    """Whether the process in a file (PID and start time) still runs."""
    named = _process(file)
    return named is not None and procfs.process_start_time(named[0]) == named[1]


def _process(file: Path) -> tuple[int, int] | None:
    """PID and start time from a file of ours; None if it is missing or invalid."""
    try:
        pid, start = (int(word) for word in _trusted(file).split())
    except (OSError, ValueError):
        return None
    return (pid, start) if pid > 1 else None


def _trusted(file: Path) -> str:
    """The text of a file that this user wrote and nobody else can write to; raises OSError or ValueError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as stream:  # noqa: PTH123 - a descriptor, not a path
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.getuid() or info.st_mode & 0o022:
            raise ValueError(f"{file} is not a file that only this user can write")
        if info.st_size > _LIMIT:
            raise ValueError(f"{file} is too large")
        return stream.read(_LIMIT).decode()


def _read(path: Path) -> Record | None:
    """The record in a folder; None if it is missing or invalid."""
    try:
        if not _is_ours(path):
            return None
        data = json.loads(_trusted(path / _RECORD))
        record = Record(**{field.name: data[field.name] for field in fields(Record)})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return record if _sound(record) and record.name == path.name else None


def _sound(record: Record) -> bool:
    """Whether the values have their declared types."""
    texts = (record.name, record.hypervisor, record.mode, record.provenance, record.accel)
    numbers = (record.pid, record.start_time)
    known = record.mode in list(Mode) and record.provenance in list(Provenance) and record.hypervisor in HYPERVISORS
    return (
        known
        and all(isinstance(text, str) for text in [*texts, *_items(record.command_line), *_items(record.notes)])
        and all(type(number) is int and number > 0 for number in numbers)
        and type(record.detached) is bool
        and isinstance(record.spec, dict)
    )


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else [None]
