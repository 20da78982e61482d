"""AES-128 memory encryption with a tweak from the system physical address: XEX, and the older XE.

Blocks are 16 bytes; the same key, address and plaintext always give the same ciphertext. SEV-SNP firmware ABI (56860,
1.57) section 4.3 names the mode "AES 128 XEX". How the tweak is made from the address is not architectural:

- ``Scheme.XEX`` is Rogaway's: C = E(K1, P ^ T) ^ T, T = E(K2, unit) * a^j in GF(2^128), where a unit is 2 MiB of
  physical memory and j the number of the block in it. That is IEEE 1619 with 2 MiB data units, so that OpenSSL's XTS
  does whole pages at full speed.
- ``Scheme.XE`` is what first-generation EPYC was found to do (Du et al. 2017; SEVurity, IEEE S&P 2020):
  C = E(K, P ^ T(a)), where T(a) is the exclusive-or of one constant per set address bit, each constant a repeated
  32-bit word. The structure is the published one; the constants are the model's own.
"""

import hashlib
from collections.abc import Callable
from enum import StrEnum

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

BLOCK = 16
PAGE = 4096
UNIT = 2 * 1024 * 1024  # bytes of physical memory under one XEX tweak
_FIELD = (1 << 128) | 0x87  # x^128 + x^7 + x^2 + x + 1
_TABLES = 2048  # tweak tables kept for a key, 4 KiB each
ADDRESS_BITS = 52


class Scheme(StrEnum):
    """How the address enters the encryption."""

    XEX = "xex"
    XE = "xe"


def _constant(bit: int) -> int:
    word = hashlib.sha256(f"sevkit-xe-tweak-{bit}".encode()).digest()[:4]
    return int.from_bytes(word * 4, "little")


XE_CONSTANTS: tuple[int, ...] = tuple(_constant(bit) if bit >= 4 else 0 for bit in range(ADDRESS_BITS))


def xe_tweak(spa: int) -> int:
    """T(a) of the XE scheme for a 16-byte aligned address. T is linear in the address and known to an attacker."""
    tweak = 0
    for bit in range(4, ADDRESS_BITS):
        if spa >> bit & 1:
            tweak ^= XE_CONSTANTS[bit]
    return tweak


# T is linear: T(page + offset) = T(page) ^ T(offset), so the second half is one table for all pages.
_XE_OFFSETS = int.from_bytes(b"".join(xe_tweak(a).to_bytes(BLOCK, "little") for a in range(0, PAGE, BLOCK)), "little")


def gf_multiply(left: int, right: int) -> int:
    """Multiply two elements of GF(2^128) in the representation of IEEE 1619 (bit i is the coefficient of x^i).

    The loop adds (XORs) ``left`` times x^i for each set bit i of ``right``. Multiplying by x is a shift to the left;
    a bit that leaves the 128 bits is replaced by its remainder modulo the polynomial, x^7 + x^2 + x + 1 (0x87).
    """
    product = 0
    while right:
        if right & 1:
            product ^= left
        left <<= 1
        if left >> 128:
            left ^= _FIELD
        right >>= 1
    return product


