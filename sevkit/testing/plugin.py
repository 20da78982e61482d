"""The pytest plugin: guests as fixtures, skips with a reason, and the guest's console beside a failure.

All tests of a session that request the same guest share it, and it ends with the session. Under pytest-xdist each
worker has its own guests, since each is a process with its own pool and names.
"""

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from sevkit.testing.pool import Pool, Wish

if TYPE_CHECKING:
    from sevkit.attestation.report.evidence import Evidence
    from sevkit.hypervisor.protocols import Guest
    from sevkit.testing.kds import FakeKds

_POOL = pytest.StashKey[Pool]()
_USED = pytest.StashKey["list[Guest]"]()
_LINES = 40  # lines of the console that a failed test shows
MARKER = (
    'sev_guest(mode="nosev", hypervisor=None, fresh=False, **spec): the guest that the fixture `sev_guest` gives; spec '
    "are fields of sevkit.guest.spec.GuestSpec (image, memory_mib, vcpus …); a fresh one is no other test's"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("sevkit", "guests under AMD SEV")
    group.addoption("--sevkit-require", action="store_true", help="fail where a guest's mode cannot run, not skip")
    group.addoption(
        "--sevkit-hypervisor", default="auto", help="auto (hardware, else the emulator), qemu, emulated, mock"
    )
    group.addoption("--sevkit-timeout", type=float, default=180.0, help="seconds for a guest to come up")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and testinfra's backend where testinfra is installed."""
    config.addinivalue_line("markers", MARKER)
    try:
        from testinfra.backend import BACKENDS
    except ImportError:
        return
    BACKENDS["sevkit"] = "sevkit.testing.backend.SevkitBackend"


@pytest.fixture
def sev_guest(request: pytest.FixtureRequest) -> "Iterator[Guest]":
    """A running guest, as the marker ``sev_guest`` describes it; skips with the reason if its mode cannot run."""
    from sevkit.errors import MissingToolError, UnsupportedModeError, UsageError

    marker = request.node.get_closest_marker("sev_guest")
    given, asked = (marker.args, dict(marker.kwargs)) if marker else ((), {})
    config = request.config
    pool = config.stash.setdefault(_POOL, Pool(config.getoption("--sevkit-timeout")))
    try:
        wish = Wish.of(given, asked, default_hypervisor=config.getoption("--sevkit-hypervisor"))
        guest = pool.get(wish)
    except (UnsupportedModeError, MissingToolError) as error:
        if config.getoption("--sevkit-require"):
            pytest.fail(f"--sevkit-require: {error.message}", pytrace=False)
        pytest.skip(error.message)
    except UsageError as error:
        words = f"{error.message} ({error.hint})" if error.hint else error.message
        raise pytest.fail.Exception(words, pytrace=False) from None
    request.node.stash.setdefault(_USED, []).append(guest)
    yield guest
    if wish.fresh:
        pool.end(guest)


@pytest.fixture
def sev_host(sev_guest: "Guest") -> Any:
    """The guest of ``sev_guest`` as testinfra's host: files, packages, services, commands."""
    testinfra = pytest.importorskip("testinfra", reason="pip install 'sevkit[testing]'")
    return testinfra.get_host(f"sevkit://{sev_guest.name}")


@pytest.fixture
def snp_report(sev_guest: "Guest") -> "Callable[..., Evidence]":
    """Ask the guest for an attestation report: ``snp_report(report_data)``, up to 64 bytes that it must contain."""
    from sevkit.attestation.ask import NONCE, fetch_evidence

    return lambda report_data=b"": fetch_evidence(sev_guest, report_data.ljust(NONCE, b"\0"))


@pytest.fixture(scope="session")
def fake_kds() -> "Iterator[FakeKds]":
    """AMD's key distribution service, on loopback, for sevkit's own chips: nothing leaves this host."""
    from sevkit.testing.kds import serving

    with serving() as service:
        yield service


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the consoles of the guests that a failed test used."""
    report = yield
    if report.failed:
        for guest in item.stash.get(_USED, []):
            report.sections.append((f"console of the {guest.spec.mode} guest {guest.name}", _console(guest)))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End all guests."""
    pool = session.config.stash.get(_POOL, None)
    if pool is not None:
        pool.close()


def _console(guest: "Guest") -> str:
    from sevkit.errors import SevkitError
    from sevkit.guest.diagnosis import tail

    try:
        return tail(guest.console(), _LINES)
    except SevkitError as error:
        return f"cannot be read: {error.message}"
