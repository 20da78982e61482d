"""Hosts for the tests of the probe: one on which everything works, and what to change in it."""

import copy
from typing import Any

from sevkit.probe.collect.msr import NAMED, SNP_INIT_EQUAL, name_of
from sevkit.probe.facts import Facts, checked

AMD = [0x10, 0x68747541, 0x444D4163, 0x69746E65]
INTEL = [0x16, 0x756E6547, 0x6C65746E, 0x49656E69]
HYGON = [0x10, 0x6F677948, 0x656E6975, 0x6E65476E]
GENOA = [0x030FFFFB, 0x00004173, 0x000003EE, 0x00000064]
_BRAND = b"AMD EPYC 9654 96-Core Processor".ljust(48, b"\0")

LEAF = "0x8000001f"
MEMORY_END = (64 << 30) - 1
RMP_BASE = 0x100000000
RMP_END = RMP_BASE + (1 << 30) + 0x4000 - 1

LOG = [
    "Linux version 6.12.1-amd64 (debian-kernel@lists.debian.org) (gcc) #1 SMP",
    "DMI: Supermicro AS -1115CS-TNR/H13SSW, BIOS 3.0 08/05/2024",
    "SEV-SNP: RMP table physical range [0x0000000100000000 - 0x0000000140003fff]",
    "Booting paravirtualized kernel on bare hardware",
    "AMD-Vi: IOMMU SNP support enabled.",
    "ccp 0000:22:00.5: sev enabled",
    "ccp 0000:22:00.5: SEV API:1.55 build:37",
    "ccp 0000:22:00.5: SEV-SNP API:1.55 build:37",
    "kvm_amd: SEV enabled (ASIDs 100 - 1006)",
    "kvm_amd: SEV-ES enabled (ASIDs 1 - 99)",
    "kvm_amd: SEV-SNP enabled (ASIDs 1 - 99)",
    "Memory Encryption Features active: AMD SME",
]

SEV_STATUS = {
    "api_major": 1, "api_minor": 55, "state": "init", "owner": "self", "es": True, "flags": 0x100, "build": 37,
    "guest_count": 0,
}  # fmt: skip
SNP_STATUS = {
    "api_major": 1, "api_minor": 55, "state": "init", "rmp_initialized": True, "alias_check_complete": True, "build": 37,
    "mask_chip_id": False, "mask_chip_key": False, "vlek_loaded": False, "feature_info": True, "rapl_disabled": False,
    "ciphertext_hiding_capable": True, "ciphertext_hiding_enabled": True, "flags": 0x68, "guest_count": 0,
    "current_tcb": 0x4800000000000A04, "reported_tcb": 0x4800000000000A04,
}  # fmt: skip


def words(raw: bytes) -> list[int]:
    return [int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8, 12)]


def leaves(leaf: list[int] | None = None, *, vendor: list[int] = AMD, guest: bool = False) -> dict[str, list[int]]:
    """The leaves of one CPU; ``leaf`` is 0x8000001F (Genoa's when left out)."""
    rows = {
        "0x00000000": vendor,
        "0x00000001": [0x00A10F11, 0x00000800, 0x7EF8320B | (1 << 31 if guest else 0), 0x178BFBFF],
        "0x80000000": [0x80000028, *vendor[1:]],
        "0x80000001": [0x00A10F11, 0, 0x75C237FF, 0x2FD3FBFF],
        "0x80000002": words(_BRAND[:16]),
        "0x80000003": words(_BRAND[16:32]),
        "0x80000004": words(_BRAND[32:]),
        LEAF: leaf if leaf is not None else GENOA,
    }
    if guest:
        rows["0x40000000"] = [0x40000001, 0x4B4D564B, 0x564B4D56, 0x4D]
    return copy.deepcopy(rows)


def value(content: Any, origin: str = "test") -> dict[str, Any]:
    return {"from": origin, "value": content}


def missing(kind: str = "denied", why: str = "permission denied", origin: str = "test") -> dict[str, Any]:
    return {"from": origin, "missing": kind, "why": why}


