"""What a launch measurement needs to know of an OVMF image: its footer table and the SEV metadata. Pure.

Format: edk2 OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm (footer table, read backwards from 32 bytes before the end)
and OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm.
"""

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum

from sevkit.errors import BadInputError

FOOTER = "96b582de-1fb2-45f7-baea-a366c55a082d"
HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454"
RESET_BLOCK = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
SVSM_INFO = "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"
METADATA = "dc886566-984a-4798-a75e-5585a7bf67cc"
_ENTRY = struct.Struct("<H16s")
_HEADER = struct.Struct("<4sIII")
_SECTION = struct.Struct("<III")
_END_OF_TABLE = 32  # bytes between the table and the end of the image
FOUR_GIB = 1 << 32
PAGE = 4096
MOST_METADATA = 1 << 30  # a larger number means a damaged table: real firmware requests tens of pages


class SectionType(IntEnum):
    """What the VMM must put into the range of a metadata section."""

    SEC_MEM = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CAA = 4
    KERNEL_HASHES = 0x10


@dataclass(frozen=True)
class Section:
    """A range of guest memory with a purpose."""

    gpa: int
    size: int
    kind: SectionType


@dataclass(frozen=True)
class Ovmf:
    """An OVMF image: its bytes (loaded to end at ``end``), the footer table's entries, the metadata sections."""

    data: bytes
    table: dict[str, bytes]
    sections: tuple[Section, ...]
    end: int = FOUR_GIB

    @property
    def gpa(self) -> int:
        """Where the image starts in guest memory."""
        return self.end - len(self.data)

    def pointer(self, guid: str) -> int | None:
        """The 32-bit number that a table entry starts with; None without that entry."""
        entry = self.table.get(guid)
        return None if entry is None or len(entry) < 4 else int.from_bytes(entry[:4], "little")


def parse(data: bytes, end: int = FOUR_GIB) -> Ovmf:
    """Read an image; raises BadInputError if its tables are inconsistent. An image without tables is legal."""
    if len(data) > end:
        raise BadInputError(f"an image of {len(data)} bytes does not fit below {end:#x}")
    table = _footer_table(data)
    return Ovmf(data, table, tuple(_sections(data, table)), end)


def _footer_table(data: bytes) -> dict[str, bytes]:
    end = len(data) - _END_OF_TABLE - _ENTRY.size
    if end < 0:
        raise BadInputError(f"a firmware image of {len(data)} bytes is too short")
    size, guid = _ENTRY.unpack_from(data, end)
    table: dict[str, bytes] = {}
    if guid != uuid.UUID(FOOTER).bytes_le or size < _ENTRY.size:
        return table
    # The table is read from its end, because each entry has its length and GUID after its data:
    #   [data][length, GUID] ... [data][length, GUID] [size, footer GUID] [32 bytes] end of the image
    at = end
    start = max(0, end - (size - _ENTRY.size))
    while at - start >= _ENTRY.size:
        length, guid = _ENTRY.unpack_from(data, at - _ENTRY.size)
        if length < _ENTRY.size or at - length < start:
            raise BadInputError("the firmware's footer table has an entry of impossible size")
        table[str(uuid.UUID(bytes_le=guid))] = data[at - length : at - _ENTRY.size]
        at -= length
    return table


def _sections(data: bytes, table: dict[str, bytes]) -> list[Section]:
    entry = table.get(METADATA)
    if entry is None:
        return []
    # The entry gives the distance of the metadata from the end of the image.
    start = len(data) - int.from_bytes(entry[:4], "little")
    if len(entry) < 4 or not 0 <= start <= len(data) - _HEADER.size:
        raise BadInputError("the firmware's SEV metadata lies outside of the image")
    signature, _, version, count = _HEADER.unpack_from(data, start)
    if signature != b"ASEV" or version != 1:
        raise BadInputError("the firmware's SEV metadata has an unknown signature or version")
    if start + _HEADER.size + count * _SECTION.size > len(data):
        raise BadInputError("the firmware's SEV metadata is longer than the image")
    found = []
    for number in range(count):
        gpa, size, kind = _SECTION.unpack_from(data, start + _HEADER.size + number * _SECTION.size)
        if kind not in SectionType.__members__.values():
            raise BadInputError(f"the firmware's SEV metadata has a section of unknown type {kind:#x}")
        if gpa % PAGE or size % PAGE:
            raise BadInputError(f"the firmware's SEV metadata has a section of no whole pages: {gpa:#x}, {size:#x}")
        found.append(Section(gpa, size, SectionType(kind)))
    if sum(section.size for section in found) > MOST_METADATA:
        raise BadInputError("the firmware's SEV metadata asks for more than 1 GiB")
    return found
