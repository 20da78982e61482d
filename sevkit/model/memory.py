"""System physical memory as the DRAM holds it, and the memory controller in front of it.

The DRAM is sparse: a page takes memory only once it is written. The controller holds one key per ASID; ASID 0 is the
host's own key (SME). An access without a key (C-bit clear) goes to DRAM in plaintext, unless transparent encryption
(TSME) is on, which encrypts it with a separate key.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from sevkit.model.cipher import BLOCK, PAGE, MemoryKey

LINE = 64  # bytes of a cache line


class Dram(Protocol):
    """Storage for the bytes that the controller writes."""

    size: int

    def read(self, spa: int, size: int) -> bytes:
        """The bytes at ``spa``; zeros where nothing was ever written."""
        ...

    def write(self, spa: int, data: bytes) -> None:
        """Store bytes at ``spa``."""
        ...


class SparseDram:
    """DRAM of ``size`` bytes; only written pages take memory. ``alias`` maps addresses onto others (BadRAM modules)."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pages: dict[int, bytearray] = {}
        self.alias: Callable[[int], int] | None = None

    def read(self, spa: int, size: int) -> bytes:
        """The bytes at ``spa``; zeros where nothing was ever written."""
        offset = spa % PAGE
        if self.alias is None and offset + size <= PAGE and 0 <= spa < self.size:
            held = self.pages.get(spa // PAGE)
            return bytes(size) if held is None else bytes(held[offset : offset + size])
        out = b""
        for page, offset, take in _split(self._place(spa, size), size):
            held = self.pages.get(page)
            out += bytes(take) if held is None else bytes(held[offset : offset + take])
        return out

    def write(self, spa: int, data: bytes) -> None:
        """Store bytes at ``spa``."""
        done = 0
        for page, offset, take in _split(self._place(spa, len(data)), len(data)):
            held = self.pages.get(page)
            if held is None:
                held = self.pages[page] = bytearray(PAGE)
            held[offset : offset + take] = data[done : done + take]
            done += take

    def _place(self, spa: int, size: int) -> int:
        place = spa if self.alias is None else self.alias(spa)
        if place < 0 or place + size > self.size:
            raise IndexError(f"no memory at system physical address {spa:#x}")
        return place


class BufferDram:
    """DRAM in a shared buffer: the mock's VMM process maps it as well."""

    def __init__(self, buffer: memoryview) -> None:
        self.size = len(buffer)
        self.buffer = buffer

    def read(self, spa: int, size: int) -> bytes:
        """The bytes at ``spa``."""
        self._check(spa, size)
        return bytes(self.buffer[spa : spa + size])

    def write(self, spa: int, data: bytes) -> None:
        """Store bytes at ``spa``."""
        self._check(spa, len(data))
        self.buffer[spa : spa + len(data)] = data

    def _check(self, spa: int, size: int) -> None:
        if spa < 0 or spa + size > self.size:
            raise IndexError(f"no memory at system physical address {spa:#x}")


class RegionDram:
    """DRAM made of several regions: each starts where the one before it ends."""

    def __init__(self, regions: Sequence[Dram]) -> None:
        self.size = sum(region.size for region in regions)
        self._regions: list[tuple[int, Dram]] = []
        base = 0
        for region in regions:
            self._regions.append((base, region))
            base += region.size

    def read(self, spa: int, size: int) -> bytes:
        """The bytes at ``spa``; an access does not cross from one region into the next."""
        base, region = self._find(spa)
        return region.read(spa - base, size)

    def write(self, spa: int, data: bytes) -> None:
        """Store bytes at ``spa``."""
        base, region = self._find(spa)
        region.write(spa - base, data)

    def _find(self, spa: int) -> tuple[int, Dram]:
        for base, region in self._regions:
            if base <= spa < base + region.size:
                return base, region
        raise IndexError(f"no memory at system physical address {spa:#x}")


class MemoryController:
    """Encrypts on the way to DRAM and decrypts on the way back, with the key of the access's ASID.

    ``keys`` maps ASIDs to keys; ASID 0 is the host's (SME). An access with an ASID without a key fails: the platform
    installs keys at ACTIVATE and removes them at DEACTIVATE.
    """

    def __init__(self, dram: Dram, *, tsme_key: MemoryKey | None = None) -> None:
        self.dram = dram
        self.keys: dict[int, MemoryKey] = {}
        self._tsme = tsme_key

    def read(self, spa: int, size: int, asid: int | None) -> bytes:
        """Read with the key of this ASID; ``asid`` None is an access with the C-bit clear."""
        key = self._key(asid)
        if key is None:
            return self.dram.read(spa, size)
        start, end = _blocks(spa, size)
        plain = key.decrypt(start, self.dram.read(start, end - start))
        return plain[spa - start : spa - start + size]

    def write(self, spa: int, data: bytes, asid: int | None) -> None:
        """Write with the key of this ASID; a partial block is read, changed and written back as a whole block."""
        key = self._key(asid)
        if key is None:
            self.dram.write(spa, data)
            return
        start, end = _blocks(spa, len(data))
        if (start, end) != (spa, spa + len(data)):
            plain = bytearray(key.decrypt(start, self.dram.read(start, end - start)))
            plain[spa - start : spa - start + len(data)] = data
            data = bytes(plain)
        self.dram.write(start, key.encrypt(start, data))

    def _key(self, asid: int | None) -> MemoryKey | None:
        return self._tsme if asid is None else self.keys[asid]


class WriteBackCache:
    """A write-back cache in front of a controller: data that a core wrote stays here until it is written back.

    Lines are tagged by address and ASID, as on parts without coherency across encryption domains (CPUID
    8000_001F EAX[10] clear). INVD drops dirty lines without writing them back: CVE-2023-20592.
    """

    def __init__(self, below: MemoryController) -> None:
        self.below = below
        self._lines: dict[tuple[int, int | None], bytearray] = {}
        self._dirty: set[tuple[int, int | None]] = set()

    def read(self, spa: int, size: int, asid: int | None) -> bytes:
        """Read through the cache."""
        out = b""
        for start, offset, take in _lines(spa, size):
            out += bytes(self._line(start, asid)[offset : offset + take])
        return out

    def write(self, spa: int, data: bytes, asid: int | None) -> None:
        """Write into the cache only."""
        done = 0
        for start, offset, take in _lines(spa, len(data)):
            self._line(start, asid)[offset : offset + take] = data[done : done + take]
            self._dirty.add((start, asid))
            done += take

    def wbinvd(self) -> None:
        """Write every dirty line back, then empty the cache."""
        for start, asid in sorted(self._dirty, key=lambda line: (line[0], line[1] is not None, line[1] or 0)):
            self.below.write(start, bytes(self._lines[start, asid]), asid)
        self.invd()

    def write_back(self, spa: int, size: int) -> None:
        """Write the dirty lines of a range back and keep them (CLWB)."""
        for start, asid in [line for line in self._dirty if spa - LINE < line[0] < spa + size]:
            self.below.write(start, bytes(self._lines[start, asid]), asid)
            self._dirty.discard((start, asid))

    def invd(self) -> None:
        """Empty the cache and discard dirty lines."""
        self._lines.clear()
        self._dirty.clear()

    @property
    def dirty(self) -> int:
        """The number of lines that are not yet written to the DRAM."""
        return len(self._dirty)

    def _line(self, start: int, asid: int | None) -> bytearray:
        line = self._lines.get((start, asid))
        if line is None:
            line = self._lines[start, asid] = bytearray(self.below.read(start, LINE, asid))
        return line


def _blocks(spa: int, size: int) -> tuple[int, int]:
    return spa // BLOCK * BLOCK, -(-(spa + size) // BLOCK) * BLOCK


def _split(spa: int, size: int) -> list[tuple[int, int, int]]:
    """Split an access at page boundaries: yield (page number, offset in the page, number of bytes) per page."""
    return [(start // PAGE, offset, take) for start, offset, take in _chunks(spa, size, PAGE)]


def _lines(spa: int, size: int) -> list[tuple[int, int, int]]:
    return _chunks(spa, size, LINE)


def _chunks(spa: int, size: int, unit: int) -> list[tuple[int, int, int]]:
    out = []
    while size:
        offset = spa % unit
        take = min(unit - offset, size)
        out.append((spa - offset, offset, take))
        spa += take
        size -= take
    return out
