"""IGVM files: the headers, and the launch digest of the guest that they describe. Pure.

Format: microsoft/igvm, igvm_defs/src/lib.rs. Rules of the measurement: coconut-svsm, tools/igvmmeasure, which measures
in the file's order; KVM's restrictions on save areas are reported as warnings. A test has a digest by igvmfilegen.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from sevkit.errors import BadInputError, UsageError
from sevkit.model.measure import DIGEST, PAGE, VMSA_GPA, PageRun, PageType, fold, normal_run, span_run, vmsa_digest
from sevkit.vocabulary import Mode

MAGIC = b"IGVM"
MOST_BYTES = 1 << 30
_FIXED = struct.Struct("<4sIIIII")
_FIXED_SIZES = {1: 24, 2: 32}
_HEADER = struct.Struct("<II")
_OPTIONAL = 1 << 31
_PLATFORM, _POLICY, _AREA, _PAGE, _INSERT, _CONTEXT, _ID_BLOCK = 0x1, 0x101, 0x301, 0x302, 0x303, 0x304, 0x30B
_LAYOUTS = {
    _PLATFORM: struct.Struct("<IBBHQ"),
    _POLICY: struct.Struct("<QII"),
    _AREA: struct.Struct("<QII"),
    _PAGE: struct.Struct("<QIIIHH"),
    _INSERT: struct.Struct("<QII"),
    _CONTEXT: struct.Struct("<QIIHH"),
    _ID_BLOCK: struct.Struct("<II"),  # the launch digest follows
}
_LARGE, _UNMEASURED, _SHARED = 1, 2, 4
_PLATFORMS = {Mode.SEV_SNP: 2, Mode.SEV: 4, Mode.SEV_ES: 5}
_CR0 = slice(0x158, 0x160)


class DataType(IntEnum):
    """The content type of a page."""

    NORMAL = 0
    SECRETS = 1
    CPUID_DATA = 2
    CPUID_XF = 3


_KINDS = {DataType.SECRETS: PageType.SECRETS, DataType.CPUID_DATA: PageType.CPUID, DataType.CPUID_XF: PageType.CPUID}


@dataclass(frozen=True)
class Igvm:
    """An IGVM file: its variable headers in order, each with its kind, its numbers, and the data that it points to."""

    headers: tuple[tuple[int, tuple[int, ...], bytes], ...]

    def mask(self, mode: Mode) -> int:
        """The compatibility mask of a platform; raises BadInputError when the file does not support it."""
        wanted = _PLATFORMS.get(mode)
        for kind, values, _ in self.headers:
            if kind == _PLATFORM and values[2] == wanted:
                return values[0]
        raise BadInputError(f"the IGVM file is not made for {mode}")

    def policy(self, mode: Mode) -> int | None:
        """The guest policy for a platform."""
        mask = self.mask(mode)
        return next((v[0] for kind, v, _ in self.headers if kind == _POLICY and v[1] & mask), None)


def parse(data: bytes) -> Igvm:
    """Read a file; raises BadInputError if it is damaged, its checksum is wrong, or its data are outside."""
    if len(data) < _FIXED.size or data[:4] != MAGIC:
        raise BadInputError("this is no IGVM file")
    _, version, start, size, total, checksum = _FIXED.unpack_from(data)
    if version not in _FIXED_SIZES:
        raise BadInputError(f"IGVM format {version} is not known", hint="known: 1 and 2")
    fixed = _FIXED_SIZES[version]
    if not fixed <= start <= start + size <= len(data) or total != len(data) or len(data) > MOST_BYTES:
        raise BadInputError("the IGVM file is cut off, or its headers lie outside of it")
    found = zlib.crc32(data[:20] + bytes(4) + data[24:fixed] + data[start : start + size])
    if found != checksum:
        raise BadInputError(f"the IGVM file is damaged: checksum {found:#x}, not {checksum:#x}")
    return Igvm(tuple(_headers(data, start, start + size)))


def _headers(data: bytes, at: int, end: int) -> Iterator[tuple[int, tuple[int, ...], bytes]]:
    while at < end:
        if at + _HEADER.size > end:
            raise BadInputError("the IGVM file's headers are cut off")
        kind, length = _HEADER.unpack_from(data, at)
        body = at + _HEADER.size
        if body + length > end:
            raise BadInputError(f"IGVM header {kind:#x} is longer than all headers")
        layout = _LAYOUTS.get(kind & ~_OPTIONAL)
        if layout is not None:
            if length < layout.size:
                raise BadInputError(f"IGVM header {kind:#x} has {length} bytes, not {layout.size}")
            values = layout.unpack_from(data, body)
            yield kind & ~_OPTIONAL, values, _data_of(data, kind & ~_OPTIONAL, values, body)
        at = body + -(-length // 8) * 8


def _data_of(data: bytes, kind: int, values: tuple[int, ...], body: int) -> bytes:
    if kind == _ID_BLOCK:
        return data[body + _LAYOUTS[_ID_BLOCK].size :][:DIGEST]
    if kind not in {_PAGE, _CONTEXT} or not values[2]:
        return b""
    size = PAGE
    if kind == _PAGE and values[3] & _LARGE:
        size = 512 * PAGE
    if values[2] + size > len(data):
        raise BadInputError(f"the data of IGVM header {kind:#x} lie outside of the file")
    return data[values[2] : values[2] + size]


@dataclass(frozen=True)
class Measured:
    """The launch digest of an IGVM file, deviations from KVM's rules, and the digest that its ID block expects."""

    digest: bytes
    warnings: tuple[str, ...]
    id_block_digest: bytes | None
    policy: int | None


