"""Shared fixtures: golden files, and honest skips for what this machine lacks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import order
from tests.support.watchdog import Watchdog

# Machines are noisy: how long an example takes is no verdict.
settings.register_profile("sevkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sevkit")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="rewrite the golden files from what the code prints now")
    parser.addoption("--record-seconds", action="store_true", help="rewrite the table of how long each test file takes")


def pytest_configure(config: pytest.Config) -> None:
    # xdist sorts files by their number of tests: 300 calculations would go before one test that boots ten guests.
    config.option.loadscopereorder = False
    config.pluginmanager.register(Watchdog())
    if config.getoption("--record-seconds") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(order.Recorder())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order.longest_first(items)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with a golden file: ``golden("argv/name.txt", text)``."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--regenerate"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is missing: run pytest --regenerate"
        assert text == path.read_text(), f"differs from {path}; if that is intended, run pytest --regenerate"

    return compare


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a registry of its own; the cache is shared, since it holds only what can be made again."""
    monkeypatch.setenv("SEVKIT_STATE_DIR", str(tmp_path_factory.mktemp("state")))
