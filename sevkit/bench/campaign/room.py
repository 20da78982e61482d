"""Refuse a campaign whose guests do not fit this host, before anything is built or booted."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sevkit.bench.campaign import estimate
from sevkit.bench.campaign.plan import Config, Plan
from sevkit.bench.suite import Workload
from sevkit.errors import NoSpaceError
from sevkit.guest import image as images
from sevkit.guest import sources, study
from sevkit.paths import cache_path
from sevkit.qemu import overlay


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
_SYSTEM_MIB = 256  # what a guest takes before any job


def check(plan: Plan) -> None:
    """Raise NoSpaceError if memory or disks of one boot, or an image still to be built, do not fit."""
    if plan.where != "guest":
        return
    for config in plan.configs:
        _check_memory(config)
        _check_jobs(config)
        _check_root(plan, config)
        _check_disks(plan, config)
    for image in {config.image for config in plan.configs}:
        kind = images.parts(image)[0]
        if kind in COSTS and not images.is_built(image):
            fetched = sum(s.size for s in sources.missing()) >> 20 if kind in study.NAMES else 0
            wanted = COSTS[kind].building_mib + fetched
            hint = "set SEVKIT_CACHE_DIR to a larger disk"
            _check_disk(_existing(cache_path()), wanted, f"the image {image}, while it is built,", hint)


def written_mib(plan: Plan, config: Config) -> int:
    """The most that one guest writes to its root disk in a boot, at most that disk's size.

    It stays in QEMU's overlay until the guest ends: what a guest deletes takes space there, and the file system of a
    guest writes the next sample elsewhere (measured: four times the same 600 MiB took 2.1 GiB).
    """
    size = images.root_mib(config.image)
    samples = {w.name: plan.profile.iterations + plan.warmups(w) for w in config.workloads}
    wanted = sum(samples[w.name] * _written_each(w, plan, config) for w in config.workloads)
    return wanted if size is None else min(size, wanted)


def _written_each(workload: Workload, plan: Plan, config: Config) -> int:
    """What one sample of a workload writes to the guest's root disk, in MiB."""
    if plan.emulated and estimate.does_less(workload):
        return 0
    return round(workload.written_mib * estimate.memory_share(workload, config))


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
        # The largest ones are few: that several of them meet is no reason to refuse.
        largest = max(workload.largest_job_mib, workload.job_memory_mib)
        wanted = _SYSTEM_MIB + (jobs - 1) * workload.job_memory_mib + largest
        if largest and wanted > config.memory_mib:
            raise NoSpaceError(
                f"{workload.name} with {jobs} jobs takes up to {wanted} MiB; the guests have {config.memory_mib} MiB",
                hint=f"--sweep memory_mib={wanted}, or fewer jobs: --sweep vcpus={max(1, jobs // 2)}",
            )


def _check_root(plan: Plan, config: Config) -> None:
    """Refuse a guest whose root disk one sample would fill."""
    kind = images.parts(config.image)[0]
    if kind not in COSTS:
        return
    free = (images.root_mib(config.image) or 0) - COSTS[kind].kept_mib
    for workload in config.workloads:
        wanted = _written_each(workload, plan, config)
        if wanted > max(0, free):
            fits = f"less memory: --sweep memory_mib={config.memory_mib * free // wanted >> 8 << 8}, or "
            raise NoSpaceError(
                f"{workload.name} writes {wanted} MiB; the disk of the image {config.image} has {free} MiB free",
                hint=f"{fits if workload.memory_mib and free > 0 else ''}the image study, which has more",
            )


def _check_disks(plan: Plan, config: Config) -> None:
    """Check the folders of benchmark disks and of QEMU's overlays, which most hosts have on one disk."""
    told = "the disks of one boot", "set TMPDIR to a larger disk"
    disks, roots = Path(tempfile.gettempdir()), _existing(overlay.folder())
    given = config.guests * config.disk_mib if any(w.disk for w in config.workloads) else 0
    written = config.guests * written_mib(plan, config)
    one = disks.stat().st_dev == roots.stat().st_dev
    _check_disk(disks, given + (written if one else 0), *told)
    _check_disk(roots, written, *told)


def _check_disk(folder: Path, wanted_mib: int, what: str, hint: str) -> None:
    free = shutil.disk_usage(folder).free >> 20
    if wanted_mib > free:
        raise NoSpaceError(f"{what} take {wanted_mib} MiB, {free} MiB are free at {folder}", hint=hint)
