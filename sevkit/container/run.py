"""Run a sevkit command in a container that has only the permissions that the command needs."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit import procfs
from sevkit.container import images
from sevkit.container.engine import Engine
from sevkit.errors import MissingToolError, SevkitError

_DEVICES = ("/dev/kvm", "/dev/sev")
_LABEL = "sevkit.owner"  # PID and start time of the process that the container belongs to
EMULATOR = "sevkit-emulator"  # the volume that guest-build fills and the others read


@dataclass(frozen=True)
class Wish:
    """Permissions of a run beyond the minimum.

    ``host_pids``: see and trace the host's processes. ``folder``: a directory of the host, mounted at /out.
    ``room_mib``: the size of /tmp, which is in memory and holds the cores.
    """

    image: str = "tools"
    host_pids: bool = False
    folder: Path | None = None
    room_mib: int = 4096
    network: str = "none"
    environment: tuple[tuple[str, str], ...] = ()


def options(wish: Wish) -> dict[str, Any]:
    """The container's options, as named by the Docker SDK. Everything that is permitted is listed here.

    gcore needs no capability for processes of the same user: the default seccomp profile permits ptrace since
    Linux 4.8. Tracing the host's processes takes root, SYS_PTRACE, and DAC_READ_SEARCH for their /proc entries.
    """
    devices = [path for path in _DEVICES if Path(path).exists()]
    groups = sorted({Path(path).stat().st_gid for path in devices} - {0})
    chosen: dict[str, Any] = {
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "read_only": True,
        "tmpfs": {
            "/tmp": f"size={wish.room_mib}m,mode=1777,nosuid,nodev",  # noqa: S108 - a mount point in the container
            "/home/sevkit": "size=64m,mode=700,uid=1000",
        },
        "network_mode": wish.network,
        "pids_limit": 1024,
        "init": True,
        "devices": [f"{path}:{path}:rw" for path in devices],
        "group_add": groups,
        "labels": {_LABEL: f"{os.getpid()} {procfs.process_start_time(os.getpid())}"},
        "environment": dict(wish.environment),
        "volumes": {},
    }
    if wish.host_pids:
        chosen |= {"pid_mode": "host", "user": "root", "cap_add": ["SYS_PTRACE", "DAC_READ_SEARCH"]}
    if wish.folder is not None:
        chosen["volumes"][str(wish.folder.resolve())] = {"bind": "/out", "mode": "rw"}
        chosen["working_dir"] = "/out"
    return chosen


def run(engine: Engine, argv: Sequence[str], wish: Wish, write: Callable[[bytes, bool], None]) -> int:
    """Run ``sevkit ARGV`` in a container and return its exit status.

    ``write(data, is_error)`` is called with its output at once. The container is always removed at the end. If this
    process is killed, the next run removes it.
    """
    from docker.errors import APIError, ImageNotFound

    reap(engine)
    chosen = options(wish)
    if _has_volume(engine):
        chosen["volumes"][EMULATOR] = {"bind": "/var/cache/sevkit/emulator", "mode": "ro"}
    try:
        container = engine.client.containers.create(images.tag(wish.image), list(argv), **chosen)
    except ImageNotFound as error:
        raise MissingToolError(
            f"the image {images.tag(wish.image)} is not there", hint="sevkit container build"
        ) from error
    except APIError as error:
        raise SevkitError("the engine refused the container", detail=str(error.explanation or error)) from error
    with _removed(container):
        stream = container.attach(stdout=True, stderr=True, stream=True, logs=True, demux=True)
        container.start()
        for out, err in stream:
            for data, is_error in ((out, False), (err, True)):
                if data:
                    write(data, is_error)
        status = int(container.wait(timeout=60)["StatusCode"])
    if status in (125, 126, 127):
        raise SevkitError(f"the engine could not run the command (status {status})", hint="sevkit container build")
    return status


@contextlib.contextmanager
def _removed(container: Any) -> Iterator[None]:
    from docker.errors import APIError

    try:
        yield
    finally:
        with contextlib.suppress(APIError):
            container.remove(force=True, v=True)


def _has_volume(engine: Engine) -> bool:
    from docker.errors import APIError, NotFound

    try:
        engine.client.volumes.get(EMULATOR)
    except (NotFound, APIError):
        return False
    return True


def reap(engine: Engine) -> int:
    """Remove containers whose owner process has ended; returns their number."""
    from docker.errors import APIError

    removed = 0
    for container in engine.client.containers.list(all=True, filters={"label": _LABEL}):
        words = str(container.labels.get(_LABEL, "")).split()
        if len(words) == 2 and words[0].isdigit() and str(procfs.process_start_time(int(words[0]))) == words[1]:
            continue
        with contextlib.suppress(APIError):
            container.remove(force=True, v=True)
            removed += 1
    return removed


def to_streams(data: bytes, is_error: bool) -> None:
    """Forward output to this process's own streams."""
    stream = (sys.stderr if is_error else sys.stdout).buffer
    stream.write(data)
    stream.flush()
