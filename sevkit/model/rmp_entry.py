"""One entry of the Reverse Map Table: its fields, their encoding in 16 bytes, and the page state.

Bit layout of Milan and Genoa (not architectural; later parts provide RMPREAD instead). Page states: SEV-SNP firmware
ABI (56860), Page States table.
"""

import struct
from dataclasses import dataclass, field
from enum import StrEnum

ENTRY = struct.Struct("<QQ")
LARGE_PAGES = 512  # 4 KiB pages in a 2 MiB page
GPA_MASK = (1 << 39) - 1
MAX_ASID = (1 << 10) - 1  # the largest that an entry can hold

READ, WRITE, EXECUTE_USER, EXECUTE_SUPERVISOR = 1, 2, 4, 8
FULL = READ | WRITE | EXECUTE_USER | EXECUTE_SUPERVISOR


class PageState(StrEnum):
    """The states a page of system memory can be in."""

    DEFAULT = "Default"  # not covered by the table
    HYPERVISOR = "Hypervisor"
    HV_FIXED = "HV-fixed"
    RECLAIM = "Reclaim"
    FIRMWARE = "Firmware"
    CONTEXT = "Context"
    METADATA = "Metadata"
    PRE_GUEST = "Pre-Guest"
    GUEST_INVALID = "Guest-Invalid"
    PRE_SWAP = "Pre-Swap"
    GUEST_VALID = "Guest-Valid"


@dataclass(slots=True)
class RmpEntry:
    """An RMP entry. ``gpa`` is a byte address; ``perms`` holds the permission byte of each VMPL."""

    assigned: bool = False
    large: bool = False
    immutable: bool = False
    subpages: int = 0
    gpa: int = 0
    asid: int = 0
    vmsa: bool = False
    validated: bool = False
    lock: bool = False
    perms: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    def pack(self) -> bytes:
        """The 16 bytes in the table."""
        low = self.assigned | self.large << 1 | self.immutable << 2 | (self.subpages & 0x1FF) << 3
        low |= (self.gpa >> 12 & GPA_MASK) << 12 | (self.asid & MAX_ASID) << 51
        low |= self.vmsa << 61 | self.validated << 62 | self.lock << 63
        return ENTRY.pack(low, int.from_bytes(bytes(self.perms), "little"))

    @classmethod
    def unpack(cls, data: bytes) -> "RmpEntry":
        """Decode an entry from its 16 bytes."""
        low, high = ENTRY.unpack(data)
        return cls(
            assigned=bool(low & 1),
            large=bool(low >> 1 & 1),
            immutable=bool(low >> 2 & 1),
            subpages=low >> 3 & 0x1FF,
            gpa=(low >> 12 & GPA_MASK) << 12,
            asid=low >> 51 & MAX_ASID,
            vmsa=bool(low >> 61 & 1),
            validated=bool(low >> 62 & 1),
            lock=bool(low >> 63),
            perms=[high >> 8 * vmpl & 0xFF for vmpl in range(4)],
        )

    @property
    def state(self) -> PageState | None:
        """The page state of these fields; None for a combination that the specification's table does not have."""
        key = (self.assigned, self.validated, self.asid > 0, self.immutable)
        found = STATES.get(key)
        if found is not PageState.FIRMWARE:
            return found
        if self.gpa:
            return None if self.vmsa else PageState.METADATA
        return PageState.CONTEXT if self.vmsa else PageState.FIRMWARE


# (assigned, validated, asid > 0, immutable) -> state; Firmware stands for three states, which GPA and VMSA distinguish.
STATES: dict[tuple[bool, bool, bool, bool], PageState] = {
    (False, False, False, False): PageState.HYPERVISOR,
    (False, False, False, True): PageState.HV_FIXED,
    (True, False, False, False): PageState.RECLAIM,
    (True, False, False, True): PageState.FIRMWARE,
    (True, False, True, True): PageState.PRE_GUEST,
    (True, False, True, False): PageState.GUEST_INVALID,
    (True, True, True, True): PageState.PRE_SWAP,
    (True, True, True, False): PageState.GUEST_VALID,
}

# Who may move a page from one state to another, and with which instruction or command. Others are defects of the model.
TRANSITIONS: dict[tuple[PageState, PageState], tuple[str, ...]] = {
    **{
        (old, new): ("RMPUPDATE",)
        for old in (PageState.HYPERVISOR, PageState.RECLAIM, PageState.GUEST_INVALID, PageState.GUEST_VALID)
        for new in (PageState.HYPERVISOR, PageState.GUEST_INVALID, PageState.PRE_GUEST, PageState.FIRMWARE)
    },
    (PageState.GUEST_INVALID, PageState.GUEST_VALID): ("PVALIDATE",),
    (PageState.GUEST_VALID, PageState.GUEST_INVALID): ("PVALIDATE", "RMPUPDATE", "SNP_PAGE_MOVE"),
    (PageState.GUEST_VALID, PageState.PRE_SWAP): ("RMPUPDATE",),
    (PageState.FIRMWARE, PageState.CONTEXT): ("SNP_GCTX_CREATE",),
    (PageState.CONTEXT, PageState.FIRMWARE): ("SNP_DECOMMISSION",),
    (PageState.PRE_GUEST, PageState.GUEST_VALID): ("SNP_LAUNCH_UPDATE", "SNP_PAGE_MOVE"),
    (PageState.PRE_GUEST, PageState.GUEST_INVALID): ("SNP_PAGE_RECLAIM", "SNP_PAGE_MOVE"),
    (PageState.FIRMWARE, PageState.RECLAIM): ("SNP_PAGE_RECLAIM",),
    (PageState.METADATA, PageState.RECLAIM): ("SNP_PAGE_RECLAIM",),
    (PageState.PRE_SWAP, PageState.GUEST_VALID): ("SNP_PAGE_RECLAIM",),
    (PageState.PRE_SWAP, PageState.GUEST_INVALID): ("SNP_PAGE_MOVE",),
    (PageState.FIRMWARE, PageState.METADATA): ("SNP_PAGE_MD_INIT",),
    (PageState.FIRMWARE, PageState.HV_FIXED): ("SNP_PAGE_SET_STATE",),
    (PageState.HYPERVISOR, PageState.HV_FIXED): ("SNP_INIT",),
}
