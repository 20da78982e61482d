"""Output of other programs, and files of /proc and /sys, as readings. Name or content identify a text. Pure.

snphost ok and sevctl ok, lscpu, virsh capabilities and domcapabilities, QMP's query-sev-capabilities, /proc/cpuinfo,
misc.capacity, kernel configurations, module parameters, kernel logs. A reading is taken only if the text states it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from sevkit.errors import SevkitError
from sevkit.probe.collect.kernel import CMDLINE_WORDS, LOG_WORDS
from sevkit.probe.undress import uncoloured

FLAGS = ("sme", "sev", "sev_es", "sev_snp", "svm", "npt", "debug_swap", "hypervisor")
C_BIT = "c_bit_position"  # several programs report it: it is compared, not taken as a reading


class Said(NamedTuple):
    """The content of a text: its kind, its readings by name, and its values for fields of the leaf."""

    what: str
    readings: dict[str, Any]
    fields: dict[str, int] = {}  # noqa: RUF012 - never changed


# Files of /proc, /sys and /etc as sosreport, supportconfig and hand-made archives lay them out.
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"module/kvm_amd/parameters/sev$", "kvm_amd.sev"),
    (r"module/kvm_amd/parameters/sev[-_]es$", "kvm_amd.sev_es"),
    (r"module/kvm_amd/parameters/sev[-_]snp$", "kvm_amd.sev_snp"),
    (r"module/kvm_amd/parameters/npt$", "kvm_amd.npt"),
    (r"module/kvm/parameters/enable_mmio_caching$", "kvm.enable_mmio_caching"),
    (r"misc\.capacity$", "cgroup.misc_capacity"),
    (r"misc\.current$", "cgroup.misc_current"),
    (r"cpu/smt/control$", "cpu.smt"),
    (r"dmi/id/sys_vendor$", "dmi.sys_vendor"),
    (r"dmi/id/product_name$", "dmi.product_name"),
    (r"dmi/id/bios_version$", "dmi.bios_version"),
    (r"iommu/ivhd\d+/amd-iommu/features$", "iommu.features"),
)
_OK_LINE = re.compile(r"\s*\[ ?(PASS|FAIL|SKIP) ?\]\s*-\s*(.+?)\s*")
_OK_WORDS: tuple[tuple[str, str], ...] = (
    (r"SEV enabled in KVM", "kvm_amd.sev"),
    (r"SEV-ES enabled in KVM", "kvm_amd.sev_es"),
    (r"SEV-SNP enabled in KVM", "kvm_amd.sev_snp"),
)
_OK_FIELDS: tuple[tuple[str, str], ...] = (
    (r"C-bit location: (\d+)", C_BIT),
    (r"Physical address bit reduction: (\d+)", "phys_addr_reduction"),
    (r"Number of VMPLs: (\d+)", "num_vmpl"),
    (r"Number of encrypted guests supported simultaneously: (\d+)", "num_encrypted_guests"),
    (r"Minimum ASID value for SEV-enabled, SEV-ES disabled guest: (\d+)", "min_sev_no_es_asid"),
)
_MISC = re.compile(r"(?:(?:sev|sev_es|tdx|sgx_epc) \d+\s*)+")
_SECTYPE = re.compile(r"<enum name=['\"]sectype['\"]>(.*?)</enum>", re.DOTALL)


def said(name: str, text: str) -> Said | None:
    """Return the content of one text, or None for an unknown text."""
    for reader in (_file, _cmdline, _config, _modprobe, _cpuinfo, _lscpu, _ok, _libvirt, _qmp, _misc, _log):
        found = reader(name, text)
        if found is not None:
            return found
    return None


def _file(name: str, text: str) -> Said | None:
    for pattern, reading in _TEXTS:
        if re.search(pattern, name):
            return Said(reading, {reading: text.strip()})
    return None


def _cmdline(name: str, text: str) -> Said | None:
    if not re.search(r"(?:^|/)(?:proc/)?cmdline(?:\.txt)?$", name) or "\n" in text.strip():
        return None
    words = [word for word in text.split() if word.startswith(CMDLINE_WORDS)]
    return Said("kernel command line", {"kernel.cmdline": words})


def _config(name: str, text: str) -> Said | None:
    if not re.search(r"(?:^|/)config(?:-[^/]+|\.gz)?$", name) or "CONFIG_" not in text:
        return None
    from sevkit.probe.collect.kernel import options

    return Said("kernel configuration", {"kernel.config": options(text.encode())})


def _modprobe(name: str, text: str) -> Said | None:
    if not re.search(r"modprobe\.d/[^/]+\.conf$", name):
        return None
    lines = [line.strip() for line in text.split("\n") if re.search(r"kvm[-_]amd", line)]
    kept = [line for line in lines if not line.startswith("#")]
    return Said("modprobe settings", {"modprobe.kvm_amd": kept}) if kept else None


def _flags(words: str) -> list[str]:
    there = set(words.split())
    return [flag for flag in FLAGS if flag in there]


def _cpuinfo(name: str, text: str) -> Said | None:
    del name
    found = re.search(r"^flags\t+: (.+)$", text, re.MULTILINE)
    return (
        Said("/proc/cpuinfo", {"cpuinfo.flags": _flags(found[1])}) if found and "\nvendor_id" in f"\n{text}" else None
    )


def _lscpu(name: str, text: str) -> Said | None:
    del name
    if text.lstrip().startswith("{") and '"lscpu"' in text[:200]:
        found = re.search(r'"field":\s*"Flags:",\s*"data":\s*"([^"]+)"', text)
    else:
        found = re.search(r"^Flags:\s+(.+)$", text, re.MULTILINE) if "\nVendor ID" in text else None
    return Said("lscpu", {"cpuinfo.flags": _flags(found[1])}) if found else None


def _ok(name: str, text: str) -> Said | None:
    """Lines of `snphost ok` and `sevctl ok`. A failed line does not say whether the feature is off or unreadable."""
    del name
    if "PASS" not in text:
        return None
    rows = [m.groups() for line in text.split("\n") if (m := _OK_LINE.fullmatch(uncoloured(line)))]
    if len(rows) < 3:
        return None
    passed = [words for verdict, words in rows if verdict == "PASS"]
    readings = {reading: "Y" for words, reading in _OK_WORDS if any(row.startswith(words) for row in passed)}
    fields = {}
    for pattern, field in _OK_FIELDS:
        found = next((m for row in passed if (m := re.match(pattern, row))), None)
        if found:
            fields[field] = int(found[1])
    api = next((m for row in passed if (m := re.match(r"KVM supported: API version: (\d+)", row))), None)
    return Said("snphost ok or sevctl ok", readings | ({"kvm.api_version": int(api[1])} if api else {}), fields)


def _libvirt(name: str, text: str) -> Said | None:
    """The list of launch securities says what QEMU can launch; "supported='no'" has many causes."""
    del name
    if "<domainCapabilities" not in text and not ("<capabilities>" in text and "<guest>" in text):
        return None
    readings: dict[str, Any] = {}
    types = _SECTYPE.search(text)
    if types:
        values = re.findall(r"<value>([\w-]+)</value>", types[1])
        readings["qemu.objects"] = [f"{value}-guest" for value in ("sev", "sev-snp") if value in values]
    c_bit = re.search(r"<sev supported=['\"]yes['\"]>.*?<cbitpos>(\d+)</cbitpos>", text, re.DOTALL)
    return Said("libvirt's capabilities", readings, {C_BIT: int(c_bit[1])} if c_bit else {})


def _qmp(name: str, text: str) -> Said | None:
    """The answer of query-sev-capabilities: QEMU asks KVM and the firmware."""
    del name
    for line in _objects(text):
        answer, error = line.get("return"), line.get("error")
        if isinstance(answer, dict) and isinstance(answer.get("cbitpos"), int):
            return Said("query-sev-capabilities", {}, {C_BIT: answer["cbitpos"]})
        if isinstance(error, dict) and "SEV is not enabled in KVM" in str(error.get("desc")):
            return Said("query-sev-capabilities", {"kvm_amd.sev": "N"})
    return None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    if '"return"' not in text and '"error"' not in text:
        return
    candidates = [text, *text.split("\n")] if len(text) < 1 << 20 else []
    for candidate in candidates:
        try:
            found = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def _misc(name: str, text: str) -> Said | None:
    del name
    found = _MISC.fullmatch(text.strip() + "\n")
    return Said("misc.capacity", {"cgroup.misc_capacity": text.strip()}) if found else None


def _log(name: str, text: str) -> Said | None:
    """The messages of the last boot; None for a log without a known line about memory encryption."""
    from sevkit.probe.klog import judge
    from sevkit.probe.logforms import records

    lines = text.split("\n")
    words = [word.decode() for word in LOG_WORDS]
    try:
        if not judge(lines, name=name)["evidence"]:
            return None
        kept: list[str] = []
        for item in records(lines, words, name):
            if item.boot:
                kept.clear()
            if item.message and any(word in item.message for word in words):
                kept.append(item.message)
    except SevkitError:
        return None
    return Said("kernel log", {"kernel.log": kept[-4000:]})
