"""Checks on the settings that the BIOS and the firmware of the secure processor have made."""

from collections.abc import Callable, Mapping
from typing import Any

from sevkit.probe.checks.frame import (
    ADVICE,
    ALL,
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
from sevkit.probe.collect.msr import SNP_INIT_EQUAL

_SYSCFG = "MSR C001_0010"
_RMP_MASK = ((1 << 52) - 1) & ~0x1FFF  # Linux RMP_ADDR_MASK
_RMP_BOOKKEEPING = 0x4000
SNP_MIN_API = (1, 51)  # Linux drivers/crypto/ccp/sev-dev.c: SNP_MIN_API_MAJOR, SNP_MIN_API_MINOR


def _bits_set(values: Mapping[str, int], *bits: int) -> bool:
    return all(value >> bit & 1 for value in values.values() for bit in bits)


def _kernel_kept(case: Case, flag: str) -> bool:
    """Linux removes a flag from /proc/cpuinfo unless SYSCFG and HWCR allow it (arch/x86/kernel/cpu/amd.c)."""
    flags = case.kernel_flags
    return flags is not None and flag in flags and not case.guest["in_guest"]


def _log_says(case: Case, words: str) -> bool:
    return any(words in entry["text"] for entry in case.kernel_log["evidence"])


def _smee(case: Case) -> Conclusion:
    syscfg = case.msr("syscfg")
    if syscfg.known:
        return decide(_bits_set(syscfg.value, 23), "SYSCFG bit 23 is set", "SYSCFG bit 23 is clear")
    if _kernel_kept(case, "sev"):
        return passed("Linux lists sev, which it does only with SYSCFG bit 23 set")
    if _log_says(case, "memory encryption not enabled by BIOS"):
        return failed("the kernel log: memory encryption not enabled by BIOS")
    return unknown(syscfg)


def _smm_lock(case: Case) -> Conclusion:
    hwcr = case.msr("hwcr")
    if hwcr.known:
        return decide(_bits_set(hwcr.value, 0), "HWCR bit 0 is set", "HWCR bit 0 (SMM lock) is clear")
    if _kernel_kept(case, "sev"):
        return passed("Linux lists sev, which it does only with HWCR bit 0 set")
    return unknown(hwcr)


def _tsme(case: Case) -> Conclusion:
    reading = case.read("ccp.tsme_status")
    if not reading.known:
        return unknown(reading)
    state = {"0": "off", "1": "on: all memory is encrypted with one key, beside SEV"}.get(reading.value)
    return passed(f"TSME is {state}") if state else unknown(f"{reading.origin} holds {reading.value!r}")


def _sme_active(case: Case) -> Conclusion:
    if "sme" in case.kernel_log["active"]:
        return passed("the kernel log says that SME is active")
    words = case.read("kernel.cmdline").value or []
    if "mem_encrypt=off" in words:
        return failed("mem_encrypt=off is on the kernel command line")
    flags = case.kernel_flags
    if flags is not None and "sme" in flags:
        return passed("Linux lists sme, which it does only when it is active")
    if case.kernel_log["complete"]:
        return failed("the log goes back to the start and does not name SME")
    return unknown("neither the kernel log nor /proc/cpuinfo tells")


def _fused(case: Case) -> Conclusion:
    reading = case.read("ccp.fused_part")
    if not reading.known:
        return unknown(reading)
    return decide(reading.value == "1", "a production part", "not fused: an engineering sample, its keys prove nothing")


def _rmp_range(case: Case) -> Conclusion:
    base, end = case.msr("rmp_base"), case.msr("rmp_end")
    if not base.known or not end.known:
        if _log_says(case, "has not been reserved by BIOS"):
            return failed("the kernel log: memory for the RMP table has not been reserved by BIOS")
        return unknown(base if not base.known else end)
    if len(set(base.value.values())) > 1 or len(set(end.value.values())) > 1:
        return failed("RMP_BASE or RMP_END differs between CPUs")
    low, high = next(iter(base.value.values())), next(iter(end.value.values()))
    if not low & _RMP_MASK or (not high & _RMP_MASK and not _segmented(case)):
        return failed(f"not reserved: RMP_BASE {low:#x}, RMP_END {high:#x}")
    if low & 0xFFFFF:
        return failed(f"RMP_BASE {low:#x} is not aligned to 1 MiB")
    if _segmented(case):
        return passed(f"segmented, base {low:#x}")
    return decide(high > low, f"{low:#x} to {high:#x}", f"RMP_END {high:#x} lies below RMP_BASE {low:#x}")


def _segmented(case: Case) -> bool:
    config = case.msr("rmp_cfg")
    return config.known and _bits_set(config.value, 0)


def _rmp_size(case: Case) -> Conclusion:
    base, end, memory = case.msr("rmp_base"), case.msr("rmp_end"), case.read("memory.end")
    if _segmented(case):
        return passed("segmented: each segment covers its own memory")
    for reading in (base, end, memory):
        if not reading.known:
            return unknown(reading)
    low, high = next(iter(base.value.values())), next(iter(end.value.values()))
    have = high - low + 1
    pages = (max(memory.value, high) >> 12) + 1
    need = _RMP_BOOKKEEPING + (pages << 4)
    sizes = f"{have >> 20} MiB, needed {need / (1 << 20):.0f} MiB"
    return decide(have >= need, sizes, f"does not cover all memory: {sizes}")


def _equal(case: Case) -> Conclusion:
    differing, missing, cpus = [], [], 0
    for register in SNP_INIT_EQUAL:
        reading = case.msr(register)
        if not reading.known:
            missing.append(reading)
            continue
        cpus = max(cpus, len(reading.value))
        if len(set(reading.value.values())) > 1:
            differing.append(f"{register >> 16:04X}_{register & 0xFFFF:04X}")
    if differing:
        return failed(f"differ between CPUs: {', '.join(differing)}; SNP_INIT fails with INVALID_CONFIG")
    if missing:
        return unknown(missing[0])
    return passed(f"{len(SNP_INIT_EQUAL)} registers are equal on {cpus} CPUs")


def _snp_enabled(case: Case) -> Conclusion:
    syscfg = case.msr("syscfg")
    if not syscfg.known:
        return unknown(syscfg)
    return decide(_bits_set(syscfg.value, 24, 25), "SYSCFG bits 24 and 25 are set", "SYSCFG bit 24 or 25 is clear")


def _device(way: str) -> "Callable[[Case], Conclusion]":
    def run(case: Case) -> Conclusion:
        reading = case.read("sev.device")
        if reading.missing == "absent":
            return failed(f"/dev/sev: {reading.why}")
        if not reading.known:
            return unknown(reading)
        words = reading.value[way]
        return passed(way) if words == "yes" else unknown(f"/dev/sev: {words}")

    return run


def _sev(case: Case, judge: "Callable[[dict[str, Any]], Conclusion]") -> Conclusion:
    reading = case.read("sev.platform_status")
    return judge(reading.value) if reading.known else unknown(reading)


def _snp(case: Case, judge: "Callable[[dict[str, Any]], Conclusion]") -> Conclusion:
    reading = case.read("sev.snp_platform_status")
    return judge(reading.value) if reading.known else unknown(reading)


def _version(case: Case) -> Conclusion:
    reading = case.read("sev.platform_status")
    if not reading.known:
        reading = case.read("sev.snp_platform_status")
    if not reading.known:
        return unknown(reading)
    status = reading.value
    version = (status["api_major"], status["api_minor"])
    words = f"API {version[0]}.{version[1]} build {status['build']}"
    return decide(version >= SNP_MIN_API, words, f"{words} is older than {SNP_MIN_API[0]}.{SNP_MIN_API[1]}")


def _sev_init(status: dict[str, Any]) -> Conclusion:
    good = status["state"] in ("init", "working")
    return decide(good, f"state {status['state']}, {status['guest_count']} guests", f"state {status['state']}")


def _snp_init(status: dict[str, Any]) -> Conclusion:
    return decide(status["state"] == "init", f"state init, {status['guest_count']} guests", f"state {status['state']}")


def _es_init(status: dict[str, Any]) -> Conclusion:
    return decide(status["es"], "initialised for SEV-ES", "initialised without SEV-ES")


def _rmp_init(status: dict[str, Any]) -> Conclusion:
    return decide(status["rmp_initialized"], "initialised", "not initialised")


def _alias(status: dict[str, Any]) -> Conclusion:
    return decide(status["alias_check_complete"], "done", "not done: open to memory aliasing (CVE-2024-21944)")


# (family, first model, last model, byte of the SNP SPL in TCB_VERSION, SPL that refuses SEV-ES beside SNP).
# Source: Linux drivers/crypto/ccp/sev-dev.c, sev_firmware_allows_es; the fix of CVE-2025-48514 (AMD-SB-3023).
_REFUSES_ES = ((0x19, 0x00, 0xFF, 6, 0x1B), (0x1A, 0x00, 0x1F, 3, 0x04))


def _es_beside_snp(case: Case) -> Conclusion:
    """Fixed firmware refuses SEV-ES guests while SNP is on; older kernels still announce the VM type."""
    reading = case.read("sev.snp_platform_status")
    if not reading.known:
        return unknown(reading)
    if reading.value["state"] != "init":
        return passed("SNP is not on")
    family, model = case.facts.identity.family, case.facts.identity.model
    for own, first, last, byte, least in _REFUSES_ES:
        if family == own and model is not None and first <= model <= last:
            level = reading.value["current_tcb"] >> 8 * byte & 0xFF
            words = f"SNP is on, and its SPL is {level:#x}"
            return decide(
                level < least, words, f"{words}: from {least:#x} on SEV-ES guests are refused (CVE-2025-48514)"
            )
    return unknown("not known for this processor")


def _tcb(status: dict[str, Any]) -> Conclusion:
    current, reported = status["current_tcb"], status["reported_tcb"]
    same = f"{current:#018x}"
    return decide(current == reported, same, f"current {same}, reported {reported:#018x}")


def _hiding(status: dict[str, Any]) -> Conclusion:
    if not status["ciphertext_hiding_capable"]:
        return failed("the firmware does not offer it: the host can read ciphertext")
    return decide(status["ciphertext_hiding_enabled"], "on", "off: the host can read ciphertext")


_MSR_HINT = "modprobe msr, and run as root"
_DEV_HINT = "modprobe ccp, and run as root, on the host itself"
_SNP_BIOS = "BIOS: set SNP Memory (RMP Table) Coverage to Enabled, and SEV-SNP Support to Enabled"

CHECKS: tuple[Check, ...] = (
    Check("bios.smee", "bios", ALL, REQUIRED, "The BIOS has enabled memory encryption (SMEE)",
          f"{_SYSCFG} (SYSCFG) bit 23, /proc/cpuinfo, kernel log", f"BIOS: CPU Common Options, SMEE; to read it: {_MSR_HINT}",
          ("cpu.leaf",), _smee),
    Check("bios.smm_lock", "bios", SEV_UP, REQUIRED, "System management mode is locked", "MSR C001_0015 (HWCR) bit 0, /proc/cpuinfo",
          f"Linux gives SEV up without the lock: update the BIOS; to read it: {_MSR_HINT}", ("cpu.leaf",), _smm_lock),
    Check("bios.sme_active", "bios", ("sme",), REQUIRED, "Linux runs with SME", "kernel log, /proc/cpuinfo, command line",
          "boot with mem_encrypt=on", ("cpu.sme",), _sme_active),
    Check("bios.tsme", "bios", ALL, ADVICE, "State of transparent encryption (TSME)", "/sys/bus/pci/drivers/ccp/*/tsme_status",
          "for your information; the file is there from Linux 6.0 on, with the ccp driver", (), _tsme),
    Check("bios.fused", "bios", SEV_UP, ADVICE, "A production part", "/sys/bus/pci/drivers/ccp/*/fused_part",
          "attestation by an engineering sample proves nothing: use a production part", (), _fused),
    Check("bios.rmp_range", "bios", SNP, REQUIRED, "The BIOS has reserved a reverse map table", "MSR C001_0132, C001_0133 (RMP_BASE, RMP_END)",
          f"{_SNP_BIOS}; to read it: {_MSR_HINT}", ("cpu.sev_snp",), _rmp_range),
    Check("bios.rmp_size", "bios", SNP, REQUIRED, "The reverse map table covers all memory", "MSR C001_0132, C001_0133, /proc/iomem",
          _SNP_BIOS, ("bios.rmp_range",), _rmp_size),
    Check("bios.snp_init_equal", "bios", SNP, REQUIRED, "The registers that SNP_INIT compares are equal on all CPUs",
          "MSR 250h, 258h, 259h, 268h to 26Fh, C001_0010, 15, 16 to 1A, 1D, 112, 113, C001_1006 on every CPU",
          f"update the BIOS; programs that write MSRs on single CPUs cause this too; to read them: {_MSR_HINT}",
          ("cpu.sev_snp",), _equal),
    Check("firmware.dev_sev_readable", "firmware", SEV_UP, REQUIRED, "/dev/sev can be read", "/dev/sev", _DEV_HINT,
          ("cpu.sev",), _device("readable")),
    Check("firmware.dev_sev_writable", "firmware", SEV_UP, ADVICE, "/dev/sev can be written", "/dev/sev", "run as root",
          ("firmware.dev_sev_readable",), _device("writable")),
    Check("firmware.sev_initialised", "firmware", SEV_UP, REQUIRED, "The SEV firmware is initialised", "/dev/sev, PLATFORM_STATUS: state",
          "modprobe kvm_amd sev=1; look at the kernel log for a failed INIT", ("firmware.dev_sev_readable",),
          lambda case: _sev(case, _sev_init)),
    Check("firmware.es_initialised", "firmware", ES_UP, REQUIRED, "The SEV firmware is initialised for SEV-ES", "/dev/sev, PLATFORM_STATUS: es",
          "modprobe kvm_amd sev_es=1; the kernel log tells when the trusted memory region was not to be had",
          ("firmware.sev_initialised", "cpu.sev_es"), lambda case: _sev(case, _es_init)),
    Check("firmware.es_beside_snp", "firmware", ("sev-es",), COUNTER, "The firmware takes SEV-ES guests while SNP is on",
          "/dev/sev, SNP_PLATFORM_STATUS: current_tcb",
          "run SNP guests in place of SEV-ES ones, or load kvm_amd with sev_snp=0: both at once are not to be had",
          ("firmware.es_initialised",), _es_beside_snp),
    Check("firmware.version", "firmware", SNP, REQUIRED, "The firmware is new enough for SEV-SNP (1.51)",
          "/dev/sev, PLATFORM_STATUS: api_major, api_minor, build", "update the BIOS, or put AMD's SEV firmware under /lib/firmware/amd",
          ("cpu.sev_snp",), _version),
    Check("firmware.syscfg_snp", "firmware", SNP, REQUIRED, "SEV-SNP is switched on on all CPUs", f"{_SYSCFG} (SYSCFG) bits 24, 25",
          f"{_SNP_BIOS}; Linux sets them when it takes SNP into use; to read them: {_MSR_HINT}", ("cpu.sev_snp", "bios.smee"), _snp_enabled),
    Check("firmware.snp_initialised", "firmware", SNP, REQUIRED, "The SNP firmware is initialised", "/dev/sev, SNP_PLATFORM_STATUS: state",
          "needs Linux 6.11 or later, modprobe kvm_amd sev_snp=1; the kernel log tells why SNP_INIT failed",
          ("firmware.dev_sev_readable", "cpu.sev_snp"), lambda case: _snp(case, _snp_init)),
    Check("firmware.rmp_initialised", "firmware", SNP, REQUIRED, "The firmware has initialised the reverse map table",
          "/dev/sev, SNP_PLATFORM_STATUS: rmp_initialized", "needs CONFIG_KVM_AMD_SEV; reboot after changing BIOS settings",
          ("firmware.snp_initialised",), lambda case: _snp(case, _rmp_init)),
    Check("firmware.alias_check", "firmware", SNP, ADVICE, "The firmware has checked memory for aliases",
          "/dev/sev, SNP_PLATFORM_STATUS: alias_check_complete", "update BIOS and firmware as AMD-SB-3015 says, then reboot",
          ("firmware.snp_initialised",), lambda case: _snp(case, _alias)),
    Check("firmware.tcb", "firmware", SNP, ADVICE, "The reported TCB version is the current one",
          "/dev/sev, SNP_PLATFORM_STATUS: current_tcb, reported_tcb", "snphost commit, or snphost config set",
          ("firmware.snp_initialised",), lambda case: _snp(case, _tcb)),
    Check("firmware.ciphertext_hiding", "firmware", SNP, ADVICE, "The host cannot read ciphertext",
          "/dev/sev, SNP_PLATFORM_STATUS: ciphertext_hiding_enabled",
          "needs EPYC 9005, Linux 6.18 and kvm_amd.ciphertext_hiding_asids", ("firmware.snp_initialised",),
          lambda case: _snp(case, _hiding)),
)  # fmt: skip
