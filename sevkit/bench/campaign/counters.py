"""What a hypervisor counts while a workload runs: exits by reason, page-state changes; and the memory it takes.

The emulator's counters come over QMP, those of KVM from debugfs (``/sys/kernel/debug/kvm/PID-FD``, root only).
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from sevkit.errors import SevkitError
from sevkit.hypervisor.protocols import Guest
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.vocabulary import Mode, Provenance

_KVM = Path("/sys/kernel/debug/kvm")
# APM volume 2, appendix C (exit codes), and the GHCB specification 2.03, table 7 (codes from 0x80000000 on).
_EVENTS = {
    0x27: "write DR7",
    0x6E: "RDTSC",
    0x6F: "RDPMC",
    0x72: "CPUID",
    0x76: "INVD",
    0x7B: "port",
    0x7C: "MSR",
    0x81: "VMMCALL",
    0x87: "RDTSCP",
    0x89: "WBINVD",
    0x8A: "MONITOR",
    0x8B: "MWAIT",
    0x80000001: "MMIO read",
    0x80000002: "MMIO write",
    0x80000003: "NMI complete",
    0x80000004: "AP reset hold",
    0x80000005: "AP jump table",
    0x80000010: "page state change",
    0x80000011: "guest request",
    0x80000012: "extended guest request",
    0x80000013: "AP creation",
    0x80000014: "#HV doorbell",
    0x8000FFFD: "hypervisor features",
}


def read(guest: Guest) -> dict[str, int]:
    """The counters of a guest by name; empty where nothing counts."""
    if not isinstance(guest, QemuGuest):
        return {}
    if guest.accel == "kvm":
        return of_kvm(guest.pid)
    if guest.spec.mode is Mode.NOSEV:
        return {}  # the emulator counts for encrypted guests only
    with contextlib.suppress(SevkitError, TypeError, KeyError, ValueError):
        return {named(str(entry["name"])): int(entry["value"]) for entry in guest.ask("x-sev-host-statistics")}
    return {}


def named(counter: str) -> str:
    """A counter's name for people: ``event-7c`` is the MSR exit."""
    prefix, _, code = counter.partition("-")
    if prefix != "event":
        return counter
    return _EVENTS.get(int(code, 16), f"exit {code}")


def of_kvm(pid: int, root: Path = _KVM) -> dict[str, int]:
    """KVM's counters of the virtual machines of a process."""
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for path in sorted(root.glob(f"{pid}-*/*")):
            with contextlib.suppress(OSError, ValueError):
                if path.is_file():
                    found[path.name] = found.get(path.name, 0) + int(path.read_text())
    return found


def between(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    """What was counted between two readings, without what did not change."""
    return {name: count for name, value in after.items() if (count := value - before.get(name, 0)) > 0}


def footprint(guest: Guest, root: Path = Path("/proc")) -> float | None:
    """Bytes of the host's memory that a guest takes: QEMU's proportional set size.

    None where that would be too small: private memory of SEV-SNP on hardware (guest_memfd) is in no process.
    """
    if guest.spec.mode is Mode.SEV_SNP and guest.provenance is Provenance.HARDWARE:
        return None
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = (root / str(guest.pid) / "smaps_rollup").read_text().splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return None
