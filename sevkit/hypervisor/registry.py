"""The guests that sevkit has started on this machine, kept so that a later process finds them again.

One private folder a guest. A record counts only while its VMM runs: PID and start time must agree, so that a PID used
again is not taken for a guest. Folders of guests that are gone are removed.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sevkit import proc
from sevkit.errors import UsageError
from sevkit.guest.spec import check_name
from sevkit.paths import state_dir

_RECORD = "guest.json"


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
        """Whether the very process that was started still runs."""
        return proc.process_start_time(self.pid) == self.start_time and not proc.is_zombie(self.pid)


def folder(name: str) -> Path:
    """The private folder of a guest (whether it exists or not)."""
    return state_dir("guests") / check_name(name)


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    with (state_dir("guests") / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def claim(name: str) -> Path:
    """Make the folder of a new guest; raises UsageError when a guest of that name runs or is being started."""
    with _locked():
        path = folder(name)
        if path.exists() and not _stale(path):
            raise UsageError(f"a guest named {name} is running", hint=f"sevkit guest stop {name}, or choose --name")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
        (path / "owner").write_text(f"{os.getpid()} {proc.process_start_time(os.getpid())}")
        return path


def write(record: Record) -> None:
    """Put a guest on record, whole or not at all."""
    path = folder(record.name)
    temporary = path / f".{_RECORD}"
    temporary.write_text(json.dumps(asdict(record), indent=2))
    temporary.rename(path / _RECORD)


def read(name: str) -> Record:
    """The record of a running guest; raises UsageError when there is none of that name."""
    record = _read(folder(name))
    if record is None or not record.alive():
        names = ", ".join(other.name for other in running()) or "none"
        raise UsageError(f"no guest named {name} is running", hint=f"running guests: {names}")
    return record


def running() -> list[Record]:
    """The records of all running guests; folders of guests that are gone are removed on the way."""
    with _locked():
        found = []
        for path in sorted(state_dir("guests").iterdir()):
            if path.is_symlink() or not path.is_dir() or path.stat().st_uid != os.getuid():
                continue
            record = _read(path)
            if record is not None and record.alive():
                found.append(record)
            elif _stale(path):
                shutil.rmtree(path, ignore_errors=True)
        return found


def forget(name: str) -> None:
    """Remove a guest's folder and all that lies in it."""
    shutil.rmtree(folder(name), ignore_errors=True)


def _stale(path: Path) -> bool:
    """Whether neither the guest nor the process that was starting it is there any more."""
    record = _read(path)
    if record is not None:
        return not record.alive()
    try:
        pid, start = (path / "owner").read_text().split()
    except (OSError, ValueError):
        return True
    return str(proc.process_start_time(int(pid))) != start


def _read(path: Path) -> Record | None:
    """The record in a folder, None when there is none or it makes no sense."""
    file = path / _RECORD
    try:
        if file.is_symlink() or file.stat().st_uid != os.getuid():
            return None
        data = json.loads(file.read_text())
        return Record(**{field.name: data[field.name] for field in fields(Record)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