def measure(file: Igvm, mode: Mode = Mode.SEV_SNP, *, native_zero: bool = False) -> Measured:
    """The launch digest. ``native_zero``: pages without data are measured as zero pages, not as pages of zeros."""
    if mode is Mode.NOSEV:
        raise UsageError("a guest without SEV has no launch digest")
    mask = file.mask(mode)
    if mode is Mode.SEV_SNP:
        digest = fold(bytes(DIGEST), snp_runs(file, native_zero=native_zero))
    else:
        digest = _legacy(file, mask)
    expected = next((own for kind, v, own in file.headers if kind == _ID_BLOCK and v[0] & mask), None)
    return Measured(digest, tuple(_objections(file, mask)), expected, file.policy(mode))


def snp_runs(file: Igvm, *, native_zero: bool = False) -> Iterator[PageRun]:
    """The measured pages of an SNP guest in the file's order; shared pages are not measured."""
    mask = file.mask(Mode.SEV_SNP)
    areas = {v[1]: v[0] for kind, v, _ in file.headers if kind == _AREA}
    inserted = 0
    for kind, values, data in file.headers:
        if kind == _PAGE and values[1] & mask:
            yield from _page_runs(values, data, native_zero=native_zero)
        elif kind == _INSERT and values[1] & mask:
            if values[2] not in areas:
                raise BadInputError(f"the IGVM file inserts parameter area {values[2]}, which it does not define")
            size = areas[values[2]]
            inserted += size
            if not 0 < size <= MOST_BYTES or inserted > MOST_BYTES:
                raise BadInputError(f"parameter areas of {inserted} bytes make no sense")
            yield span_run("parameter", PageType.UNMEASURED, _addresses(values[0], size), size)
        elif kind == _CONTEXT and values[1] & mask:
            yield PageRun("vmsa", PageType.VMSA, values[0], (vmsa_digest(data or bytes(PAGE)),))


def _addresses(gpa: int, size: int) -> int:
    if gpa + size > 1 << 64:
        raise BadInputError(f"pages of the IGVM file lie beyond 64 bits of address: {gpa:#x}")
    return gpa


def _page_runs(values: tuple[int, ...], data: bytes, *, native_zero: bool) -> Iterator[PageRun]:
    gpa, _, _, flags, data_type, _ = values
    size = 512 * PAGE if flags & _LARGE else PAGE
    if flags & _SHARED:
        return
    _addresses(gpa, size)
    if data_type not in DataType.__members__.values():
        raise BadInputError(f"the page at {gpa:#x} of the IGVM file has data type {data_type}, which is not known")
    if data_type != DataType.NORMAL:
        yield span_run(DataType(data_type).name, _KINDS[DataType(data_type)], gpa, size)
    elif flags & _UNMEASURED:
        yield span_run("page", PageType.UNMEASURED, gpa, size)
    elif not data and native_zero:
        yield span_run("page", PageType.ZERO, gpa, size)
    else:
        yield normal_run("page", gpa, data or bytes(size))


def _legacy(file: Igvm, mask: int) -> bytes:
    digest = hashlib.sha256()
    for kind, values, data in file.headers:
        if kind in {_PAGE, _CONTEXT} and values[1] & mask:
            digest.update(data)
    return digest.digest()


def _objections(file: Igvm, mask: int) -> Iterator[str]:
    """Deviations from KVM, which measures one save area, after all pages, at a fixed address, with KVM's CR0."""
    mine = [(kind, v, data) for kind, v, data in file.headers if kind in {_PAGE, _INSERT, _CONTEXT} and v[1] & mask]
    contexts = [number for number, (kind, _, _) in enumerate(mine) if kind == _CONTEXT]
    if len(contexts) > 1:
        yield "there are several save areas: KVM takes only that of the first vCPU"
    for number in contexts:
        _, values, data = mine[number]
        if values[0] != VMSA_GPA:
            yield f"the save area is at {values[0]:#x}: KVM measures it at {VMSA_GPA:#x}"
        cr0 = int.from_bytes(data[_CR0], "little")
        if cr0 not in {0x30, 0x31}:
            yield f"CR0 of the save area is {cr0:#x}: KVM makes it 0x30 or 0x31"
        if any(kind != _CONTEXT for kind, _, _ in mine[number:]):
            yield "pages follow the save area: KVM measures it last"
