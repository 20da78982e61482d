"""Find a container engine: Docker, or Podman, which has the same API on its own socket."""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sevkit.errors import MissingToolError, NotPermittedError
from sevkit.extras import extra

_TIMEOUT = 20  # seconds for an answer; builds and runs have separate deadlines
# Where `scripts/container-engine` puts the socket of an engine that it has started.
OWN_SOCKET = "/run/sevkit-engine/docker.sock"


@dataclass(frozen=True)
class Engine:
    """An engine that answers. ``client`` is the Docker SDK's."""

    client: Any
    where: str
    version: str


def sockets() -> Sequence[str]:
    """Addresses to try: only DOCKER_HOST if it is set, else the usual sockets."""
    if named := os.environ.get("DOCKER_HOST"):
        return [named]
    private = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    usual = (
        OWN_SOCKET,
        "/run/docker.sock",
        "/var/run/docker.sock",
        f"{private}/docker.sock",
        f"{private}/podman/podman.sock",
        "/run/podman/podman.sock",
    )
    return [f"unix://{path}" for path in usual if _is_socket(path)]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


@contextlib.contextmanager
def find() -> Iterator[Engine]:
    """The first engine that answers; raises MissingToolError or NotPermittedError that lists what was tried."""
    with extra("containers"):
        from docker.errors import DockerException

        import docker

    tried: list[str] = []
    refused = False
    for address in sockets():
        try:
            client = docker.DockerClient(base_url=address, version="auto", timeout=_TIMEOUT)
        except DockerException as error:
            refused |= "Permission denied" in str(error)
            tried.append(f"{address}: {error}")
            continue
        try:
            yield Engine(client, address, str(client.version().get("Version", "unknown")))
        finally:
            client.close()
        return
    detail = "\n".join(tried) or "no socket of Docker or Podman was found"
    if refused:
        raise NotPermittedError(
            "the container engine's socket may not be used",
            hint="run as root, join the group of the socket, or use rootless Podman",
            detail=detail,
        )
    raise MissingToolError(
        "no container engine answers",
        hint="as root scripts/container-engine start; else systemctl --user start podman.socket",
        detail=detail,
    )
