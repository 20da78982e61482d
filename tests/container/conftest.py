"""Containers for tests: testinfra asserts on them through the Docker SDK."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra
import testinfra.backend
from testinfra.backend import base

from sevkit.container import images
from sevkit.container import run as runner
from sevkit.container.engine import Engine, find
from sevkit.errors import SevkitError

testinfra.backend.BACKENDS["sevkit-container"] = "tests.container.conftest.ContainerBackend"
_running: dict[str, Any] = {}


class ContainerBackend(base.BaseBackend):
    """Runs testinfra's commands in a container that a fixture has started."""

    NAME = "sevkit-container"

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self._container = _running[name]
        super().__init__(name, *args, **kwargs)

    def run(self, command: str, *args: str, **kwargs: Any) -> base.CommandResult:
        line = self.get_command(command, *args)
        done = self._container.exec_run(["/bin/sh", "-c", line], demux=True)
        out, err = done.output
        return self.result(done.exit_code, self.encode(line), out or b"", err or b"")


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """The engine; every test here is skipped where none answers."""
    try:
        with find() as found:
            yield found
    except SevkitError as error:
        pytest.skip(f"{error.message}: {error.detail}")


def image(engine: Engine, target: str) -> Any:
    """An image that has been built."""
    from docker.errors import ImageNotFound

    try:
        return engine.client.images.get(images.tag(target))
    except ImageNotFound:
        pytest.skip(f"{images.tag(target)} has not been built: sevkit container build {target}")


@pytest.fixture(scope="session", params=["tools", "test"])
def host(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Any]:
    """A container of each image as `sevkit container run` starts it, but that it waits; seen by testinfra."""
    yield from _host(engine, request.param)


@pytest.fixture(scope="session")
def tools(engine: Engine) -> Iterator[Any]:
    """A waiting container of the tools image."""
    yield from _host(engine, "tools")


def _host(engine: Engine, target: str) -> Iterator[Any]:
    image(engine, target)
    options = runner.options(runner.Wish(image=target, room_mib=6144))
    container = engine.client.containers.run(images.tag(target), ["600"], entrypoint=["sleep"], detach=True, **options)
    name = f"c{uuid.uuid4().hex}"
    _running[name] = container
    try:
        yield testinfra.get_host(f"sevkit-container://{name}")
    finally:
        container.remove(force=True, v=True)
        del _running[name]
