"""A mock that invents its numbers, deterministic by seed: to try a campaign, and to test reports and statistics.

Each value is the workload's ``mock_value`` times its cost in the mode, times random factors of boot and sample.
"""

import hashlib
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from sevkit.bench.campaign.place import Launch
from sevkit.bench.campaign.plan import Config, Slot
from sevkit.bench.imports.parse import Measured
from sevkit.bench.model import Boot, Direction, SlotId
from sevkit.bench.suite import Workload
from sevkit.errors import GuestError
from sevkit.vocabulary import Mode, Provenance

# The share of a workload's cost in each mode.
_SHARE = {Mode.NOSEV: 0.0, Mode.SEV: 0.6, Mode.SEV_ES: 0.8, Mode.SEV_SNP: 1.0}
_BOOT_NOISE = 0.006
_SAMPLE_NOISE = 0.008


# The part of a disk workload's cost that its bounce buffers have, and the part that goes away with an iothread.
BOUNCE = 0.5
IOTHREAD = 0.25


def _share(workload: Workload, slot: Slot) -> float:
    """How much longer than in the plain reference guest a workload takes, as a fraction."""
    name = slot.config.switch.factor.name if slot.config.switch is not None else ""
    share = _SHARE[slot.arm.mode] * workload.mock_cost
    if workload.disk and name == "bounce":
        share += BOUNCE * _SHARE[Mode.SEV] * workload.mock_cost
    return share * (1 - IOTHREAD) if workload.disk and name == "iothread" else share


class MockExecutor:
    """Invents samples; each takes ``delay`` seconds. A workload whose name ends in ``-fails`` fails in mode sev."""

    name = "mock"
    emulated = False

    def __init__(self, *, seed: int, delay: float = 0.0) -> None:
        self._seed = seed
        self._delay = delay

    def modes(self, wanted: Sequence[Mode]) -> tuple[list[Mode], dict[str, str]]:
        """The mock runs all modes."""
        return list(wanted), {}

    def tried(self) -> bool | None:
        """There are no guests whose speed depends on it."""
        return True

    def settle(self) -> None:
        """Nothing to find out."""

    def ready(self, configs: Sequence[Config]) -> None:
        """Nothing to build."""

    def open(self, slot: Slot, identity: SlotId, *, steady: bool) -> "MockPlace":
        """Open a place without a real boot."""
        del steady
        return MockPlace(slot, identity, self._seed, self._delay)

    def environment(self) -> dict[str, Any]:
        """The environment of a mock; the report says that nothing is real."""
        return {"made by": "sevkit's mock: invented numbers, no measurement"}


class MockPlace:
    """One boot of the mock."""

    def __init__(self, slot: Slot, identity: SlotId, seed: int, delay: float) -> None:
        self._seed = seed
        self._delay = delay
        self._name = str(slot.identity)
        self.launch: Launch | None = None
        self.boot = Boot(str(identity), Provenance.MOCK, {"host": "mock"})

    def lacks(self, workload: Workload) -> str | None:
        """The mock lacks nothing."""
        del workload
        return None

    def prepare(self, workload: Workload, slot: Slot, seconds: float) -> None:
        """Nothing to do."""
        del workload, slot, seconds

    def measure(self, workload: Workload, slot: Slot, iteration: int) -> list[Measured]:
        """One invented sample for each guest."""
        time.sleep(self._delay)
        if workload.name.endswith("-fails") and slot.arm.mode is Mode.SEV:
            raise GuestError(f"{workload.name} failed with status 1", detail="the mock was asked to fail")
        share = _share(workload, slot)
        sign = -1 if workload.direction is Direction.HIGHER else 1
        boot = self._normal(workload.name, "boot") * _BOOT_NOISE
        found = []
        for guest in range(slot.config.guests):
            own = self._normal(workload.name, str(iteration), str(guest)) * _SAMPLE_NOISE
            value = workload.mock_value * math.exp(sign * math.log1p(share) + boot + own)
            found.append(Measured(((workload.main_metric, value),), self._delay))
        return found

    def others(self) -> None:
        """Nothing is measured."""

    def finish(self, workload: Workload) -> None:
        """Nothing runs."""

    def alive(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Nothing to end."""

    def _normal(self, *words: str) -> float:
        key = "/".join((str(self._seed), self._name, *words)).encode()
        number = int.from_bytes(hashlib.sha256(key).digest()[:8])
        return float(np.random.default_rng(number).standard_normal())
