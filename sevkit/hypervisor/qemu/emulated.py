"""The emulator as hypervisor: QEMU built from emulator/. It really encrypts guest RAM, and runs on any machine."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from sevkit.errors import MissingToolError
from sevkit.hypervisor.protocols import Availability
from sevkit.hypervisor.qemu.hypervisor import QemuHypervisor
from sevkit.paths import cache_dir, cache_path
from sevkit.vocabulary import Mode


def find() -> Path | None:
    """The emulator's QEMU: from SEVKIT_EMULATOR, else the last build, else from the package sevkit-emulator.

    Raises NotPermittedError if others could have put the last build there: into the cache, or where its link leads.
    """
    if named := os.environ.get("SEVKIT_EMULATOR"):
        return Path(named)
    cache_dir()
    path = cache_path("emulator") / "current/bin/qemu-system-x86_64"
    return cache_path("emulator", "current/bin/qemu-system-x86_64") if path.exists() else _packaged()


def _packaged() -> Path | None:
    """The binary of the package sevkit-emulator, if it is installed."""
    spec = importlib.util.find_spec("sevkit_emulator")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin/qemu-system-x86_64"
    return path if path.exists() else None


class _Missing(QemuHypervisor):
    """Stands in for an emulator that has not been built."""

    def availability(self, mode: Mode) -> Availability:
        """Not available; the reason says how to build it."""
        return Availability(mode, False, "the emulator is not there (make emulator, or pip install sevkit[emulator])")


def emulated(progress: Callable[[str], None] | None = None) -> QemuHypervisor:
    """The hypervisor; if the emulator is not built, a substitute that reports every mode as unavailable."""
    path = find()
    if path is None:
        return _Missing("qemu-not-built", name="emulated", progress=progress)
    if not path.exists():
        raise MissingToolError(f"SEVKIT_EMULATOR names {path}, which does not exist", hint="make emulator")
    return QemuHypervisor(str(path), name="emulated", progress=progress)
