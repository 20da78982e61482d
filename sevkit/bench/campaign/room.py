"""Refuse a campaign whose guests do not fit this host, before anything is built or booted."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sevkit.bench.campaign import estimate
from sevkit.bench.campaign.plan import Config, Plan
from sevkit.errors import NoSpaceError
from sevkit.guest import image as images
from sevkit.guest import sources, study
from sevkit.paths import cache_path


@dataclass(frozen=True)
class Cost:
    """What an image takes to build on two CPUs: MiB of packages, on the disk meanwhile, and kept; rough seconds."""

    packages_mib: int
    building_mib: int
    kept_mib: int
    seconds: int


COSTS = {
    "mini": Cost(90, 1 << 10, 25, 60),
    "bench": Cost(200, 3 << 10, 900, 180),
    "study": Cost(300, 9 << 10, 4500, 600),
    "study-small": Cost(200, 6 << 10, 1400, 240),
}
# What a guest writes beside its benchmark disk, into QEMU's temporary overlay of the root disk: objects of compilations
# and the LZ4 files.
_WRITTEN_MIB = {"study": 24 << 10}
_SYSTEM_MIB = 256  # what a guest takes before any job


def check(plan: Plan) -> None:
    """Raise NoSpaceError if memory or disks of one boot, or an image still to be built, do not fit."""
    if plan.where != "guest":
        return
    for config in plan.configs:
        _check_memory(config)
        _check_jobs(config)
        disk = config.disk_mib if any(w.disk for w in config.workloads) else 0
        written = config.guests * (disk + _WRITTEN_MIB.get(images.parts(config.image)[0], 0))
        _check_disk(Path(tempfile.gettempdir()), written, "the disks of one boot", "set TMPDIR to a larger disk")
    for image in {config.image for config in plan.configs}:
        kind = images.parts(image)[0]
        if kind in COSTS and not images.is_built(image):
            fetched = sum(s.size for s in sources.missing()) >> 20 if kind in study.NAMES else 0
            wanted = COSTS[kind].building_mib + fetched
            hint = "set SEVKIT_CACHE_DIR to a larger disk"
            _check_disk(_existing(cache_path()), wanted, f"the image {image}, while it is built,", hint)


def to_build(plan: Plan) -> list[str]:
    """The images that a campaign would build first."""
    names = {config.image for config in plan.configs} if plan.where == "guest" else set()
    return sorted(name for name in names if images.parts(name)[0] in COSTS and not images.is_built(name))


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _check_memory(config: Config) -> None:
    here = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    wanted = config.guests * config.memory_mib
    if wanted > here:
        raise NoSpaceError(
            f"guests of {wanted} MiB do not fit this host, which has {here} MiB",
            hint="give less memory: --sweep memory_mib=4096",
        )


def _check_jobs(config: Config) -> None:
    """Refuse a guest in which a workload's jobs would end with its memory: the kernel would kill one of them."""
    for workload in config.workloads:
        jobs = estimate.jobs(workload, config)
        wanted = _SYSTEM_MIB + jobs * workload.job_memory_mib
        if workload.job_memory_mib and wanted > config.memory_mib:
            raise NoSpaceError(
                f"{workload.name} with {jobs} jobs takes up to {wanted} MiB; the guests have {config.memory_mib} MiB",
                hint=f"--sweep memory_mib={wanted}, or fewer jobs: --sweep vcpus={max(1, jobs // 2)}",
            )


def _check_disk(folder: Path, wanted_mib: int, what: str, hint: str) -> None:
    free = shutil.disk_usage(folder).free >> 20
    if wanted_mib > free:
        raise NoSpaceError(f"{what} take {wanted_mib} MiB, {free} MiB are free at {folder}", hint=hint)
