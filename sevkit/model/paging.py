"""The guest's own page tables: four levels as on x86-64, the C-bit in the entries; always private (APM 15.34.5)."""

from collections.abc import Callable

from sevkit.model.cipher import PAGE

PRESENT, WRITABLE, LARGE_BIT = 1, 2, 1 << 7
C_BIT = 1 << 51
ADDRESS = ((1 << 51) - 1) & ~0xFFF
_SHIFTS = (39, 30, 21, 12)

ReadWord = Callable[[int], int]


class PageFaultError(Exception):
    """The guest's tables do not map an address."""


def walk(cr3: int, va: int, read: ReadWord) -> tuple[int, bool]:
    """Guest-physical address and C-bit of a virtual address; ``read`` reads 8 bytes of a table with the C-bit set."""
    table = cr3 & ADDRESS
    # Each level takes 9 bits of the address as its index: bits 47:39, 38:30, 29:21, 20:12. An entry with the
    # large bit ends the walk early: it maps 1 GiB or 2 MiB, and the remaining low bits are the offset in it.
    for shift in _SHIFTS:
        entry = read(table + (va >> shift & 511) * 8)
        if not entry & PRESENT:
            raise PageFaultError(f"{va:#x} is not mapped")
        if shift == _SHIFTS[-1] or entry & LARGE_BIT:
            mask = (1 << shift) - 1
            return (entry & ADDRESS & ~mask) | va & mask, bool(entry & C_BIT)
        table = entry & ADDRESS
    raise AssertionError("the last level returns")


def tables(base: int, pages: dict[int, tuple[int, bool]]) -> dict[int, bytes]:
    """Page tables at ``base`` that map virtual pages to (guest address, C-bit), as bytes by their guest address."""
    made: dict[tuple[int, ...], tuple[int, bytearray]] = {(): (base, bytearray(PAGE))}
    for va, (gpa, private) in pages.items():
        path: tuple[int, ...] = ()
        for shift in _SHIFTS[:-1]:
            index = va >> shift & 511
            if (*path, index) not in made:
                made[*path, index] = (base + len(made) * PAGE, bytearray(PAGE))
                _put(made[path][1], index, made[*path, index][0] | PRESENT | WRITABLE | C_BIT)
            path = (*path, index)
        _put(made[path][1], va >> 12 & 511, gpa | PRESENT | WRITABLE | (C_BIT if private else 0))
    return {address: bytes(table) for address, table in made.values()}


def _put(table: bytearray, index: int, entry: int) -> None:
    table[index * 8 : index * 8 + 8] = entry.to_bytes(8, "little")
