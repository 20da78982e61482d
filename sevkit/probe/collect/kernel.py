"""What the kernel reports: command line, configuration, module parameters, log, IOMMU, cgroups, memory."""

from __future__ import annotations

import os
import zlib
from typing import Any

from sevkit.probe.collect.reading import FAILED, Readings, read_bytes, read_text

CONFIG = (
    "KVM", "KVM_AMD", "KVM_AMD_SEV", "AMD_MEM_ENCRYPT", "AMD_MEM_ENCRYPT_ACTIVE_BY_DEFAULT", "CRYPTO_DEV_CCP_DD",
    "CRYPTO_DEV_SP_PSP", "AMD_IOMMU", "IOMMU_DEFAULT_PASSTHROUGH", "CGROUP_MISC", "X86_MSR", "X86_CPUID", "SEV_GUEST",
)  # fmt: skip
# Linux names the parameters sev, sev_es and sev_snp; the command line takes dashes too, and vendor kernels differ.
PARAMETERS = {"sev": ("sev",), "sev_es": ("sev_es", "sev-es"), "sev_snp": ("sev_snp", "sev-snp"), "npt": ("npt",)}
# A line of the kernel log without any of these words is not relevant to sevkit.
LOG_WORDS = (
    b"SEV", b"SME", b"RMP", b"ccp ", b"AMD-Vi", b"Memory Encryption", b"Hypervisor detected", b"aravirtualized kernel",
    b"Linux version", b"DMI: ", b"Isolation Config", b"psp", b"sev-guest", b"kvm_amd", b"SVM", b"TDX", b"SNP",
    b"unchecked MSR", b"PSP", b"kvm: ", b"CSV", b"HYGON",
)  # fmt: skip
CMDLINE_WORDS = (
    "mem_encrypt", "kvm_amd", "kvm-amd", "kvm.", "amd_iommu", "iommu", "ccp.", "sev", "nosmt", "psp", "clearcpuid",
    "initcall_blacklist", "module_blacklist", "modprobe.blacklist",
)  # fmt: skip
_LOG_LIMIT = 4000


def read(readings: Readings) -> None:
    """Record all readings of the kernel."""
    release = os.uname().release
    readings.value("kernel.release", "uname(2)", release)
    readings.value("kernel.machine", "uname(2)", os.uname().machine)
    _cmdline(readings)
    _config(readings, release)
    for name, spellings in PARAMETERS.items():
        paths = [f"/sys/module/kvm_amd/parameters/{spelling}" for spelling in spellings]
        readings.text(f"kvm_amd.{name}", *paths)
    readings.text("kvm.enable_mmio_caching", "/sys/module/kvm/parameters/enable_mmio_caching")
    _modules(readings)
    _flags(readings)
    _log(readings)
    _iommu(readings)
    readings.text("cgroup.misc_capacity", *_misc("misc.capacity"))
    readings.text("cgroup.misc_current", *_misc("misc.current"))
    readings.text("cpu.smt", "/sys/devices/system/cpu/smt/control")
    readings.text("cpu.microcode", "/sys/devices/system/cpu/cpu0/microcode/version")
    readings.text("dmi.sys_vendor", "/sys/class/dmi/id/sys_vendor")
    readings.text("dmi.product_name", "/sys/class/dmi/id/product_name")
    readings.text("dmi.bios_version", "/sys/class/dmi/id/bios_version")
    readings.text("guest.vmpl", "/sys/devices/system/cpu/sev/vmpl")
    _memory(readings)


def _cmdline(readings: Readings) -> None:
    """Only the relevant words: a command line may contain secrets, and users share saved facts."""
    try:
        words = read_text("/proc/cmdline").split()
    except OSError as error:
        readings.failed("kernel.cmdline", "/proc/cmdline", error)
        return
    readings.value("kernel.cmdline", "/proc/cmdline", [word for word in words if word.startswith(CMDLINE_WORDS)])


def _misc(name: str) -> list[str]:
    roots = ("/sys/fs/cgroup", "/sys/fs/cgroup/misc", "/sys/fs/cgroup/unified")
    return [f"{root}/{name}" for root in roots]


def _config(readings: Readings, release: str) -> None:
    """Only the relevant options: a whole configuration is 250 KB."""
    paths = ("/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config")
    last: OSError | None = None
    for path in paths:
        try:
            raw = read_bytes(path, 4 << 20)
            if path.endswith(".gz"):
                raw = zlib.decompressobj(31).decompress(raw, 4 << 20)
        except OSError as error:
            last = error
            continue
        except zlib.error as error:
            readings.missing("kernel.config", path, FAILED, str(error))
            return
        readings.value("kernel.config", path, options(raw))
        return
    assert last is not None
    readings.failed("kernel.config", " or ".join(paths), last)


