"""Read a host without Python: a shell script prints the files, and this module turns its output into facts."""

import time
from typing import Any

from sevkit.probe.collect import FACTS_VERSION
from sevkit.probe.collect.cpuid import key
from sevkit.probe.collect.kernel import CMDLINE_WORDS, LOG_WORDS
from sevkit.probe.cpu import HYPERVISOR_LEAVES, WANTED

_MARK = "@sevkit@"
_TEXTS = {
    "kernel.cmdline": "/proc/cmdline",
    "kvm_amd.sev": "/sys/module/kvm_amd/parameters/sev",
    "kvm_amd.sev_es": "/sys/module/kvm_amd/parameters/sev_es",
    "kvm_amd.sev_snp": "/sys/module/kvm_amd/parameters/sev_snp",
    "kvm_amd.npt": "/sys/module/kvm_amd/parameters/npt",
    "kvm.enable_mmio_caching": "/sys/module/kvm/parameters/enable_mmio_caching",
    "cgroup.misc_capacity": "/sys/fs/cgroup/misc.capacity",
    "cgroup.misc_current": "/sys/fs/cgroup/misc.current",
    "dmi.product_name": "/sys/class/dmi/id/product_name",
    "iommu.features": "/sys/class/iommu/ivhd0/amd-iommu/features",
}


def _script() -> str:
    """The cpuid device takes the leaf as the file offset; dd's skip_bytes seeks to it."""
    leaves = " ".join(f"{leaf}" for leaf, sub in (*WANTED, *HYPERVISOR_LEAVES) if sub == 0)
    lines = [
        f"m() {{ printf '\\n{_MARK} %s\\n' \"$1\"; }}",
        "m name; uname -n; m release; uname -r; m machine; uname -m",
        *(f"m {name}; cat {path} 2>/dev/null" for name, path in _TEXTS.items()),
        "m flags; grep -m1 ^flags /proc/cpuinfo 2>/dev/null",
        "m modules; for n in kvm kvm_amd ccp sev_guest msr cpuid; do [ -d /sys/module/$n ] && echo $n; done",
        "m log; dmesg 2>/dev/null",
        f"for d in /dev/cpu/[0-9]*; do m cpu.${{d##*/}}; for l in {leaves}; do",
        "r=$(dd if=$d/cpuid bs=16 count=1 skip=$l iflag=skip_bytes 2>/dev/null | od -An -tx4 2>/dev/null)",
        'printf "%s:%s\\n" "$l" "$r"; done; done; m end',
    ]
    return "\n".join(lines)


SCRIPT = _script()


def facts_of(output: str) -> dict[str, Any]:
    """Facts from what the script printed; files that it could not read are missing, not off."""
    parts = _parts(output)
    readings: dict[str, Any] = {}
    for name, path in _TEXTS.items():
        text = parts.get(name, "").strip()
        readings[name] = {"from": path, "value": text} if text else _nothing(path)
    words = parts.get("kernel.cmdline", "").split()
    readings["kernel.cmdline"] = {"from": "/proc/cmdline", "value": [w for w in words if w.startswith(CMDLINE_WORDS)]}
    readings["kernel.release"] = {"from": "uname", "value": parts.get("release", "").strip()}
    readings["kernel.machine"] = {"from": "uname", "value": parts.get("machine", "").strip()}
    readings["kernel.modules"] = {"from": "/sys/module", "value": parts.get("modules", "").split()}
    flags = parts.get("flags", "").partition(":")[2].split()
    readings["cpuinfo.flags"] = {"from": "/proc/cpuinfo", "value": flags} if flags else _nothing("/proc/cpuinfo")
    readings["kernel.log"] = _log(parts.get("log", ""))
    return {
        "sevkit_facts_version": FACTS_VERSION,
        "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "source": {"kind": "shell", "host": parts.get("name", "").strip()},
        "cpuid": _cpuid(parts),
        "readings": readings,
    }


def _nothing(path: str) -> dict[str, str]:
    return {"from": path, "missing": "failed", "why": "could not be read, or is not there"}


def _parts(output: str) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in output.split("\n"):
        if line.startswith(f"{_MARK} "):
            current = found.setdefault(line[len(_MARK) + 1 :].strip(), [])
        else:
            current.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def _log(text: str) -> dict[str, Any]:
    from sevkit.probe.klog import message_of

    if not text.strip():
        return _nothing("dmesg")
    words = tuple(word.decode() for word in LOG_WORDS)
    messages = (message_of(line) for line in text.split("\n"))
    return {"from": "dmesg", "value": [m for m in messages if m and any(word in m for word in words)]}


def _cpuid(parts: dict[str, str]) -> dict[str, Any]:
    rows, unreadable = [], []
    for name, text in parts.items():
        if not name.startswith("cpu.") or not name[4:].isdecimal() or len(name) > 10:
            continue
        leaves = _leaves(text)
        if key(0, 0) in leaves:
            rows.append({"cpu": int(name[4:]), "leaves": leaves})
        else:
            unreadable.append({"cpu": int(name[4:]), "from": f"/dev/cpu/{name[4:]}/cpuid", "why": "could not be read"})
    return {"method": "device", "cpus": sorted(rows, key=lambda row: int(str(row["cpu"]))), "unreadable": unreadable}


def _leaves(text: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line in text.split("\n"):
        leaf, _, words = line.partition(":")
        parts = words.split()
        if leaf.isdecimal() and len(leaf) < 12 and len(parts) == 4:
            try:
                found[key(int(leaf), 0)] = [int(word, 16) for word in parts]
            except ValueError:
                continue
    highest = found.get(key(0x80000000, 0), [0])[0]
    one = found.get(key(1, 0), [0, 0, 0, 0])
    beyond = [name for name in found if int(name, 16) > max(highest, 0x80000000)]
    hidden = [key(leaf, 0) for leaf, _ in HYPERVISOR_LEAVES] if not one[2] >> 31 else []
    for name in {*beyond, *hidden}:
        found.pop(name, None)
    return found
