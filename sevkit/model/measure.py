"""Launch digests: what the firmware computes over the pages that a guest starts from. Pure arithmetic.

SEV and SEV-ES: SHA-256 over the bytes in the order they were given, without any address (SEV API, LAUNCH_MEASURE).
SEV-SNP: a chain of SHA-384 over PAGE_INFO structures that name contents, type and guest address of each page (SEV-SNP
firmware ABI, PAGE_INFO).
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum

PAGE = 4096
DIGEST = 48
VMSA_GPA = 0xFFFFFFFFF000  # the address under which QEMU measures VMSA pages
_PAGE_INFO = struct.Struct("<48s48sHBBBBBBQ")
TSC_FIELDS = slice(0x2F0, 0x300)  # TSC_SCALE and TSC_OFFSET: measured as zero


class PageType(IntEnum):
    """Types of launch pages (SEV-SNP firmware ABI, LAUNCH_UPDATE)."""

    NORMAL = 1
    VMSA = 2
    ZERO = 3
    UNMEASURED = 4
    SECRETS = 5
    CPUID = 6


@dataclass(frozen=True)
class VmplPerms:
    """What the VMPLs below 0 may do with a launch page, as permission bytes."""

    vmpl1: int = 0
    vmpl2: int = 0
    vmpl3: int = 0


class SnpDigest:
    """The launch digest of an SNP guest as it grows; starts as 48 zero bytes."""

    def __init__(self, start: bytes = bytes(DIGEST)) -> None:
        self.value = start

    def update(
        self,
        page_type: PageType,
        gpa: int,
        contents: bytes | None = None,
        *,
        perms: VmplPerms | None = None,
        imi: bool = False,
    ) -> None:
        """Add one 4 KiB page. ``contents`` counts for NORMAL and VMSA pages only.

        The bytes 64h to 67h are reserved, VMPL1, VMPL2, VMPL3, as the specification and coconut-svsm's igvmmeasure have
        them; sev-snp-measure and the sev crate write the reverse order, which shows only when a permission is set.
        """
        perms = perms or VmplPerms()
        digest = bytes(DIGEST)
        if page_type is PageType.NORMAL:
            digest = hashlib.sha384(contents or bytes(PAGE)).digest()
        elif page_type is PageType.VMSA:
            page = bytearray(contents or bytes(PAGE))
            page[TSC_FIELDS] = bytes(16)
            digest = hashlib.sha384(page).digest()
        info = _PAGE_INFO.pack(
            self.value,
            digest,
            _PAGE_INFO.size,
            page_type,
            int(imi),
            0,
            perms.vmpl1,
            perms.vmpl2,
            perms.vmpl3,
            gpa,
        )
        self.value = hashlib.sha384(info).digest()

    def update_pages(self, page_type: PageType, gpa: int, data: bytes) -> None:
        """Add consecutive pages: a 2 MiB page counts as its 512 small ones."""
        for offset in range(0, len(data), PAGE):
            self.update(page_type, gpa + offset, data[offset : offset + PAGE])

    def update_span(self, page_type: PageType, gpa: int, size: int) -> None:
        """Add pages of a type whose contents do not count."""
        for offset in range(0, size, PAGE):
            self.update(page_type, gpa + offset)


def sev_measurement(tik: bytes, api: tuple[int, int, int], policy: int, digest: bytes, nonce: bytes) -> bytes:
    """LAUNCH_MEASURE's answer: HMAC-SHA256 with the guest's TIK over version, policy, digest and nonce."""
    major, minor, build = api
    message = bytes([0x04, major, minor, build]) + struct.pack("<I", policy) + digest + nonce
    return hmac.new(tik, message, hashlib.sha256).digest()
