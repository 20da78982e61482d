"""Refuse a campaign whose guests do not fit this host, before anything is built or booted."""

import os
import shutil
import tempfile
from pathlib import Path

from sevkit.bench.campaign.plan import Config, Plan
from sevkit.errors import NoSpaceError
from sevkit.guest import image as images
from sevkit.guest import study
from sevkit.paths import cache_path

# What a guest writes beside its benchmark disk, into QEMU's temporary overlay of the root disk: objects of compilations
# and the LZ4 files. And what the image itself takes in the cache, with the sources, while it is built.
_WRITTEN_MIB = {"study": 24 << 10}
_IMAGE_MIB = {"bench": 3 << 10, "study": 16 << 10, "study-small": 6 << 10}


def check(plan: Plan) -> None:
    """Raise NoSpaceError if memory or disks of one boot, or an image still to be built, do not fit."""
    if plan.where != "guest":
        return
    for config in plan.configs:
        _check_memory(config)
        disk = config.disk_mib if any(w.disk for w in config.workloads) else 0
        written = config.guests * (disk + _WRITTEN_MIB.get(images.parts(config.image)[0], 0))
        _check_disk(Path(tempfile.gettempdir()), written, "the disks of one boot", "set TMPDIR to a larger disk")
    for image in {config.image for config in plan.configs}:
        kind = images.parts(image)[0]
        if kind in _IMAGE_MIB and not images.is_built(image):
            hint = "set SEVKIT_CACHE_DIR to a larger disk"
            _check_disk(_existing(cache_path()), _IMAGE_MIB[kind], f"the image {image}", hint)


def to_build(plan: Plan) -> list[str]:
    """The images that a campaign would build first."""
    names = {config.image for config in plan.configs} if plan.where == "guest" else set()
    known = ("mini", "bench", *study.NAMES)
    return sorted(name for name in names if images.parts(name)[0] in known and not images.is_built(name))


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


def _check_disk(folder: Path, wanted_mib: int, what: str, hint: str) -> None:
    free = shutil.disk_usage(folder).free >> 20
    if wanted_mib > free:
        raise NoSpaceError(f"{what} take {wanted_mib} MiB, {free} MiB are free at {folder}", hint=hint)