def _alpha_powers() -> list[int]:
    """a^(256 p) for each page p of a unit."""
    # A page has 256 blocks, and each block multiplies the tweak by a: step becomes a^256, one page further.
    step = 1
    for _ in range(PAGE // BLOCK):
        step = step << 1 ^ (_FIELD if step >> 127 else 0)
    powers = [1]
    for _ in range(UNIT // PAGE - 1):
        powers.append(gf_multiply(powers[-1], step))
    return powers


_PAGE_POWERS: list[int] = []


class MemoryKey:
    """One key of the memory controller: 16 bytes, and the tweak scheme."""

    def __init__(self, key: bytes, scheme: Scheme = Scheme.XEX) -> None:
        if len(key) != 16:
            raise ValueError("a memory key has 16 bytes")
        self.key = key
        self.scheme = scheme
        self._tweak_key = hashlib.sha256(b"sevkit-tweak:" + key).digest()[:16]
        # ECB is the bare block cipher that XEX and XE are built from.
        data_cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305
        tweak_cipher = Cipher(algorithms.AES(self._tweak_key), modes.ECB())  # noqa: S305
        self._encrypt = data_cipher.encryptor().update
        self._decrypt = data_cipher.decryptor().update
        self._tweak_encrypt = tweak_cipher.encryptor().update
        self._tweak_decrypt = tweak_cipher.decryptor().update
        self._tables: dict[int, bytes] = {}

    def encrypt(self, spa: int, data: bytes | bytearray | memoryview) -> bytes:
        """Encrypt ``data`` for the address ``spa``; both must be multiples of 16 bytes."""
        if self.scheme is Scheme.XEX and len(data) >= PAGE and spa % PAGE == 0:
            return self._bulk(spa, data, encrypt=True)
        return self._pieces(spa, data, self._encrypt)

    def decrypt(self, spa: int, data: bytes | bytearray | memoryview) -> bytes:
        """Decrypt ``data`` from the address ``spa``; both must be multiples of 16 bytes."""
        if self.scheme is Scheme.XEX and len(data) >= PAGE and spa % PAGE == 0:
            return self._bulk(spa, data, encrypt=False)
        return self._pieces(spa, data, self._decrypt)

    def tweak(self, spa: int) -> bytes:
        """T of the block at ``spa``."""
        offset = spa % PAGE // BLOCK * BLOCK
        return self._table(spa // PAGE)[offset : offset + BLOCK]

    def _bulk(self, spa: int, data: bytes | bytearray | memoryview, *, encrypt: bool) -> bytes:
        """Process whole pages with OpenSSL's XTS. Its first tweak is E(K2, iv), so iv = D(K2, T of the first block)."""
        if spa % UNIT + len(data) <= UNIT:
            return self._unit(spa, encrypt=encrypt).update(data)
        out = bytearray(len(data) + BLOCK - 1)
        self._into(spa, data, memoryview(out), encrypt=encrypt)
        del out[len(data) :]
        return bytes(out)

    def encrypt_into(self, spa: int, data: bytes | bytearray | memoryview, out: memoryview) -> None:
        """Encrypt whole pages (XEX) into a buffer that is 15 bytes longer than the data, as OpenSSL requires."""
        self._into(spa, data, out, encrypt=True)

    def _into(self, spa: int, data: bytes | bytearray | memoryview, out: memoryview, *, encrypt: bool) -> None:
        view = memoryview(data)
        done = 0
        while done < len(view):
            # XTS has one first tweak per data unit, so every 2 MiB unit needs its own cipher context.
            take = min(UNIT - (spa + done) % UNIT, len(view) - done)
            worker = self._unit(spa + done, encrypt=encrypt)
            worker.update_into(view[done : done + take], out[done : done + take + BLOCK - 1])
            done += take

    def _unit(self, spa: int, *, encrypt: bool) -> CipherContext:
        first = self._page_tweak(spa // PAGE).to_bytes(BLOCK, "little")
        cipher = Cipher(algorithms.AES(self.key + self._tweak_key), modes.XTS(self._tweak_decrypt(first)))
        return cipher.encryptor() if encrypt else cipher.decryptor()

    def _pieces(self, spa: int, data: bytes | bytearray | memoryview, block: Callable[[bytes], bytes]) -> bytes:
        if spa % BLOCK or len(data) % BLOCK:
            raise ValueError("memory is encrypted in whole 16-byte blocks")
        out = b""
        done = 0
        while done < len(data):
            here = spa + done
            offset = here % PAGE
            take = min(PAGE - offset, len(data) - done)
            # One big integer per part of a page: a single XOR instead of one per 16-byte block.
            tweak = int.from_bytes(self._table(here // PAGE)[offset : offset + take], "little")
            piece = int.from_bytes(data[done : done + take], "little")
            out += self._one(piece, tweak, take, block)
            done += take
        return out

    def _one(self, piece: int, tweak: int, size: int, block: Callable[[bytes], bytes]) -> bytes:
        if self.scheme is Scheme.XEX:
            middle = block((piece ^ tweak).to_bytes(size, "little"))
            return (int.from_bytes(middle, "little") ^ tweak).to_bytes(size, "little")
        if block is self._encrypt:
            return block((piece ^ tweak).to_bytes(size, "little"))
        return (int.from_bytes(block(piece.to_bytes(size, "little")), "little") ^ tweak).to_bytes(size, "little")

    def _table(self, page: int) -> bytes:
        """The tweaks of the 256 blocks of a page."""
        table = self._tables.get(page)
        if table is None:
            if len(self._tables) >= _TABLES:
                self._tables.clear()
            table = self._tables[page] = self._make_table(page)
        return table

    def _make_table(self, page: int) -> bytes:
        if self.scheme is Scheme.XE:
            base = int.from_bytes(xe_tweak(page * PAGE).to_bytes(BLOCK, "little") * (PAGE // BLOCK), "little")
            return (base ^ _XE_OFFSETS).to_bytes(PAGE, "little")
        tweak = self._page_tweak(page)
        out = bytearray()
        for _ in range(PAGE // BLOCK):
            out += tweak.to_bytes(BLOCK, "little")
            tweak = tweak << 1 ^ (_FIELD if tweak >> 127 else 0)
        return bytes(out)

    def _page_tweak(self, page: int) -> int:
        """T of the first block of a page."""
        if not _PAGE_POWERS:
            _PAGE_POWERS.extend(_alpha_powers())
        unit, within = divmod(page, UNIT // PAGE)
        base = self._tweak_encrypt(unit.to_bytes(BLOCK, "little"))
        return gf_multiply(int.from_bytes(base, "little"), _PAGE_POWERS[within])
