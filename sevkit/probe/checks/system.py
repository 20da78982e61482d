"""Checks on Linux, KVM, the IOMMU, capacity, and the programs that launch guests."""

from collections.abc import Callable, Mapping

from sevkit.probe.checks.frame import (
    ADVICE,
    COUNTER,
    ES_UP,
    REQUIRED,
    SEV_UP,
    SNP,
    Case,
    Check,
    Conclusion,
    decide,
    failed,
    passed,
    unknown,
)
from sevkit.vocabulary import ENCRYPTED, MODE_FACTS

_VM_TYPES = {str(mode): MODE_FACTS[mode].vm_type or 0 for mode in ENCRYPTED}
_IOMMU_SNP = 43  # AMD I/O Virtualization Technology specification 48882, extended feature register, SNPSup
_ON, _OFF = ("y", "1", "on", "true"), ("n", "0", "off", "false")


# What an option depends on (Linux: arch/x86/kvm/Kconfig, drivers/crypto/ccp/Kconfig). Kconfig does not name an option
# whose dependencies are off. Without such a reason, an option that is not named may have another name in this kernel.
_NEEDS = {"KVM_AMD_SEV": "KVM_AMD", "KVM_AMD": "KVM", "CRYPTO_DEV_SP_PSP": "CRYPTO_DEV_CCP_DD"}


def _why_off(values: Mapping[str, str], name: str) -> str:
    """Why an option is off, or nothing if it is on or if the configuration does not tell."""
    if values.get(name) == "n":
        return f"CONFIG_{name}"
    if values.get(name) in ("y", "m") or name not in _NEEDS:
        return ""
    cause = _why_off(values, _NEEDS[name])
    return f"CONFIG_{name} (needs {cause.partition(' ')[0]})" if cause else ""


