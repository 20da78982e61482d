"""Query the secure processor and KVM through their devices: /dev/sev, /dev/kvm, the ccp driver's sysfs files."""

from __future__ import annotations

import array
import fcntl
import os
import struct
from typing import Any

from sevkit.probe.collect.reading import FAILED, Readings, read_text, why

# Linux include/uapi/linux/psp-sev.h: SEV_ISSUE_CMD = _IOWR('S', 0, struct sev_issue_cmd), 16 bytes, packed.
SEV_ISSUE_CMD = 0xC0105300
_ISSUE = struct.Struct("<IQI")  # cmd, address of the data, error
SEV_PLATFORM_STATUS, SNP_PLATFORM_STATUS = 1, 9

# Linux include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h.
KVM_GET_API_VERSION, KVM_CHECK_EXTENSION, KVM_GET_DEVICE_ATTR = 0xAE00, 0xAE03, 0x4018AEE2
KVM_CAP_VM_TYPES = 235
_VMSA_FEATURES = (1, 0)  # KVM_X86_GRP_SEV, KVM_X86_SEV_VMSA_FEATURES

_SEV_STATUS = struct.Struct("<BBBIBI")
_SNP_STATUS = struct.Struct("<BBBBIIIQQ")


def decode_sev_status(raw: bytes) -> dict[str, Any]:
    """Decode struct sev_user_data_status (psp-sev.h), PLATFORM_STATUS of the SEV API 55766, 5.8."""
    major, minor, state, flags, build, guests = _SEV_STATUS.unpack_from(raw)
    return {
        "api_major": major,
        "api_minor": minor,
        "state": {0: "uninit", 1: "init", 2: "working"}.get(state, f"unknown ({state})"),
        "owner": "external" if flags & 1 else "self",
        "es": bool(flags >> 8 & 1),
        "flags": flags,
        "build": build,
        "guest_count": guests,
    }


def decode_snp_status(raw: bytes) -> dict[str, Any]:
    """Decode struct sev_user_data_snp_status (psp-sev.h), SNP_PLATFORM_STATUS of the SEV-SNP ABI 56860, 8.3."""
    major, minor, state, rmp, build, flags, guests, current, reported = _SNP_STATUS.unpack_from(raw)
    return {
        "api_major": major,
        "api_minor": minor,
        "state": {0: "uninit", 1: "init"}.get(state, f"unknown ({state})"),
        "rmp_initialized": bool(rmp & 1),
        "alias_check_complete": bool(rmp >> 1 & 1),
        "build": build,
        "mask_chip_id": bool(flags & 1),
        "mask_chip_key": bool(flags >> 1 & 1),
        "vlek_loaded": bool(flags >> 2 & 1),
        "feature_info": bool(flags >> 3 & 1),
        "rapl_disabled": bool(flags >> 4 & 1),
        "ciphertext_hiding_capable": bool(flags >> 5 & 1),
        "ciphertext_hiding_enabled": bool(flags >> 6 & 1),
        "flags": flags,
        "guest_count": guests,
        "current_tcb": current,
        "reported_tcb": reported,
    }


def read(readings: Readings) -> None:
    """Record the answers of all these devices."""
    _dev_sev(readings)
    _dev_kvm(readings)
    _ccp(readings)
    for name, path in (("guest.dev_sev_guest", "/dev/sev-guest"), ("guest.tsm", "/sys/kernel/config/tsm/report")):
        readings.value(name, path, os.path.exists(path))


def _dev_sev(readings: Readings) -> None:
    path = "/dev/sev"
    access = {}
    handle = -1
    for way, flags in (("writable", os.O_RDWR), ("readable", os.O_RDONLY)):
        try:
            opened = os.open(path, flags | os.O_CLOEXEC)
        except OSError as error:
            access[way] = why(error)[1]
            failure = error
        else:
            access[way] = "yes"
            if handle >= 0:
                os.close(handle)
            handle = opened
    if handle < 0:
        for name in ("sev.device", "sev.platform_status", "sev.snp_platform_status"):
            readings.failed(name, path, failure)
        return
    readings.value("sev.device", path, access)
    _status(readings, handle, "sev.platform_status", SEV_PLATFORM_STATUS, _SEV_STATUS.size)
    _status(readings, handle, "sev.snp_platform_status", SNP_PLATFORM_STATUS, _SNP_STATUS.size)
    os.close(handle)


def _status(readings: Readings, handle: int, name: str, command: int, size: int) -> None:
    """Run one status command. The buffer is an array: its address is stable while this function holds it."""
    origin = f"/dev/sev, command {command}"
    buffer = array.array("B", bytes(size + 64))  # later kernels may write more than today's structure
    issue = bytearray(_ISSUE.pack(command, buffer.buffer_info()[0], 0))
    try:
        fcntl.ioctl(handle, SEV_ISSUE_CMD, issue, True)
    except OSError as error:
        firmware = _ISSUE.unpack(issue)[2]
        kind, words = why(error)
        readings.missing(name, origin, kind, f"{words} (firmware error {firmware:#x})" if firmware else words)
        return
    decode = decode_sev_status if command == SEV_PLATFORM_STATUS else decode_snp_status
    readings.value(name, origin, decode(buffer.tobytes()))


def _dev_kvm(readings: Readings) -> None:
    path = "/dev/kvm"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        readings.failed("kvm.api_version", path, error)
        readings.failed("kvm.vm_types", path, error)
        readings.failed("kvm.vmsa_features", path, error)
        return
    for name, request, argument in (
        ("kvm.api_version", KVM_GET_API_VERSION, 0),
        ("kvm.vm_types", KVM_CHECK_EXTENSION, KVM_CAP_VM_TYPES),
    ):
        try:
            readings.value(name, path, fcntl.ioctl(handle, request, argument))
        except OSError as error:
            readings.failed(name, path, error)
    _vmsa_features(readings, handle)
    os.close(handle)


def _vmsa_features(readings: Readings, handle: int) -> None:
    value = array.array("Q", [0])
    group, attribute = _VMSA_FEATURES
    request = struct.pack("<IIQQ", 0, group, attribute, value.buffer_info()[0])
    try:
        fcntl.ioctl(handle, KVM_GET_DEVICE_ATTR, request)
    except OSError as error:
        readings.missing("kvm.vmsa_features", "/dev/kvm", FAILED, why(error)[1])
    else:
        readings.value("kvm.vmsa_features", "/dev/kvm", value[0])


def _ccp(readings: Readings) -> None:
    """TSME and the fused state of the part, as the ccp driver reports them (Linux 6.0 and later)."""
    root = "/sys/bus/pci/drivers/ccp"
    try:
        devices = [name for name in sorted(os.listdir(root)) if ":" in name]
    except OSError as error:
        for name in ("tsme_status", "fused_part"):
            readings.failed(f"ccp.{name}", f"{root}/*/{name}", error)
        return
    for name in ("tsme_status", "fused_part"):
        paths = [f"{root}/{device}/{name}" for device in devices]
        found = next((path for path in paths if os.path.exists(path)), f"{root}/*/{name}")
        try:
            readings.value(f"ccp.{name}", found, read_text(found))
        except OSError as error:
            readings.failed(f"ccp.{name}", found, error)
