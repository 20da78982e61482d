"""Disks for benchmarks, full of random data: reads of a hole never reach a device and were 33 times as fast."""

import os
import shutil
from pathlib import Path

import numpy as np

from sevkit.errors import NoSpaceError

_PIECE = 16 << 20


def fill(path: Path, size_mib: int) -> None:
    """Write a disk image of random bytes and flush it to the device; raises NoSpaceError."""
    free = shutil.disk_usage(path.parent).free
    if free < size_mib << 20:
        raise NoSpaceError(
            f"a disk of {size_mib} MiB does not fit: {free >> 20} MiB are free at {path.parent}",
            hint="give a profile with a smaller disk_mib, or set TMPDIR to a larger disk",
        )
    random = np.random.default_rng()
    with path.open("wb") as stream:
        left = size_mib << 20
        while left:
            piece = random.bytes(min(left, _PIECE))
            stream.write(piece)
            left -= len(piece)
        stream.flush()
        os.fsync(stream.fileno())


def allocated(path: Path) -> str:
    """The allocated share of an image, as a fact of a boot: ``filled``, or the share that is not a hole."""
    status = path.stat()
    share = status.st_blocks * 512 / status.st_size if status.st_size else 0.0
    return "filled" if share >= 0.999 else f"{share:.0%} allocated, the rest are holes"
