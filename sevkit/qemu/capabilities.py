"""Ask a QEMU binary and this host for their capabilities; never derive them from a version number or a constant.

Answers that need a process are cached, per path, size and time of the binary, and for KVM per boot.
"""

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any

from sevkit import processes
from sevkit.errors import HypervisorError, MissingToolError
from sevkit.paths import cache_dir
from sevkit.qemu.argv import Capabilities, Encryption

_TIMEOUT = 20.0
# RHEL and its derivatives install QEMU outside of PATH.
PROGRAMS = ("qemu-system-x86_64", "qemu-kvm", "/usr/libexec/qemu-kvm")


def find_qemu() -> str:
    """The QEMU for x86_64 guests: from SEVKIT_QEMU, else the first one that is installed; raises MissingToolError."""
    named = os.environ.get("SEVKIT_QEMU")
    if named:
        return processes.find_tool(named, package="qemu-system-x86")
    found = next((name for name in PROGRAMS if processes.have_tool(name)), None)
    if found is None:
        raise MissingToolError(
            f"QEMU is not installed (looked for {', '.join(PROGRAMS)})",
            hint="apt-get install qemu-system-x86, or dnf install qemu-kvm; SEVKIT_QEMU names another binary",
        )
    return processes.find_tool(found)


def of_binary(binary: str) -> Capabilities:
    """What a QEMU binary reports about itself; raises HypervisorError if it does not answer."""
    key = f"capabilities {_identity(binary)}"
    known = _recall(key)
    if known is None or not isinstance(known.get("version"), str) or not _texts(known.get("objects")):
        version = processes.run([binary, "--version"], timeout=_TIMEOUT, check=HypervisorError).text
        objects = processes.run([binary, "-object", "help"], timeout=_TIMEOUT, check=HypervisorError).text
        found = re.match(r"QEMU emulator version (\S+)", version)
        if found is None:
            raise HypervisorError(f"{binary} is not a QEMU", hint="check SEVKIT_QEMU", detail=version)
        known = {"version": found[1], "objects": objects.split()[5:]}
        _remember(key, known)
    return Capabilities(binary, known["version"], frozenset(known["objects"]))


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def encryption(binary: str, *, accel: str = "kvm") -> Encryption | None:
    """The C-bit position and the lost address bits that QEMU reports for guests (query-sev-capabilities).

    None if QEMU reports that SEV is not available. ``reduced-phys-bits`` is QEMU's value for guests, not the host's
    CPUID field.
    """
    commands = b'{"execute":"qmp_capabilities"}\n{"execute":"query-sev-capabilities"}\n{"execute":"quit"}\n'
    argv = [binary, "-machine", f"none,accel={accel}", "-nodefaults", "-display", "none", "-S", "-qmp", "stdio"]
    done = processes.run(argv, stdin=commands, timeout=_TIMEOUT)
    for line in done.stdout.splitlines():
        try:
            answer = json.loads(line).get("return")
        except (ValueError, AttributeError):
            continue
        if isinstance(answer, dict) and "cbitpos" in answer:
            return Encryption(int(answer["cbitpos"]), int(answer["reduced-phys-bits"]))
    return None


def kvm_verdict(binary: str) -> bool | None:
    """Whether KVM ran a guest since this machine booted: True, False, or None if it was not tried."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    known = _recall(_kvm_key(binary))
    return None if known is None else bool(known["works"])


def remember_kvm(binary: str, works: bool) -> None:
    """Remember whether a launch under KVM worked, until the next boot or another QEMU."""
    _remember(_kvm_key(binary), {"works": works})


def _kvm_key(binary: str) -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"kvm {boot} {_identity(binary)}"


def _identity(binary: str) -> str:
    try:
        info = Path(binary).resolve().stat()
    except OSError as error:
        raise MissingToolError(f"cannot run {binary}: {error.strerror}", hint="check SEVKIT_QEMU") from error
    return f"{Path(binary).resolve()} {info.st_size} {info.st_mtime_ns}"


def _file() -> Path:
    return cache_dir() / "capabilities.json"


def _recall(key: str) -> dict[str, Any] | None:
    try:
        found = json.loads(_file().read_text()).get(key)
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, dict) else None


def _remember(key: str, value: dict[str, Any]) -> None:
    try:
        known = json.loads(_file().read_text())
        assert isinstance(known, dict)
    except (OSError, ValueError, AssertionError):
        known = {}
    temporary = _file().with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):  # without a writable cache (read-only container) it is only slower
        temporary.write_text(json.dumps({**dict(list(known.items())[-20:]), key: value}))
        temporary.rename(_file())
