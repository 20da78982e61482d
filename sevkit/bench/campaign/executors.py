"""Executors by name, from values that can be sent to another machine."""

from collections.abc import Callable
from dataclasses import dataclass

from sevkit.bench.campaign.place import Executor
from sevkit.errors import UsageError

NAMES = ("guest", "host", "mock")


@dataclass(frozen=True)
class Setup:
    """Where to measure and how. ``pin`` is ``none``, ``auto`` or CPUs like ``2,3``."""

    where: str
    hypervisor: str = "auto"
    seconds: float = 10.0
    pin: str = "none"
    vcpus: int = 1
    seed: int = 0
    delay: float = 0.0


def make(setup: Setup, progress: Callable[[str], None] | None = None) -> Executor:
    """The executor of a set-up."""
    if setup.where == "guest":
        from sevkit.bench.campaign.guests import GuestExecutor

        return GuestExecutor(setup.hypervisor, seconds=setup.seconds, pin=_cpus(setup), progress=progress)
    if setup.where == "host":
        from sevkit.bench.campaign.host import HostExecutor

        return HostExecutor(seconds=setup.seconds, pin=_cpus(setup))
    if setup.where == "mock":
        from sevkit.bench.campaign.mock import MockExecutor

        return MockExecutor(seed=setup.seed, delay=setup.delay)
    raise UsageError(f"there is no place {setup.where!r}", hint=f"--where is one of {', '.join(NAMES)}")


def _cpus(setup: Setup) -> str:
    from sevkit.bench.campaign.host import spare_cpus

    if setup.pin == "none":
        return ""
    return spare_cpus(setup.vcpus) if setup.pin == "auto" else setup.pin
