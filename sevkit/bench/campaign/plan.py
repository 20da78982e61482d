"""The order of all measurements. Pure: the same profile and seed give the same plan.

The unit of the plan is a block: one round of one configuration, with one boot of each arm, so that the arms of a block
are neighbours in time. Rounds alternate in direction (A B, B A, A B …: ABBA), so that a linear drift cancels.
"""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sevkit.bench import factors
from sevkit.bench.factors import Switch
from sevkit.bench.model import AGAIN, Conditions, SlotId
from sevkit.bench.suite import Profile, Workload
from sevkit.errors import UsageError
from sevkit.guest.spec import StorageKind
from sevkit.vocabulary import Mode

_IMAGES = ("mini", "bench", "study", "study-small")  # the last two have all of bench
# Of a workload: what only describes it, or estimates its duration.
_ESTIMATES = frozenset(
    {"title", "seconds", "emulated", "emulated_once", "jobs", "job_memory_mib", "largest_job_mib"}
    | {"memory_mib", "written_mib", "differs"}
)
SWEEPS = ("vcpus", "memory_mib", "storage", "cache", "guests")


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a mode, or the second half of its A/A control."""

    name: str
    mode: Mode


@dataclass(frozen=True)
class Config:
    """One kind of guest, and the workloads that run in it."""

    index: int
    vcpus: int
    memory_mib: int
    storage: str
    cache: str
    guests: int
    image: str
    disk_mib: int
    workloads: tuple[Workload, ...]
    conditions: Conditions
    switch: Switch | None = None  # the factor in which it differs from the reference

    @property
    def label(self) -> str:
        """The configuration in one line."""
        label = f"{self.vcpus} vCPU, {self.memory_mib} MiB, {self.storage}, cache={self.cache}, {self.guests} guest(s)"
        return label if self.switch is None else f"{label}, {self.switch}"


@dataclass(frozen=True)
class Slot:
    """One boot of one arm. ``boot`` is the round: it numbers the boots of an arm."""

    config: Config
    boot: int
    arm: Arm
    order: tuple[Workload, ...]

    @property
    def identity(self) -> SlotId:
        """A name that is the same in every run of the plan."""
        return SlotId(self.config.index, self.boot, self.arm.name)


@dataclass(frozen=True)
class Plan:
    """A whole campaign."""

    profile: Profile
    arms: tuple[Arm, ...]
    configs: tuple[Config, ...]
    where: str
    seed: int
    mock_delay: float = 0.0
    emulated: bool = False  # no KVM: estimates are longer

    def warmups(self, workload: Workload) -> int:
        """How many samples of a workload in each boot are thrown away."""
        return 0 if workload.warms_itself else self.profile.warmups

    def block(self, config: Config, boot: int) -> list[Slot]:
        """The slots of one round of one configuration, in the order in which they run."""
        order = _shuffled(config.workloads, f"{self.seed}/{boot}")
        return [Slot(config, boot, arm, order) for arm in arm_order(self.arms_of(config), boot)]

    def arms_of(self, config: Config) -> tuple[Arm, ...]:
        """The arms of a configuration: with a switched factor the baseline and the last mode, or the baseline alone."""
        if config.switch is None:
            return self.arms
        return self.arms[:1] if config.switch.factor.plain_only else (self.arms[0], self.arms[-1])

    def round(self, boot: int) -> list[Config]:
        """The configurations in the order in which a round measures them: every second round goes the other way."""
        return list(self.configs if boot % 2 == 0 else self.configs[::-1])

    def fingerprint(self) -> str:
        """Changes with everything that determines the measurement; a campaign is resumed only with the same one."""
        whole = self.as_dict()
        whole["workloads"] = {
            name: {key: value for key, value in workload.items() if key not in _ESTIMATES}
            for name, workload in whole["workloads"].items()
        }
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()[:16]

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON values."""
        stop_rules = {"most_boots", "budget", "target", "title"}
        profile = {k: v for k, v in asdict(self.profile).items() if k not in stop_rules}
        return {
            "profile": profile,
            "arms": [arm.name for arm in self.arms],
            "configs": [config.label for config in self.configs],
            "workloads": {w.name: asdict(w) for config in self.configs for w in config.workloads},
            "where": self.where,
            "seed": self.seed,
        }