def ready(cpus: int = 2) -> dict[str, Any]:
    """The facts of a Genoa host that can run every kind of guest."""
    numbers = [str(cpu) for cpu in range(cpus)]
    registers = {
        **dict.fromkeys(SNP_INIT_EQUAL, 0x1818181818181818),
        NAMED["syscfg"]: 1 << 23 | 1 << 24 | 1 << 25,
        NAMED["hwcr"]: 1,
        NAMED["vm_cr"]: 0,
        NAMED["sev_status"]: 0,
        NAMED["rmp_base"]: RMP_BASE,
        NAMED["rmp_end"]: RMP_END,
        NAMED["rmp_cfg"]: 0,
    }
    config = dict.fromkeys(
        ("KVM_AMD_SEV", "CRYPTO_DEV_CCP_DD", "CRYPTO_DEV_SP_PSP", "AMD_MEM_ENCRYPT", "AMD_IOMMU"), "y"
    )
    readings = {
        **{name_of(r): value(dict.fromkeys(numbers, v), f"MSR {r >> 16:04X}_{r & 0xFFFF:04X}") for r, v in registers.items()},
        "kernel.release": value("6.12.1-amd64"),
        "kernel.machine": value("x86_64"),
        "kernel.cmdline": value(["mem_encrypt=on", "kvm_amd.sev=1"]),
        "kernel.config": value({**config, "IOMMU_DEFAULT_PASSTHROUGH": "n"}),
        "kernel.modules": value(["kvm", "kvm_amd", "ccp", "msr"]),
        "kernel.log": value(list(LOG)),
        "cpuinfo.flags": value(["sme", "sev", "sev_es", "sev_snp", "svm"]),
        "kvm_amd.sev": value("Y"),
        "kvm_amd.sev_es": value("Y"),
        "kvm_amd.sev_snp": value("Y"),
        "kvm_amd.npt": value("Y"),
        "kvm.enable_mmio_caching": value("Y"),
        "kvm.api_version": value(12),
        "kvm.vm_types": value(0b11111),
        "kvm.vmsa_features": value(1 << 9),
        "iommu.units": value(["ivhd0", "ivhd1"]),
        "iommu.features": value(f"0:{1 << 43 | 0xFF:x}"),
        "iommu.domains": value({"DMA-FQ": 12}),
        "cgroup.misc_capacity": value("sev 907\nsev_es 99"),
        "cgroup.misc_current": value("sev 3\nsev_es 1"),
        "memory.end": value(MEMORY_END),
        "sev.device": value({"writable": "yes", "readable": "yes"}),
        "sev.platform_status": value(dict(SEV_STATUS)),
        "sev.snp_platform_status": value(dict(SNP_STATUS)),
        "ccp.tsme_status": value("0"),
        "ccp.fused_part": value("1"),
        "limits.memlock": value({"soft": None, "hard": None}),
        "user.root": value(True),
        "modprobe.kvm_amd": value(["options kvm_amd sev=1"]),
        "ovmf.descriptors": value(
            [{"descriptor": "/usr/share/qemu/firmware/60.json", "image": "/OVMF.amdsev.fd", "features": ["amd-sev", "amd-sev-snp"]}]
        ),
        "qemu.objects": value(["sev-guest", "sev-snp-guest"]),
    }  # fmt: skip
    return {
        "sevkit_facts_version": 1,
        "taken": "2026-01-02T03:04:05Z",
        "source": {"kind": "live", "host": "works"},
        "cpuid": {
            "method": "device",
            "cpus": [{"cpu": cpu, "leaves": leaves()} for cpu in range(cpus)],
            "unreadable": [],
        },
        "readings": readings,
    }


def guest(log: list[str], *, leaf: list[int] | None = None, sev_status: int | None = None) -> dict[str, Any]:
    """The facts of a KVM guest; without ``sev_status`` the MSR cannot be read."""
    raw = ready()
    for row in raw["cpuid"]["cpus"]:
        row["leaves"] = leaves(leaf, guest=True)
    for name in [name for name in raw["readings"] if name.startswith(("msr.", "sev.", "kvm", "iommu", "ccp"))]:
        raw["readings"][name] = missing("absent", "no such file or directory")
    raw["readings"]["kernel.log"] = value(log)
    if sev_status is not None:
        raw["readings"][name_of(NAMED["sev_status"])] = value({"0": sev_status, "1": sev_status})
    return raw


def facts(raw: dict[str, Any]) -> Facts:
    return Facts(checked(raw, "test"))


def set_msr(raw: dict[str, Any], register: int, *values: int) -> None:
    raw["readings"][name_of(register)]["value"] = {str(cpu): v for cpu, v in enumerate(values)}


def set_leaf(raw: dict[str, Any], *registers: int) -> None:
    for row in raw["cpuid"]["cpus"]:
        row["leaves"][LEAF] = list(registers)
