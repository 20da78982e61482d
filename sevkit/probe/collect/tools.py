"""Facts about user space: QEMU's objects, OVMF firmware descriptors, limits, modprobe settings."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from typing import Any

from sevkit.probe.collect.reading import ABSENT, FAILED, Readings, read_text

Run = Callable[[list[str], float], tuple[int, str]]

# QEMU's firmware interoperability specification (docs/interop/firmware.json): earlier directories override later ones.
_DESCRIPTORS = ("/etc/qemu/firmware", "/usr/local/share/qemu/firmware", "/usr/share/qemu/firmware")
_QEMU = ("qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm")


def read(readings: Readings, run: Run | None) -> None:
    """Record all readings of user space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = resource.RLIM_INFINITY
    limits = {"soft": None if soft == unlimited else soft, "hard": None if hard == unlimited else hard}
    readings.value("limits.memlock", "getrlimit(RLIMIT_MEMLOCK)", limits)
    readings.value("user.root", "geteuid(2)", os.geteuid() == 0)
    _modprobe(readings)
    _ovmf(readings)
    _qemu(readings, run)


def _modprobe(readings: Readings) -> None:
    """`options kvm_amd …` lines: the parameters that the module gets when it is next loaded."""
    lines: list[str] = []
    for folder in ("/etc/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            if name.endswith(".conf"):
                try:
                    text = read_text(f"{folder}/{name}")
                except OSError:
                    continue
                found = [line.strip() for line in text.split("\n") if "kvm_amd" in line or "kvm-amd" in line]
                lines.extend(line for line in found if not line.startswith("#") and line not in lines)
    readings.value("modprobe.kvm_amd", "modprobe.d", lines)


def _ovmf(readings: Readings) -> None:
    """Firmware images for encrypted guests: the descriptors' features that begin with ``amd-sev``."""
    found: list[dict[str, Any]] = []
    masked: set[str] = set()
    folders = [folder for folder in _DESCRIPTORS if os.path.isdir(folder)]
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if not name.endswith(".json") or name in masked:
                continue
            masked.add(name)
            try:
                descriptor = json.loads(read_text(f"{folder}/{name}"))
                features = [str(x) for x in descriptor.get("features", []) if str(x).startswith("amd-sev")]
                image = _image(descriptor.get("mapping", {}))
            except (OSError, ValueError, AttributeError, TypeError, RecursionError):
                continue
            if features:
                found.append({"descriptor": f"{folder}/{name}", "image": image, "features": features})
    if folders:
        readings.value("ovmf.descriptors", ", ".join(folders), found)
    else:
        readings.missing("ovmf.descriptors", " or ".join(_DESCRIPTORS), ABSENT, "no such directory")


def _image(mapping: Any) -> str | None:
    """The file of a descriptor: for a flash device it is one level down, for a memory device (`-bios`) at the top."""
    executable = mapping.get("executable") if isinstance(mapping.get("executable"), dict) else mapping
    name = executable.get("filename")
    return str(name) if name else None


def _find(name: str) -> str | None:
    if "/" in name:
        return name if os.access(name, os.X_OK) else None
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder}/{name}"
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _qemu(readings: Readings, run: Run | None) -> None:
    """QEMU's objects for encrypted guests: query the program, do not infer them from its version number."""
    binary = next((path for path in map(_find, _QEMU) if path), None)
    if binary is None:
        readings.missing("qemu.objects", " or ".join(_QEMU), ABSENT, "not on PATH")
        return
    origin = f"{binary} -object help"
    if run is None:
        readings.missing("qemu.objects", origin, FAILED, "programs are not run here")
        return
    stat = os.stat(binary)
    stamp = f"{os.path.realpath(binary)} {stat.st_size} {stat.st_mtime_ns}"
    remembered = _remembered(stamp)
    if remembered is None:
        try:
            status, output = run([binary, "-object", "help"], 20.0)
        except OSError as error:
            readings.failed("qemu.objects", origin, error)
            return
        if status != 0:
            readings.missing("qemu.objects", origin, FAILED, f"exit status {status}")
            return
        remembered = [word for word in output.split() if word in ("sev-guest", "sev-snp-guest")]
        _remember(stamp, remembered)
    readings.value("qemu.objects", origin, remembered)


def _cache() -> str:
    own = os.environ.get("SEVKIT_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return (own or os.path.join(base, "sevkit")) + "/probe-qemu.json"


def _remembered(stamp: str) -> list[str] | None:
    """Cache QEMU's answer until the binary changes: starting QEMU takes longer than the rest of the probe."""
    try:
        kept = json.loads(read_text(_cache()))
        if kept["stamp"] == stamp and isinstance(kept["objects"], list):
            return [str(name) for name in kept["objects"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _remember(stamp: str, objects: list[str]) -> None:
    path = _cache()
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
            json.dump({"stamp": stamp, "objects": objects}, file)
        os.replace(f"{path}.{os.getpid()}", path)
    except OSError:
        pass  # without a cache, the probe is only slower
