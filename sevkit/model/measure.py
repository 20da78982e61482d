"""Launch digests: what the firmware computes over the initial pages of a guest. Pure arithmetic.

SEV and SEV-ES: SHA-256 over the bytes in the order they were given, without any address (SEV API, LAUNCH_MEASURE).
SEV-SNP: a chain of SHA-384 over PAGE_INFO structures that name contents, type and guest address of each page (SEV-SNP
firmware ABI, PAGE_INFO).
"""

import hashlib
import hmac
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

PAGE = 4096
DIGEST = 48
VMSA_GPA = 0xFFFFFFFFF000  # the address under which QEMU measures VMSA pages
_PAGE_INFO = struct.Struct("<48s48sHBBBBBBQ")
_HEAD = struct.Struct("<HBBBBBB")  # the part of PAGE_INFO between its two digests and the address
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


class PageRun(NamedTuple):
    """Pages of one kind that are measured one after another.

    ``contents`` has the SHA-384 of each page, or 48 zero bytes if the contents are not measured. ``stride`` is the
    distance between their addresses: 4096, or 0 for save areas, which are all measured at the same address.
    """

    what: str
    kind: PageType
    gpa: int
    contents: Sequence[bytes]
    stride: int = PAGE


def page_digests(data: bytes) -> list[bytes]:
    """SHA-384 of each 4 KiB of ``data``. A page equal to the one before it (padding) is not hashed again."""
    digests = []
    before, digest = b"", b""
    for offset in range(0, len(data), PAGE):
        page = data[offset : offset + PAGE]
        if page != before:
            before, digest = page, hashlib.sha384(page).digest()
        digests.append(digest)
    return digests


def vmsa_digest(page: bytes) -> bytes:
    """SHA-384 of a save area as it is measured: with the TSC fields set to zero."""
    measured = bytearray(page)
    measured[TSC_FIELDS] = bytes(16)
    return hashlib.sha384(measured).digest()


def normal_run(what: str, gpa: int, data: bytes) -> PageRun:
    """Consecutive pages with contents."""
    return PageRun(what, PageType.NORMAL, gpa, page_digests(data))


def span_run(what: str, kind: PageType, gpa: int, size: int) -> PageRun:
    """Consecutive pages of a type whose contents are not measured."""
    return PageRun(what, kind, gpa, (bytes(DIGEST),) * -(-size // PAGE))


def running(value: bytes, run: PageRun) -> Iterator[bytes]:
    """Yield the digest after each page of a run: SHA-384 over PAGE_INFO, which starts with the previous digest."""
    sha384 = hashlib.sha384
    head = _HEAD.pack(_PAGE_INFO.size, run.kind, 0, 0, 0, 0, 0)
    gpa = run.gpa
    for contents in run.contents:
        value = sha384(value + contents + head + gpa.to_bytes(8, "little")).digest()
        yield value
        gpa += run.stride


def page_info_end(kind: PageType, gpa: int) -> bytes:
    """The part of PAGE_INFO after its two digests. A search over many digests computes it once per page."""
    return _HEAD.pack(_PAGE_INFO.size, kind, 0, 0, 0, 0, 0) + gpa.to_bytes(8, "little")


def fold(start: bytes, runs: Iterable[PageRun]) -> bytes:
    """The digest after all pages of all runs."""
    value = start
    for run in runs:
        for after in running(value, run):
            value = after
    return value


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
        """Add one 4 KiB page. ``contents`` is measured for NORMAL and VMSA pages only.

        The bytes 64h to 67h are reserved, VMPL1, VMPL2, VMPL3, as the specification and coconut-svsm's igvmmeasure have
        them; sev-snp-measure and the sev crate write the reverse order, which shows only when a permission is set.
        """
        perms = perms or VmplPerms()
        digest = bytes(DIGEST)
        if page_type is PageType.NORMAL:
            digest = hashlib.sha384(contents or bytes(PAGE)).digest()
        elif page_type is PageType.VMSA:
            digest = vmsa_digest(contents or bytes(PAGE))
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
        """Add consecutive pages; a 2 MiB page is measured as 512 pages of 4 KiB."""
        for offset in range(0, len(data), PAGE):
            self.update(page_type, gpa + offset, data[offset : offset + PAGE])


def sev_measurement(tik: bytes, api: tuple[int, int, int], policy: int, digest: bytes, nonce: bytes) -> bytes:
    """LAUNCH_MEASURE's answer: HMAC-SHA256 with the guest's TIK over version, policy, digest and nonce."""
    major, minor, build = api
    message = bytes([0x04, major, minor, build]) + struct.pack("<I", policy) + digest + nonce
    return hmac.new(tik, message, hashlib.sha256).digest()
