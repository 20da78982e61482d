"""The layout of attestation reports, version 2 to 5, as tables. Pure.

Source: SEV-SNP firmware ABI (56860, revisions 1.51 to 1.58), ATTESTATION_REPORT, GUEST_POLICY, PLATFORM_INFO and
KEY_INFO tables. PLATFORM_INFO bit 6 is set by firmware that answers AMD-SB-3016 (CVE-2023-20585).
"""

from enum import StrEnum
from typing import NamedTuple

SIZE = 0x4A0
SIGNED = 0x2A0
SCALAR = 72  # bytes of R and of S, little-endian; P-384 fills 48 of them
VERSIONS = (2, 3, 4, 5)
ECDSA_P384_SHA384 = 1


class Kind(StrEnum):
    """How a field is read."""

    NUMBER = "number"
    BYTES = "bytes"
    TCB = "tcb"
    VERSION = "version"  # build, minor, major: three bytes


class Field(NamedTuple):
    """A field: its offset, its size in bytes, its kind, and the report version that introduced it."""

    offset: int
    size: int
    kind: Kind = Kind.BYTES
    since: int = 2


FIELDS: dict[str, Field] = {
    "version": Field(0x000, 4, Kind.NUMBER),
    "guest_svn": Field(0x004, 4, Kind.NUMBER),
    "policy": Field(0x008, 8, Kind.NUMBER),
    "family_id": Field(0x010, 16),
    "image_id": Field(0x020, 16),
    "vmpl": Field(0x030, 4, Kind.NUMBER),
    "signature_algo": Field(0x034, 4, Kind.NUMBER),
    "current_tcb": Field(0x038, 8, Kind.TCB),
    "platform_info": Field(0x040, 8, Kind.NUMBER),
    "key_info": Field(0x048, 4, Kind.NUMBER),
    "report_data": Field(0x050, 64),
    "measurement": Field(0x090, 48),
    "host_data": Field(0x0C0, 32),
    "id_key_digest": Field(0x0E0, 48),
    "author_key_digest": Field(0x110, 48),
    "report_id": Field(0x140, 32),
    "report_id_ma": Field(0x160, 32),
    "reported_tcb": Field(0x180, 8, Kind.TCB),
    "cpuid_family": Field(0x188, 1, Kind.NUMBER, 3),
    "cpuid_model": Field(0x189, 1, Kind.NUMBER, 3),
    "cpuid_stepping": Field(0x18A, 1, Kind.NUMBER, 3),
    "chip_id": Field(0x1A0, 64),
    "committed_tcb": Field(0x1E0, 8, Kind.TCB),
    "current_version": Field(0x1E8, 3, Kind.VERSION),
    "committed_version": Field(0x1EC, 3, Kind.VERSION),
    "launch_tcb": Field(0x1F0, 8, Kind.TCB),
    "launch_mit_vector": Field(0x1F8, 8, Kind.NUMBER, 5),
    "current_mit_vector": Field(0x200, 8, Kind.NUMBER, 5),
}

POLICY_BITS = {
    "smt": 16,
    "must_be_one": 17,
    "migrate_ma": 18,
    "debug": 19,
    "single_socket": 20,
    "cxl_allow": 21,
    "mem_aes_256_xts": 22,
    "rapl_dis": 23,
    "ciphertext_hiding": 24,
    "page_swap_disable": 25,
}
POLICY_MUST_BE_ONE = 1 << POLICY_BITS["must_be_one"]
POLICY_KNOWN = (1 << 26) - 1

PLATFORM_BITS = {
    "smt": 0,
    "tsme": 1,
    "ecc": 2,
    "rapl_dis": 3,
    "ciphertext_hiding": 4,
    "alias_check_complete": 5,
    "iommu_write_safe": 6,
    "tio": 7,
}
PLATFORM_KNOWN = (1 << 8) - 1

HOST_REQUEST = 0xFFFFFFFF  # VMPL of a report that the host requested (SNP_HV_REPORT_REQ)

AUTHOR_KEY_EN = 1 << 0
MASK_CHIP_KEY = 1 << 1
KEY_INFO_KNOWN = (1 << 5) - 1


class SigningKey(StrEnum):
    """The key that signed a report (KEY_INFO, SIGNING_KEY)."""

    VCEK = "vcek"
    VLEK = "vlek"
    NONE = "none"
    RESERVED = "reserved"


_SIGNING_KEYS = {0: SigningKey.VCEK, 1: SigningKey.VLEK, 7: SigningKey.NONE}


def signing_key(key_info: int) -> SigningKey:
    """The signing key of a KEY_INFO value."""
    return _SIGNING_KEYS.get(key_info >> 2 & 7, SigningKey.RESERVED)


def bits(value: int, names: dict[str, int]) -> dict[str, bool]:
    """The named bits of a value."""
    return {name: bool(value >> bit & 1) for name, bit in names.items()}


def reserved_ranges(version: int) -> list[tuple[int, int]]:
    """The bytes that no field of a version uses, as (start, end): they must be zero."""
    taken = sorted((f.offset, f.offset + f.size) for f in FIELDS.values() if f.since <= max(version, 2))
    gaps, at = [], 0
    for start, end in [*taken, (SIGNED, SIGNED)]:
        if start > at:
            gaps.append((at, start))
        at = max(at, end)
    return [*gaps, (SIGNED + 2 * SCALAR, SIZE)]
