"""Snapshots of plain guests: memory and devices in one file, by QEMU's migration to a file.

The file begins with what QEMU needs to be started with; at HEADER follows QEMU's own stream. It holds all of the
guest's memory, so that it is as secret as that: mode 0600.
"""

import contextlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sevkit import textfile
from sevkit.errors import BadInputError, DeadlineError, HypervisorError, UnsupportedModeError, UsageError
from sevkit.guest import spec as specs
from sevkit.guest.spec import Accel, GuestSpec, StorageKind
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.vocabulary import Mode

HEADER = 64 << 10  # bytes; QEMU wants a multiple of 4096
_MAGIC = "sevkit snapshot 1"
_PAUSE = 0.1  # seconds between two looks at the progress


@dataclass(frozen=True)
class Snapshot:
    """What the file says of itself."""

    magic: str
    hypervisor: str
    accel: str
    qemu: str
    kernel: str | None  # the path of the image's or user's kernel, which QEMU loads again
    spec: dict[str, Any]


def save(guest: QemuGuest, path: Path, *, hypervisor: str, timeout: float) -> int:
    """Write a guest to a file, after which it goes on. Returns the size in bytes.

    Raises UnsupportedModeError for encrypted guests, UsageError for guests whose state is not only memory and devices.
    """
    _refuse(guest.spec)
    target = path.absolute()
    if "," in str(target):
        raise UsageError(f"{path}: QEMU takes no comma in the name of a snapshot")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    try:
        _migrate(guest, f"file:{target},offset={HEADER}", timeout)
        line = guest.command_line
        kernel = line[line.index("-kernel") + 1] if "-kernel" in line else None
        about = Snapshot(_MAGIC, hypervisor, guest.accel, guest.qemu_version, kernel, specs.to_dict(guest.spec))
        with target.open("r+b") as stream:
            stream.write(json.dumps(asdict(about)).encode().ljust(HEADER, b"\n"))
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target.stat().st_size


def _refuse(spec: GuestSpec) -> None:
    if spec.mode is not Mode.NOSEV:
        raise UnsupportedModeError(
            f"a guest of mode {spec.mode} cannot be saved: its memory is sealed to this launch",
            hint="only guests of mode nosev have snapshots; `guest reboot` launches an encrypted one again",
        )
    if spec.image != "mini" and not spec.image.startswith("mini-"):
        raise UsageError(
            "the guest has a disk, whose content is not in a snapshot", hint="guests of the image mini have none"
        )
    if spec.storage.kind is not StorageKind.NONE or spec.shares:
        raise UsageError(
            "the guest has a disk, whose content is not in a snapshot", hint="launch it without --storage and --share"
        )


def _migrate(guest: QemuGuest, uri: str, timeout: float) -> None:
    """Migrate to the file; the vCPUs stand still at the end, and go on after it."""
    deadline = time.monotonic() + timeout
    try:
        guest.ask("migrate", uri=uri)
    except HypervisorError as error:
        raise HypervisorError(
            "this QEMU saves no guests", hint="QEMU 8.2 or newer does, and the emulator", detail=error.detail
        ) from error
    try:
        while (state := guest.ask("query-migrate"))["status"] != "completed":
            if state["status"] in ("failed", "cancelled"):
                raise HypervisorError("QEMU could not save the guest", detail=str(state.get("error-desc", "")))
            if time.monotonic() > deadline:
                guest.ask("migrate_cancel")
                raise DeadlineError(f"the guest was not saved within {timeout:g} s", hint="give a longer --timeout")
            time.sleep(_PAUSE)
    finally:
        with contextlib.suppress(HypervisorError):
            guest.resume()


def load(path: Path) -> Snapshot:
    """What a snapshot says of itself; raises BadInputError for another file."""
    try:
        with open(path, "rb", opener=textfile.at_once) as stream:  # a pipe without a writer would block
            head = stream.read(HEADER) or b""
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        found = Snapshot(**json.loads(head))
        if found.magic != _MAGIC or len(head) != HEADER:
            raise ValueError("another format")
        _refuse(specs.from_dict(found.spec))
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInputError(f"{path} is no snapshot of sevkit's", hint="`sevkit guest snapshot` makes one") from error
    return found


def spec_of(found: Snapshot, name: str) -> GuestSpec:
    """The spec to launch the saved guest with, under a name."""
    if found.kernel is not None and not Path(found.kernel).exists():
        raise BadInputError(f"the snapshot needs {found.kernel}, which is not here any more")
    return replace(specs.from_dict(found.spec), name=name, accel=Accel(found.accel))
