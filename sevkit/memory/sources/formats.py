"""Open files that contain memory: ELF cores, LiME, raw images, also compressed; the error names an unsupported format.

LiME: doc/README.md of LiME, "Specification". libvirt's save header: src/qemu/qemu_saveimage.h. QEMU's migration stream:
docs/devel/migration. Memory is secret data, so it is decompressed into a temporary file without a name.
"""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING

from sevkit import textfile
from sevkit.errors import BadInputError, MissingToolError, NoSpaceError
from sevkit.memory.sources import elf
from sevkit.memory.sources.base import PAGE
from sevkit.memory.sources.elf import Core, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RAW_SUFFIXES = (".raw", ".mem", ".vmem", ".padded", ".dd")
_LIME = struct.Struct("<IIQQQ")
_LIME_MAGIC = b"EMiL"
_MAX_RANGES = 1 << 18
_LOW = 1 << 20  # every x86 guest has RAM below 1 MiB
_CHUNK = 8 << 20

_ELF_HINT = "dump guest memory as ELF: `virsh dump --memory-only`, or QMP dump-guest-memory"
_VMEM_HINT = "give the .vmem file beside it, which is raw memory"
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"LibvirtQemudSave", "a guest saved by libvirt (virsh save, or virsh dump without --memory-only)", _ELF_HINT),
    (b"LibvirtQemudPart", "a guest of which libvirt's save did not finish", _ELF_HINT),
    (b"QEVM", "a migration stream of QEMU", _ELF_HINT),
    (b"AVML", "compressed by AVML", "avml-convert --source-format lime_compressed --format lime"),
    (b"DISKDUMP", "a diskdump", "convert it to ELF with crash or makedumpfile -E"),
    (b"PAGEDUMP", "a Windows crash dump", "dump the guest from the host: virsh dump --memory-only"),
    (b"PAGEDU64", "a Windows crash dump", "dump the guest from the host: virsh dump --memory-only"),
    (b"QFI\xfb", "a qcow2 image", "a snapshot in it can be loaded by QEMU only; dump guest memory as ELF"),
    (b"\x04\x22\x4d\x18", "compressed with lz4", "decompress it first: `lz4 -d`"),
    (b"\x89LZO\0\r\n\x1a\n", "compressed with lzop", "decompress it first: `lzop -d`"),
    (b"\xff\x06\0\0sNaPpY", "compressed with snappy", "decompress it first: `snzip -d`"),
    (b"PK\x03\x04", "a zip archive", "unpack it first: `unzip`; AFF4 images are such archives"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first: `7z x`"),
    (b"EVF\x09\x0d\x0a\xff", "an EWF image", "convert it to a raw image: ewfexport"),
    (b"\xd2\xbe\xd2\xbe", "a suspended guest of VMware", _VMEM_HINT),
    (b"\xd3\xbe\xd3\xbe", "a snapshot of VMware", _VMEM_HINT),
    (b"\x7fVirtualBox SavedState", "a guest saved by VirtualBox", "VBoxManage debugvm NAME dumpvmcore writes ELF"),
    (b"LibxlFmt", "a guest saved by Xen", "xl dump-core, or give an image of raw memory"),
    (b"LinuxGuestRecord", "a guest saved by Xen", "xl dump-core, or give an image of raw memory"),
    (b"\xed\x23\x8f\x61\x73\x01\x19\xa8", "an LKCD dump", "only crash reads it: dump guest memory as ELF"),
    (b"HIBR", "a Windows hibernation file", "dump the guest from the host: virsh dump --memory-only"),
)


def opened(descriptor: int, path: str) -> Core:
    """The memory in an open file. For a compressed file, the descriptor refers to the decompressed data afterwards.

    Raises NoSpaceError, or a BadInputError that names the format of the file.
    """
    head = os.pread(descriptor, 64, 0)
    chunks = _decompressor(head)
    if chunks is not None:
        _decompress(descriptor, chunks)
        head = os.pread(descriptor, 64, 0)
        path = path.rpartition(".")[0] or path
    return _parse(descriptor, head, path)


def _parse(descriptor: int, head: bytes, path: str) -> Core:
    size = os.fstat(descriptor).st_size
    if not size:
        raise BadInputError("the file is empty", hint="`ulimit -c 0` makes no core: ulimit -c unlimited, or gcore PID")
    for magic, what, hint in _FOREIGN:
        if head.startswith(magic):
            raise BadInputError(f"the file is {what}, not an ELF core", hint=hint)
    if head.startswith(_LIME_MAGIC):
        return _lime(descriptor, size)
    if not head.startswith(b"\x7fELF") and not _known_to_elf(head):
        return _raw(descriptor, size, path)
    return elf.parse(descriptor)


def _raw(descriptor: int, size: int, path: str) -> Core:
    """Only its name tells an image of raw memory; a tar archive has its magic behind the first name."""
    if os.pread(descriptor, 5, 257) == b"ustar":
        raise BadInputError("the file is a tar archive, not an ELF core", hint="unpack it first: `tar xf`")
    if path.lower().endswith(RAW_SUFFIXES):
        return Core((Segment(0, size, 0, size, size, 6),), physical=True)
    names = ", ".join(RAW_SUFFIXES)
    raise BadInputError(
        "not an ELF file, and no other format that is known",
        hint=f"make one with `gcore PID`; raw memory needs a name in {names}",
    )


