"""Examine a user's disk or ISO image: its format, and the firmware that can boot it.

Sources: qcow2 (QEMU, docs/interop/qcow2.txt), MBR and GPT (UEFI 2.10, chapter 5), ISO 9660 and El Torito.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sevkit.errors import BadInputError, UsageError

_SECTOR = 512
_ESP = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")  # C12A7328-F81F-11D2-BA4B-00A0C93EC93B as it lies on disk
_BIOS_BOOT = b"Hah!IdontNeedEFI"  # 21686148-6449-6E6F-744E-656564454649
_PROTECTIVE, _EFI = 0xEE, 0xEF  # partition types in an MBR
_OTHERS = (
    (0, b"KDMV", "a VMDK image", "convert it: qemu-img convert -O qcow2 IMAGE disk.qcow2"),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor", "convert it: qemu-img convert -O qcow2 IMAGE disk.qcow2"),
    (0, b"vhdxfile", "a VHDX image", "convert it: qemu-img convert -O qcow2 IMAGE disk.qcow2"),
    (0, b"conectix", "a VHD image", "convert it: qemu-img convert -O qcow2 IMAGE disk.qcow2"),
    (64, b"\x7f\x10\xda\xbe", "a VDI image", "convert it: qemu-img convert -O qcow2 IMAGE disk.qcow2"),
    (0, b"\x1f\x8b", "compressed with gzip", "decompress it first: gunzip"),
    (0, b"\xfd7zXZ\x00", "compressed with xz", "decompress it first: unxz"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress it first: unzstd"),
    (0, b"BZh", "compressed with bzip2", "decompress it first: bunzip2"),
    (0, b"PK\x03\x04", "a zip archive", "unpack it first"),
    (0, b"\x7fELF", "an ELF program", "a kernel is given by --kernel"),
)
# cpio (newc), then gzip, xz, zstd, lz4 (legacy), bzip2, lzma.
_INITRDS = (b"070701", b"070702", b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd", b"\x02\x21", b"BZh", b"\x5d\0\0")
_COMPRESSED = 1 << 62
_OFFSET = 0x00FFFFFFFFFFFE00


@dataclass(frozen=True)
class Media:
    """A bootable image. ``format`` is QEMU's name; ``uefi`` and ``bios`` say which firmware finds a boot loader."""

    format: str
    uefi: bool
    bios: bool


def disk(path: Path) -> Media:
    """Examine a disk image. Raises UsageError if it cannot be read or booted, BadInputError for a damaged qcow2."""
    with _opened(path) as stream:
        head = stream.read(0x9000)
        if head[:4] == b"QFI\xfb":
            start = _Qcow2(stream, path).read(34 * _SECTOR)
            return _bootable(path, "qcow2", start)
        _refuse_others(path, head)
        if head[0x8001:0x8006] == b"CD001" and head[510:512] != b"\x55\xaa":
            raise UsageError(f"{path} is an ISO image, not a disk", hint=f"give it by --cdrom {path}")
        return _bootable(path, "raw", head)


def cdrom(path: Path) -> None:
    """Check that a file is an ISO image; raises UsageError."""
    with _opened(path) as stream:
        stream.seek(0x8001)
        if stream.read(5) != b"CD001":
            raise UsageError(f"{path} is no ISO 9660 image", hint="a disk is given by --image")


def kernel(path: Path) -> None:
    """Check that a file is a Linux kernel for x86 (boot protocol 2.00 or later: HdrS at 0x202); raises UsageError."""
    with _opened(path) as stream:
        head = stream.read(0x210)
    if head[0x202:0x206] != b"HdrS":
        what = "an uncompressed kernel (ELF)" if head[:4] == b"\x7fELF" else "no Linux kernel for x86"
        raise UsageError(f"{path} is {what}", hint="give the bzImage: arch/x86/boot/bzImage or /boot/vmlinuz-*")


def initrd(path: Path) -> None:
    """Check that a file is a cpio archive, plain or compressed as Linux supports (usr/Kconfig); raises UsageError."""
    with _opened(path) as stream:
        head = stream.read(6)
    if not head.startswith(_INITRDS):
        raise UsageError(f"{path} is no initrd", hint="a cpio archive (newc), compressed or not")


def public_key(path: Path) -> str:
    """The public keys in a file, one per line; raises UsageError, above all for a private key."""
    with _opened(path) as stream:
        text = stream.read(1 << 16).decode(errors="replace").strip()
    if "PRIVATE KEY" in text:
        raise UsageError(f"{path} is a private key: it stays here", hint=f"give the public one: {path}.pub")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not lines or not all(line.startswith(("ssh-", "ecdsa-", "sk-")) and " " in line for line in lines):
        raise UsageError(f"{path} holds no public ssh key", hint="such as ~/.ssh/id_ed25519.pub")
    return "\n".join(lines)