def _options(*names: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        reading = case.read("kernel.config")
        if not reading.known:
            return unknown(reading)
        off = [why for name in names if (why := _why_off(reading.value, name))]
        if off:
            return failed(f"not set: {', '.join(off)}")
        absent = [f"CONFIG_{name}" for name in names if reading.value.get(name) not in ("y", "m")]
        return unknown(f"{reading.origin} does not name {', '.join(absent)}") if absent else passed("all are set")

    return run


def _words(case: Case) -> dict[str, str] | None:
    """Parameters of the command line; the last one wins. Linux treats ``-`` and ``_`` in names as equal."""
    value = case.read("kernel.cmdline").value
    if value is None:
        return None
    pairs = (word.partition("=") for word in value)
    return {name.replace("-", "_"): setting.lower() for name, _, setting in pairs}


def _cmdline(case: Case) -> Conclusion:
    words = _words(case)
    if words is None:
        return unknown(case.read("kernel.cmdline"))
    against = [f"{name}={words[name]}" for name in ("kvm_amd.sev", "kvm_amd.npt") if words.get(name) in _OFF]
    lists = ",".join(words.get(name, "") for name in ("module_blacklist", "modprobe.blacklist", "initcall_blacklist"))
    against += [f"{name} is blacklisted" for name in ("ccp", "kvm_amd") if name in lists.split(",")]
    return decide(not against, "nothing on it stands against SEV", ", ".join(against))


def _cmdline_snp(case: Case) -> Conclusion:
    words = _words(case)
    if words is None:
        return unknown(case.read("kernel.cmdline"))
    against = [f"{name}={words[name]}" for name in ("kvm_amd.sev_es", "kvm_amd.sev_snp") if words.get(name) in _OFF]
    return decide(not against, "nothing on it stands against SEV-ES and SNP", ", ".join(against))


def _modprobe(case: Case) -> Conclusion:
    reading = case.read("modprobe.kvm_amd")
    if not reading.known:
        return unknown(reading)
    off = []
    for line in reading.value:
        words = line.split()
        if words[:1] == ["blacklist"]:
            off.append(line)
        for word in words[2:] if words[:1] == ["options"] else []:
            name, _, value = word.partition("=")
            if name.replace("-", "_") in ("sev", "sev_es", "sev_snp") and value.lower() in _OFF:
                off.append(word)
    return decide(not off, "nothing in modprobe.d stands against SEV", ", ".join(off))


def _kept_flag(case: Case) -> Conclusion:
    flags = case.kernel_flags
    if flags is None:
        return unknown(case.read("cpuinfo.flags"))
    return decide("sev" in flags, "Linux lists sev", "the CPU announces SEV, and Linux has taken it back")


def _log(feature: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        verdict = case.kernel_log["host"][feature]
        evidence = case.kernel_log["evidence"]
        if verdict == "unknown":
            reading = case.read("kernel.log")
            return unknown("the log does not say" if reading.known else reading)
        lines = [x for x in evidence if "cannot" in x["means"] or "not " in x["means"] or "can run" in x["means"]]
        words = lines[-1]["text"] if lines else verdict
        return decide(verdict == "usable", words, words)

    return run


def _iommu(case: Case) -> Conclusion:
    reading = case.read("iommu.units")
    if not reading.known and reading.missing != "absent":
        return unknown(reading)
    units = [unit for unit in reading.value or [] if unit.startswith("ivhd")]
    return decide(bool(units), f"{len(units)} AMD IOMMUs", "no AMD IOMMU is in use")


def _iommu_snp(case: Case) -> Conclusion:
    reading = case.read("iommu.features")
    log = " ".join(entry["text"] for entry in case.kernel_log["evidence"])
    if not reading.known:
        return passed("the kernel log says so") if "IOMMU SNP support enabled" in log else unknown(reading)
    low = reading.value.rpartition(":")[2].strip()
    try:
        features = int(low, 16)
    except ValueError:
        return unknown(f"{reading.origin} holds {reading.value!r}")
    return decide(bool(features >> _IOMMU_SNP & 1), "SNPSup is set", f"SNPSup is clear in {low}")


def _iommu_mode(case: Case) -> Conclusion:
    words = _words(case) or {}
    against = [
        f"{k}={words[k]}" for k, v in (("iommu", "pt"), ("iommu", "off"), ("amd_iommu", "off")) if words.get(k) == v
    ]
    if words.get("iommu.passthrough") in _ON:
        against.append("iommu.passthrough=1")
    if "pgtbl_v2" in words.get("amd_iommu", "").split(","):
        against.append("amd_iommu=pgtbl_v2")
    if against:
        return failed(", ".join(against))
    config = case.read("kernel.config")
    if config.known and config.value.get("IOMMU_DEFAULT_PASSTHROUGH") == "y" and "iommu.passthrough" not in words:
        return failed("this kernel passes devices through by default (CONFIG_IOMMU_DEFAULT_PASSTHROUGH)")
    if case.read("kernel.cmdline").known:
        return passed("translation with version 1 page tables")
    return unknown(case.read("kernel.cmdline"))


def _kvm(case: Case) -> Conclusion:
    reading = case.read("kvm.api_version")
    if reading.missing == "absent":
        return failed(f"/dev/kvm: {reading.why}")
    if not reading.known:
        return unknown(reading)
    return decide(reading.value == 12, "API version 12", f"API version {reading.value}")


def _kvm_amd(case: Case) -> Conclusion:
    reading = case.read("kernel.modules")
    if not reading.known:
        return unknown(reading)
    return decide("kvm_amd" in reading.value, "kvm_amd is loaded", "kvm_amd is not loaded")


def _parameter(name: str, *, origin: str = "kvm_amd") -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        reading = case.read(f"{origin}.{name}")
        if not reading.known:
            return unknown(reading)
        value = str(reading.value).strip().lower()
        if value in (*_ON, *_OFF):
            return decide(value in _ON, f"{name}={reading.value}", f"{name}={reading.value}")
        return unknown(f"{reading.origin} holds {str(reading.value)[:40]!r}")

    return run


def _vm_type(mode: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        reading = case.read("kvm.vm_types")
        if not reading.known:
            return unknown(reading)
        if reading.value <= 0:
            return unknown("this KVM does not list its VM types (Linux before 6.10)")
        have = bool(reading.value >> _VM_TYPES[mode] & 1)
        return decide(have, f"VM types {reading.value:#x}", f"VM types {reading.value:#x} lack {mode}")

    return run


def _capacity(key: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        capacity, current = case.read("cgroup.misc_capacity"), case.read("cgroup.misc_current")
        if not capacity.known:
            return unknown(capacity)
        numbers, used = _numbers(capacity.value), _numbers(str(current.value or ""))
        if key not in numbers:
            return unknown(f"{capacity.origin} does not name {key}")
        total, taken = numbers[key], used.get(key)
        if taken is None:
            return decide(total > 0, f"{total} ASIDs", "no ASIDs")
        return decide(taken < total, f"{taken} of {total} ASIDs in use", f"all {total} ASIDs are in use")

    return run


def _numbers(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.split("\n"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isascii() and pair[1].isdecimal()}


def _memlock(case: Case) -> Conclusion:
    reading = case.read("limits.memlock")
    if not reading.known:
        return unknown(reading)
    soft = reading.value["soft"]
    if soft is None:
        return passed("unlimited")
    if case.read("user.root").value:
        return passed(f"{soft >> 20} MiB, which does not bind root")
    return failed(f"{soft >> 20} MiB: SEV pins all memory of a guest")


def _qemu(name: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        reading = case.read("qemu.objects")
        if reading.missing == "absent":
            return failed("QEMU is not installed")
        if not reading.known:
            return unknown(reading)
        return decide(name in reading.value, f"QEMU has {name}", f"this QEMU lacks {name}")

    return run


def _ovmf(*features: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        reading = case.read("ovmf.descriptors")
        if reading.missing == "absent":
            return failed("no firmware descriptors are installed")
        if not reading.known:
            return unknown(reading)
        fitting = [entry for entry in reading.value if set(features) & set(entry["features"])]
        images = ", ".join(str(entry["image"] or entry["descriptor"]) for entry in fitting[:3])
        return decide(bool(fitting), images, f"no descriptor names {' or '.join(features)}")

    return run


_CONFIG = "/proc/config.gz, /boot/config-*"
_PARAM = "/sys/module/kvm_amd/parameters"
_MODPROBE = "then make it last: echo 'options kvm_amd sev=1 sev_es=1 sev_snp=1' > /etc/modprobe.d/kvm_amd.conf"

CHECKS: tuple[Check, ...] = (
    Check("kernel.config_sev", "kernel", SEV_UP, COUNTER, "The kernel is built for SEV hosts", _CONFIG,
          "build with CONFIG_KVM_AMD_SEV, CONFIG_CRYPTO_DEV_CCP_DD and CONFIG_CRYPTO_DEV_SP_PSP", (),
          _options("KVM_AMD_SEV", "CRYPTO_DEV_CCP_DD", "CRYPTO_DEV_SP_PSP")),
    Check("kernel.config_snp", "kernel", SNP, COUNTER, "The kernel is built for SNP hosts", _CONFIG,
          "build with CONFIG_AMD_MEM_ENCRYPT and CONFIG_AMD_IOMMU", (), _options("AMD_MEM_ENCRYPT", "AMD_IOMMU")),
    Check("kernel.cmdline", "kernel", SEV_UP, COUNTER, "The kernel command line does not switch SEV off", "/proc/cmdline",
          "take these words off the kernel command line", (), _cmdline),
    Check("kernel.cmdline_es_snp", "kernel", ES_UP, COUNTER, "The kernel command line does not switch SEV-ES or SNP off",
          "/proc/cmdline", "take these words off the kernel command line", (), _cmdline_snp),
    Check("kernel.modprobe", "kernel", SEV_UP, ADVICE, "The settings of modprobe do not switch SEV off", "/etc/modprobe.d",
          "change the options line, then unload and load kvm_amd", (), _modprobe),
    Check("kernel.sev_flag", "kernel", SEV_UP, COUNTER, "Linux has kept the SEV feature", "/proc/cpuinfo flags",
          "BIOS: enable SMEE and the SMM lock; Linux drops SEV without them", ("cpu.sev",), _kept_flag),
    Check("kernel.log_sev", "kernel", SEV_UP, COUNTER, "The kernel log tells of no failure of SEV", "kernel log",
          "the line quoted says what failed; docs/probe.md has the remedies", ("cpu.sev",), _log("sev")),
    Check("kernel.log_sev_es", "kernel", ES_UP, COUNTER, "The kernel log tells of no failure of SEV-ES", "kernel log",
          "the line quoted says what failed; docs/probe.md has the remedies", ("cpu.sev_es",), _log("sev_es")),
    Check("kernel.log_sev_snp", "kernel", SNP, COUNTER, "The kernel log tells of no failure of SEV-SNP", "kernel log",
          "the line quoted says what failed; docs/probe.md has the remedies", ("cpu.sev_snp",), _log("sev_snp")),
    Check("iommu.present", "iommu", SNP, REQUIRED, "An AMD IOMMU is in use", "/sys/class/iommu",
          "BIOS: enable IOMMU; kernel: CONFIG_AMD_IOMMU, no amd_iommu=off", ("cpu.sev_snp",), _iommu),
    Check("iommu.snp", "iommu", SNP, REQUIRED, "The IOMMU supports SNP", "/sys/class/iommu/ivhd*/amd-iommu/features bit 43, kernel log",
          "update the BIOS, and enable SEV-SNP Support under NBIO", ("iommu.present",), _iommu_snp),
    Check("iommu.translation", "iommu", SNP, REQUIRED, "The IOMMU translates, with version 1 page tables",
          "/proc/cmdline, kernel configuration", "boot with iommu=nopt, without iommu=pt and amd_iommu=pgtbl_v2",
          ("cpu.sev_snp",), _iommu_mode),
    Check("kvm.device", "kvm", SEV_UP, REQUIRED, "KVM answers", "/dev/kvm, KVM_GET_API_VERSION",
          "enable SVM in the BIOS, modprobe kvm_amd, and run as root or in group kvm", (), _kvm),
    Check("kvm.amd_module", "kvm", SEV_UP, REQUIRED, "The kvm_amd module is loaded", "/sys/module/kvm_amd",
          "modprobe kvm_amd", ("kvm.device",), _kvm_amd),
    Check("kvm.npt", "kvm", SEV_UP, COUNTER, "Nested paging is on", f"{_PARAM}/npt", "modprobe kvm_amd npt=1",
          ("kvm.amd_module",), _parameter("npt")),
    Check("kvm.sev", "kvm", SEV_UP, REQUIRED, "SEV is on in KVM", f"{_PARAM}/sev",
          f"modprobe -r kvm_amd; modprobe kvm_amd sev=1; {_MODPROBE}", ("cpu.sev", "kvm.amd_module"), _parameter("sev")),
    Check("kvm.sev_es", "kvm", ES_UP, REQUIRED, "SEV-ES is on in KVM", f"{_PARAM}/sev_es (or sev-es)",
          f"modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1; {_MODPROBE}", ("kvm.sev", "cpu.sev_es"), _parameter("sev_es")),
    Check("kvm.sev_snp", "kvm", SNP, REQUIRED, "SEV-SNP is on in KVM", f"{_PARAM}/sev_snp (or sev-snp)",
          f"modprobe -r kvm_amd; modprobe kvm_amd sev=1 sev_es=1 sev_snp=1; {_MODPROBE}", ("kvm.sev_es", "cpu.sev_snp"),
          _parameter("sev_snp")),
    Check("kvm.mmio_caching", "kvm", ES_UP, COUNTER, "KVM caches MMIO, which SEV-ES needs",
          "/sys/module/kvm/parameters/enable_mmio_caching", "modprobe kvm enable_mmio_caching=1", ("cpu.sev_es",),
          _parameter("enable_mmio_caching", origin="kvm")),
    Check("kvm.vm_type_sev", "kvm", ("sev",), COUNTER, "KVM can make SEV guests", "/dev/kvm, KVM_CAP_VM_TYPES bit 2",
          "the kernel log tells why kvm_amd left SEV off", ("cpu.sev", "kvm.device"), _vm_type("sev")),
    Check("kvm.vm_type_sev_es", "kvm", ("sev-es",), COUNTER, "KVM can make SEV-ES guests", "/dev/kvm, KVM_CAP_VM_TYPES bit 3",
          "the kernel log tells why kvm_amd left SEV-ES off", ("cpu.sev_es", "kvm.device"), _vm_type("sev-es")),
    Check("kvm.vm_type_snp", "kvm", SNP, COUNTER, "KVM can make SNP guests", "/dev/kvm, KVM_CAP_VM_TYPES bit 4",
          "needs Linux 6.11 or later; the kernel log tells why kvm_amd left SNP off", ("cpu.sev_snp", "kvm.device"), _vm_type("sev-snp")),
    Check("capacity.sev", "capacity", ("sev",), COUNTER, "ASIDs are free for SEV guests", "cgroup misc.capacity, misc.current: sev",
          "end guests that are not needed, or shift the ASID limit in the BIOS", ("cpu.sev",), _capacity("sev")),
    Check("capacity.sev_es", "capacity", ES_UP, COUNTER, "ASIDs are free for SEV-ES and SNP guests",
          "cgroup misc.capacity, misc.current: sev_es", "end guests that are not needed, or shift the ASID limit in the BIOS",
          ("cpu.sev_es",), _capacity("sev_es")),
    Check("capacity.memlock", "capacity", SEV_UP, ADVICE, "A guest's memory may be locked", "getrlimit(RLIMIT_MEMLOCK)",
          "set memlock to unlimited in /etc/security/limits.conf, or LimitMEMLOCK=infinity in the service", (), _memlock),
    Check("qemu.sev_guest", "tools", ("sev", "sev-es"), ADVICE, "QEMU can launch SEV guests", "qemu-system-x86_64 -object help",
          "install QEMU 2.12 or later built with SEV", (), _qemu("sev-guest")),
    Check("qemu.sev_snp_guest", "tools", SNP, ADVICE, "QEMU can launch SNP guests", "qemu-system-x86_64 -object help",
          "install QEMU 9.1 or later", (), _qemu("sev-snp-guest")),
    Check("ovmf.sev", "tools", ("sev", "sev-es"), ADVICE, "Guest firmware for SEV is installed", "/usr/share/qemu/firmware/*.json: features",
          "install the OVMF package of your distribution", (), _ovmf("amd-sev", "amd-sev-es")),
    Check("ovmf.snp", "tools", SNP, ADVICE, "Guest firmware for SNP is installed", "/usr/share/qemu/firmware/*.json: features",
          "install an OVMF of 2024 or later, built as OVMF.amdsev.fd", (), _ovmf("amd-sev-snp")),
)  # fmt: skip