def _known_to_elf(head: bytes) -> bool:
    return head.startswith((b"KDUMP   ", b"makedump"))


def _lime(descriptor: int, size: int) -> Core:
    """Ranges of physical memory, each after a header: magic, version, first and last address, 8 bytes reserved."""
    rows: list[Segment] = []
    at = 0
    while at < size:
        raw = os.pread(descriptor, _LIME.size, at)
        if len(raw) < _LIME.size or not raw.startswith(_LIME_MAGIC):
            raise BadInputError(f"a LiME file that is damaged at byte {at}: no header there", hint="acquire it again")
        _, version, first, last, _ = _LIME.unpack(raw)
        if version != 1:
            raise BadInputError(
                f"a LiME file of version {version}", hint="only version 1, without compression, is read"
            )
        if last < first or len(rows) >= _MAX_RANGES:
            raise BadInputError(f"a LiME file that is damaged at byte {at}: a range that ends before it begins")
        at += _LIME.size
        length = last - first + 1
        rows.append(Segment(first, length, at, length, max(0, min(length, size - at)), 6))
        at += length
    segments = elf.disjoint(rows)
    hidden = sum(row.present for row in rows) - sum(segment.present for segment in segments)
    return Core(segments, physical=True, hidden_bytes=hidden)


def window(core: Core) -> str:
    """Explain why a dump has only a part of guest memory; "" if it seems complete.

    QEMU can dump a part (begin, length). Every complete dump has memory at address 0, and contains the page tables that
    the CPUs use. An image of raw memory does not tell its length, but memory consists of whole pages.
    """
    if not core.physical or not core.segments:
        return ""
    if core.segments[0].address >= _LOW:
        return f"guest memory below {core.segments[0].address:#x} is not in the file: a dump of a part (begin, length)?"
    if len(core.segments) == 1 and core.segments[0].size % PAGE:
        return "the file ends within a page: it may be cut short"
    for table in core.page_tables:
        if not any(segment.address <= table < segment.address + segment.size for segment in core.segments):
            return (
                f"the page tables that a CPU uses ({table:#x}) are not in the file: a dump of a part (begin, length)?"
            )
    return ""


def _decompressor(head: bytes) -> Callable[[IO[bytes]], Iterator[bytes]] | None:
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return textfile.zstd_chunks
    if head.startswith(b"\x1f\x8b\x08"):
        return _gzip
    if head.startswith(b"BZh"):
        return _bzip2
    return _xz if head.startswith(b"\xfd7zXZ\0") else None


def _gzip(source: IO[bytes]) -> Iterator[bytes]:
    import gzip

    with gzip.GzipFile(fileobj=source) as file:
        yield from iter(lambda: file.read(_CHUNK), b"")


def _bzip2(source: IO[bytes]) -> Iterator[bytes]:
    import bz2

    with bz2.BZ2File(source) as file:
        yield from iter(lambda: file.read(_CHUNK), b"")


def _xz(source: IO[bytes]) -> Iterator[bytes]:
    import lzma

    # LZMAFile ends in silence at the first stream that is damaged, if an earlier one was whole.
    rest, stream = b"", lzma.LZMADecompressor()
    while rest or (rest := source.read(_CHUNK)):
        if stream.eof:
            rest = rest.lstrip(b"\0")  # padding between streams (the .xz file format, 2.2)
            if not rest:
                continue
            stream = lzma.LZMADecompressor(lzma.FORMAT_XZ)
        yield stream.decompress(rest, _CHUNK)
        rest = stream.unused_data if stream.eof else b""
        while not stream.eof and not stream.needs_input:
            yield stream.decompress(b"", _CHUNK)
            rest = stream.unused_data if stream.eof else b""
    if not stream.eof:
        raise EOFError("the last stream is not whole")


def _decompress(descriptor: int, chunks: Callable[[IO[bytes]], Iterator[bytes]]) -> None:
    """Decompress into a file without a name, and make ``descriptor`` refer to that file."""
    import tempfile

    with tempfile.TemporaryFile() as target, os.fdopen(os.dup(descriptor), "rb") as source:
        _copy(chunks(source), target.fileno())
        os.dup2(target.fileno(), descriptor, inheritable=False)


def _copy(chunks: Iterator[bytes], target: int) -> None:
    while True:
        try:
            chunk = next(chunks, None)
        except MissingToolError:
            raise
        except Exception as error:
            raise BadInputError(f"the compressed data is damaged or cut off: {error}", hint="copy it again") from error
        if chunk is None:
            return
        try:
            _write(target, chunk)
        except OSError as error:
            raise NoSpaceError(
                f"no room to decompress it: {(error.strerror or str(error)).lower()}",
                hint="set TMPDIR to a larger disk",
            ) from error


def _write(target: int, chunk: bytes) -> None:
    """Write a chunk; make a hole if it is all zeros, since memory has many zeros."""
    if chunk.count(0) == len(chunk):
        size = os.lseek(target, len(chunk), os.SEEK_CUR)
        os.ftruncate(target, size)
        return
    view = memoryview(chunk)
    while view:
        view = view[os.write(target, view) :]