def _opened(path: Path) -> BinaryIO:
    if path.is_dir():
        raise UsageError(f"{path} is a directory, not an image")
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read the image {path}: {error.strerror}") from error
    if path.is_file() and path.stat().st_size == 0:
        stream.close()
        raise UsageError(f"{path} is empty")
    return stream


def _refuse_others(path: Path, head: bytes) -> None:
    for at, magic, what, hint in _OTHERS:
        if head[at : at + len(magic)] == magic:
            raise UsageError(f"{path} is {what}", hint=hint)
    if path.suffix in (".qcow2", ".qcow"):
        raise UsageError(f"{path} is not in qcow2 format, as its name says", hint="is the download complete?")


def _bootable(path: Path, form: str, start: bytes) -> Media:
    """Read the partition table; without one, firmware cannot boot the disk."""
    if start[510:512] != b"\x55\xaa":
        raise UsageError(
            f"{path} has no partition table or boot sector: no firmware can boot it",
            hint="a disk without boot loader goes by --disk; a kernel by --kernel",
        )
    types = [start[446 + 16 * n + 4] for n in range(4)]
    code = any(start[:440])
    if _PROTECTIVE not in types or start[512:520] != b"EFI PART":
        return Media(form, uefi=_EFI in types, bios=code)
    count, size = struct.unpack_from("<II", start, 512 + 80)
    if not 128 <= size <= 4096:
        raise BadInputError(f"{path}: the partition table is damaged")
    kinds = {start[1024 + n * size :][:16] for n in range(min(count, 128)) if 1024 + n * size < len(start)}
    return Media(form, uefi=_ESP in kinds, bios=_BIOS_BOOT in kinds or (code and _ESP not in kinds))


class _Qcow2:
    """The first bytes of the disk in a qcow2 image, found through its two-level tables."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream, self._path = stream, path
        stream.seek(0)
        head = stream.read(72)
        if len(head) < 72:
            raise self._damaged()
        _, version, self._backing, _, bits, self.size, crypt, l1_size, self._l1 = struct.unpack_from(">IIQIIQIIQ", head)
        if version not in (2, 3) or not 9 <= bits <= 21 or l1_size == 0:
            raise self._damaged()
        if crypt:
            raise UsageError(f"{path} is encrypted", hint="qemu-img convert makes a plain copy")
        self._bits, self._cluster = int(bits), 1 << int(bits)

    def read(self, size: int) -> bytes:
        """The first ``size`` bytes of the disk; unallocated ones are zeros."""
        data = b"".join(self._read_cluster(n) for n in range(-(-size // self._cluster)))
        if self._backing and not any(data[:512]):
            raise UsageError(f"{self._path} starts in its backing file", hint="qemu-img convert makes a whole copy")
        return bytes(data[:size])

    def _read_cluster(self, number: int) -> bytes:
        entries = self._cluster // 8
        table = self._entry(self._l1 + 8 * (number // entries)) & _OFFSET
        found = self._entry(table + 8 * (number % entries)) if table else 0
        if found & _COMPRESSED:
            return self._decompressed(found)
        at = found & _OFFSET
        if not at or found & 1:  # never written, or zeros
            return b"\0" * self._cluster
        return self._at(at, self._cluster).ljust(self._cluster, b"\0")

    def _decompressed(self, entry: int) -> bytes:
        shift = 62 - (self._bits - 8)
        at = entry & ((1 << shift) - 1)
        sectors = ((entry & (_COMPRESSED - 1)) >> shift) + 1
        try:
            return zlib.decompressobj(-12).decompress(self._at(at, sectors * _SECTOR), self._cluster)
        except zlib.error:  # zstd (qcow2 version 3): then only the kind of the boot sectors is unknown
            raise UsageError(
                f"{self._path} is compressed in a way that is not read here", hint="qemu-img convert -O qcow2"
            ) from None

    def _entry(self, at: int) -> int:
        data = self._at(at, 8)
        if len(data) < 8:
            raise self._damaged()
        return int(struct.unpack(">Q", data)[0])

    def _at(self, at: int, size: int) -> bytes:
        self._stream.seek(at)
        return self._stream.read(size)

    def _damaged(self) -> BadInputError:
        return BadInputError(f"{self._path}: the qcow2 header is damaged", hint="is the download complete?")