def options(raw: bytes) -> dict[str, str]:
    """``y``, ``m`` or ``n`` for each option; an option that is not in the file is ``absent``."""
    text = b"\n" + raw
    found = {}
    for name in CONFIG:
        at = text.find(b"\nCONFIG_" + name.encode() + b"=")
        if at >= 0:
            found[name] = text[at + 9 + len(name) : at + 10 + len(name)].decode("ascii", "replace")
        else:
            found[name] = "n" if b"\n# CONFIG_" + name.encode() + b" is not set" in text else "absent"
    return found


def _modules(readings: Readings) -> None:
    """Modules that are loaded or built in; other modules have no directory in /sys/module."""
    names = ("kvm", "kvm_amd", "ccp", "sev_guest", "msr", "cpuid")
    readings.value("kernel.modules", "/sys/module", [name for name in names if os.path.isdir(f"/sys/module/{name}")])


def _flags(readings: Readings) -> None:
    """The CPU features that the kernel reports; it removes a feature that firmware or BIOS do not support."""
    try:
        head = read_bytes("/proc/cpuinfo", 16384).decode("utf-8", "replace")
    except OSError as error:
        readings.failed("cpuinfo.flags", "/proc/cpuinfo", error)
        return
    flags = next((line for line in head.split("\n") if line.startswith("flags")), "").partition(":")[2].split()
    wanted = ("sme", "sev", "sev_es", "sev_snp", "svm", "npt", "debug_swap", "hypervisor")
    readings.value("cpuinfo.flags", "/proc/cpuinfo", [flag for flag in wanted if flag in flags])


def _log(readings: Readings) -> None:
    """The relevant lines of the kernel's ring buffer, without the lines that user space wrote (another facility)."""
    try:
        handle = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        readings.failed("kernel.log", "/dev/kmsg", error)
        return
    kept: list[str] = []
    try:
        while len(kept) < _LOG_LIMIT:
            try:
                record = os.read(handle, 8192)
            except BlockingIOError:
                break  # the end of the buffer
            except BrokenPipeError:
                continue  # records were overwritten while we read: the next read continues after the gap
            _keep(record, kept)
    except OSError as error:
        readings.failed("kernel.log", "/dev/kmsg", error)
    else:
        readings.value("kernel.log", "/dev/kmsg", kept)
    finally:
        os.close(handle)


def _keep(record: bytes, kept: list[str]) -> None:
    head, _, message = record.partition(b";")
    priority = head.split(b",", 1)[0]
    line = message.split(b"\n", 1)[0]
    if priority.isdigit() and int(priority) < 8 and any(word in line for word in LOG_WORDS):
        kept.append(line.decode("utf-8", "replace"))


def _iommu(readings: Readings) -> None:
    """The IOMMUs, their extended features (EFR2:EFR, bit 43 of EFR is SNPSup), and the type of the devices' domains."""
    try:
        units = sorted(os.listdir("/sys/class/iommu"))
    except OSError as error:
        readings.failed("iommu.units", "/sys/class/iommu", error)
    else:
        readings.value("iommu.units", "/sys/class/iommu", units)
        amd = next((unit for unit in units if unit.startswith("ivhd")), "ivhd0")
        readings.text("iommu.features", f"/sys/class/iommu/{amd}/amd-iommu/features")
    kinds: dict[str, int] = {}
    try:
        for group in sorted(os.listdir("/sys/kernel/iommu_groups"))[:512]:
            kind = read_text(f"/sys/kernel/iommu_groups/{group}/type")
            kinds[kind] = kinds.get(kind, 0) + 1
    except OSError as error:
        readings.failed("iommu.domains", "/sys/kernel/iommu_groups", error)
    else:
        readings.value("iommu.domains", "/sys/kernel/iommu_groups", kinds)


def _memory(readings: Readings) -> None:
    """The end of RAM: the highest "System RAM" byte, which the reverse map table must cover."""
    try:
        text = read_bytes("/proc/iomem", 1 << 20).decode("ascii", "replace")
    except OSError as error:
        readings.failed("memory.end", "/proc/iomem", error)
        return
    end = 0
    for line in text.split("\n"):
        span, _, what = line.partition(" : ")
        if what.strip() == "System RAM":
            _, _, last = span.strip().partition("-")
            end = max(end, int(last, 16) if last else 0)
    if end:
        readings.value("memory.end", "/proc/iomem", end)
    else:
        readings.missing("memory.end", "/proc/iomem", "denied", "addresses are hidden from this user")


def log_lines(value: Any) -> list[str]:
    """The recorded lines of the kernel log."""
    return [str(line) for line in value] if isinstance(value, list) else []
