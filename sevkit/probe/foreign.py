"""Output of other programs, and files of /proc and /sys, as readings. Name or content identify a text. Pure.

snphost ok and sevctl ok, lscpu, virsh capabilities and domcapabilities, QMP's query-sev-capabilities, /proc/cpuinfo,
misc.capacity, kernel configurations, module parameters, kernel logs. A reading is taken only if the text states it.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from sevkit.errors import SevkitError
from sevkit.probe import oklists
from sevkit.probe.collect.kernel import CMDLINE_WORDS, LOG_WORDS
from sevkit.probe.oklists import C_BIT, Said
from sevkit.probe.undress import uncoloured, unquoted

FLAGS = ("sme", "sev", "sev_es", "sev_snp", "svm", "npt", "debug_swap", "hypervisor")


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
_CPU_FLAGS = re.compile(r"^flags\s*: ((?:\w+ )*\w+)\s*$", re.MULTILINE)
_LSCPU_JSON = re.compile(r'"field":\s*"[^"]{1,40}",\s*"data":\s*"((?:\w+ ){8,}\w+|(?:\w+ )*\bsvm\b[\w ]*)"')
_LSCPU_BEGIN = re.compile(
    r"^[^\n:\uff1a]{2,60}[:\uff1a]\s+(?:AuthenticAMD|HygonGenuine|GenuineIntel|x86_64)\s*$", re.MULTILINE
)
_LSCPU_TEXT = re.compile(r"^[^\n:\uff1a]{2,60}[:\uff1a]\s+((?:fpu|\w+ svm) (?:\w+ )*\w+)\s*$", re.MULTILINE)
_OBJECT = re.compile(r"^[^{\n]{0,40}\{", re.MULTILINE)
_QMP_LIMIT = 1 << 20
_UNDRESSED = 4 << 20  # characters
_MISC = re.compile(r"(?:(?:sev|sev_es|tdx|sgx_epc) \d+\s*)+")
_SECTYPE = re.compile(r"<enum name=['\"]sectype['\"]>(.*?)</enum>", re.DOTALL)


def said(name: str, text: str) -> Said | None:
    """Return the content of one text, or None for an unknown text. Marks of quotation and colour do not matter."""
    found = _said(name, text)
    if found is None and len(text) < _UNDRESSED:
        plain = "\n".join(unquoted(uncoloured(line)) for line in text.split("\n"))
        found = _said(name, plain) if plain != text else None
    return found


def _said(name: str, text: str) -> Said | None:
    for reader in (_file, _cmdline, _config, _modprobe, _cpuinfo, _lscpu, _list, _libvirt, _qmp, _misc, _log):
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
    found = _CPU_FLAGS.search(text) if "vendor_id" in text else None
    return Said("/proc/cpuinfo", {"cpuinfo.flags": _flags(found[1])}) if found else None


def _lscpu(name: str, text: str) -> Said | None:
    """lscpu, as text or JSON. Its labels are translated, so the flags are found by the first of them."""
    del name
    found = None
    if '"lscpu"' in text[:2000]:
        found = _LSCPU_JSON.search(text)
    elif "vendor_id" not in text and _LSCPU_BEGIN.search(text):
        found = _LSCPU_TEXT.search(text)
    return Said("lscpu", {"cpuinfo.flags": _flags(found[1])}) if found else None


def _list(name: str, text: str) -> Said | None:
    del name
    return oklists.read(text)


def _libvirt(name: str, text: str) -> Said | None:
    """The list of launch securities says what QEMU can launch; "supported='no'" has many causes."""
    del name
    whole = "<domainCapabilities" in text or ("<capabilities>" in text and "<guest>" in text)
    if not whole and not re.search(r"<(?:sev|launchSecurity) supported=", text):
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
    for answer in _objects(text):
        inner, error = answer.get("return", answer), answer.get("error")
        if isinstance(inner, dict) and type(inner.get("cbitpos")) is int and "reduced-phys-bits" in inner:
            return Said("query-sev-capabilities", {}, {C_BIT: inner["cbitpos"]})
        words = str(error.get("desc")) if isinstance(error, dict) else ""
        if "SEV is not enabled in KVM" in words:
            return Said("query-sev-capabilities", {"kvm_amd.sev": "N"})
        if "SEV" in words or "/dev/sev" in words:
            return Said("query-sev-capabilities", {})
    return None


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that begin a line, whatever stands between them: greetings, events, prompts."""
    if not any(word in text for word in ('"return"', '"error"', '"cbitpos"')) or len(text) >= _QMP_LIMIT:
        return
    decoder = json.JSONDecoder()
    end = 0
    for begin in _OBJECT.finditer(text):
        if begin.end() <= end:
            continue
        try:
            found, end = decoder.raw_decode(text, begin.end() - 1)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            yield found


def _misc(name: str, text: str) -> Said | None:
    del name
    lines = [line for line in text.split("\n") if line.strip() and not line.rstrip().endswith("misc.capacity")]
    plain = "\n".join(lines).strip()
    return Said("misc.capacity", {"cgroup.misc_capacity": plain}) if _MISC.fullmatch(plain + "\n") else None


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
