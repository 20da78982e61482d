"""Firmware images with the tables that OVMF has, made here so that the tests need no firmware package."""

import struct
import uuid

from sevkit.model import ovmf
from sevkit.model.measure import PAGE

# Base, size, type: SEC_MEM, secrets, CPUID, an SVSM's calling area, hashes of the kernel.
SECTIONS = [
    (0x800000, 0x9000, 1),
    (0x80D000, 0x1000, 2),
    (0x80E000, 0x1000, 3),
    (0x811000, 0x1000, 4),
    (0x810000, 0x1000, 0x10),
]


def firmware_image(
    body: bytes,
    sections: list[tuple[int, int, int]],
    *,
    reset: int = 0x80B004,
    hashes: int = 0x810C00,
    size: int = 16 * PAGE,
) -> bytes:
    """An image that starts with ``body``; ``reset`` is where further vCPUs start, ``hashes`` where kernel hashes go."""

    def entry(guid: str, data: bytes) -> bytes:
        return data + struct.pack("<H16s", len(data) + 18, uuid.UUID(guid).bytes_le)

    meta = struct.pack("<4sIII", b"ASEV", 16 + 12 * len(sections), 1, len(sections))
    meta += b"".join(struct.pack("<III", *section) for section in sections)
    image = bytearray(size)
    image[: len(body)] = body
    at = size - 2048
    image[at : at + len(meta)] = meta
    table = entry(ovmf.METADATA, struct.pack("<I", size - at)) + entry(ovmf.RESET_BLOCK, struct.pack("<I", reset))
    table += entry(ovmf.HASH_TABLE, struct.pack("<II", hashes, 0x400))
    table += struct.pack("<H16s", len(table) + 18, uuid.UUID(ovmf.FOOTER).bytes_le)
    image[size - 32 - len(table) : size - 32] = table
    return bytes(image)