def make(
    profile: Profile,
    workloads: Sequence[Workload],
    modes: Sequence[Mode],
    *,
    where: str,
    seed: int,
    mock_delay: float = 0.0,
    emulated: bool = False,
) -> Plan:
    """Lay out a campaign for the modes that can run; raises UsageError when nothing is left to measure."""
    able = [w for w in workloads if where in w.where and w.parse != "boot"]
    if not able:
        raise UsageError(f"none of these workloads runs with --where {where}", hint="`sevkit bench list` shows where")
    if not modes:
        raise UsageError("no mode is left to measure")
    configs = tuple(_configs(profile, able))
    if profile.factors and len(modes) < 2:
        raise UsageError("factors of a cost need two modes", hint="give --mode nosev --mode sev, or another --profile")
    arms = [Arm(str(mode), mode) for mode in modes]
    if profile.control:
        arms.insert(1, Arm(f"{modes[0]}{AGAIN}", modes[0]))
    return Plan(profile, tuple(arms), configs, where, seed, mock_delay, emulated)


def _configs(profile: Profile, workloads: Sequence[Workload]) -> list[Config]:
    """All combinations; workloads without a disk run with the first storage and cache only."""
    found: list[Config] = []
    image = _image(profile.image, workloads)
    axes = (profile.vcpus, profile.memory_mib, profile.storage, profile.cache, profile.guests)
    for vcpus, memory, storage, cache, guests in itertools.product(*axes):
        first = storage == profile.storage[0] and cache == profile.cache[0]
        here = tuple(w for w in workloads if first or w.disk)
        if not here:
            continue
        values = dict(zip(SWEEPS, (vcpus, memory, storage, cache, guests), strict=True))
        swept = {k: str(v) for k, v in values.items() if k != "storage" and len(getattr(profile, k)) > 1}
        conditions = tuple(sorted(swept.items()))
        found.append(
            Config(len(found), vcpus, memory, storage, cache, guests, image, profile.disk_mib, here, conditions)
        )
    return _with_factors(found, profile.factors)


def _with_factors(reference: list[Config], names: Sequence[str]) -> list[Config]:
    """Each configuration, followed by the same with one factor switched at a time."""
    if len(set(names)) < len(names):
        raise UsageError("a factor was given twice")
    switches = [factors.parse(name) for name in names]
    for switch in switches:
        if switch.factor.disk and not any(w.disk for config in reference for w in config.workloads):
            raise UsageError(f"no workload has a disk, which {switch} is about", hint="add --workload disk-read")
    found: list[Config] = []
    for config in reference:
        variants = [config, *(_switched(config, switch) for switch in switches)]
        found += [c for c in variants if c.workloads]
    return [replace(config, index=index) for index, config in enumerate(found)]


def _switched(config: Config, switch: Switch) -> Config:
    """The configuration with a factor switched; raises UsageError where that would change nothing, or cannot be."""
    if switch.factor.name == "cache" and config.cache == switch.value:
        raise UsageError(f"cache={switch.value} is what the reference guest has already", hint="name another one")
    if str(switch) == "aio=native" and config.cache not in ("none", "directsync"):
        raise UsageError(f"aio=native needs a cache mode without the host's cache, not {config.cache}")
    if config.storage == StorageKind.NVME and switch.factor.name == "iothread":
        raise UsageError("QEMU's NVMe device takes no iothread", hint="give another --sweep storage=…, or leave it out")
    workloads = tuple(w for w in config.workloads if w.disk or not switch.factor.disk)
    cache = switch.value if switch.factor.name == "cache" else config.cache
    conditions = tuple(sorted((*config.conditions, (factors.CONDITION, str(switch)))))
    return replace(config, cache=cache, workloads=workloads, conditions=conditions, switch=switch)


def _image(of_profile: str, workloads: Sequence[Workload]) -> str:
    """The image that has what all workloads need; an image of the user's own is left as it is."""
    wanted = {w.image for w in workloads} | {of_profile}
    if of_profile not in _IMAGES:
        return of_profile
    if set(_IMAGES[2:]) <= wanted:
        raise UsageError(
            "some of these workloads need the image study, others study-small", hint="measure them in two campaigns"
        )
    return max(wanted, key=lambda image: _IMAGES.index(image) if image in _IMAGES else len(_IMAGES))


def arm_order(arms: Sequence[Arm], boot: int) -> list[Arm]:
    """Forwards and backwards in turn; every second pair of rounds starts one arm later."""
    # Three arms, boots 0 to 3: A B C, C B A, B C A, A C B. A drift that is linear in time cancels in each pair,
    # and no arm is always the first.
    count = len(arms)
    start = (boot // 2) % count
    turned = [arms[(start + i) % count] for i in range(count)]
    return turned if boot % 2 == 0 else turned[::-1]


def _shuffled(workloads: Sequence[Workload], key: str) -> tuple[Workload, ...]:
    """In an order that the key decides; two configurations have their common workloads in the same order."""
    return tuple(sorted(workloads, key=lambda w: hashlib.sha256(f"{key}/{w.name}".encode()).digest()))
