"""Read text files as users have them: compressed, in UTF-16, with a byte order mark, with line ends of Windows.

`read_bytes` reads a file or standard input, `plain` converts it to UTF-8 with line feeds, `text` decodes it. A file
that is not text is refused with the reason. Without this, UTF-16 would look like binary data, or a byte order mark like
the first letter of a secret, and the result would be wrong.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import IO, TYPE_CHECKING, NamedTuple

from sevkit.errors import BadInputError, MissingToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMIT = 64 << 20  # bytes, before and after decompression
_SAMPLE = 4096
_ZSTD_INPUT = 4096  # bytes: a block of 4 bytes may decompress to 128 KiB
_NESTED = 2  # layers of compression that are accepted: .gz of a .zst occurs, more is an attack


class _Packing(NamedTuple):
    """A compression format: its first bytes, its name, and a function to read it if it is supported."""

    magic: bytes
    name: str
    unpack: Callable[[bytes, int], bytes] | None
    hint: str = ""


def read_bytes(path: str, limit: int = LIMIT) -> tuple[bytes, str]:
    """The bytes of a file and the name to call it in messages; ``-`` is standard input.

    Raises BadInputError for a file that cannot be read, a directory, and for more than ``limit`` bytes.
    """
    name = "standard input" if path == "-" else path
    try:
        data = _from_stdin(limit) if path == "-" else _from_file(path, limit)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL byte
        words = getattr(error, "strerror", None) or str(error)
        raise BadInputError(f"cannot read {name}: {words.lower()}", hint="check the path") from error
    if len(data) > limit:
        raise too_large(name, limit)
    return data, name


def too_large(name: str, limit: int) -> BadInputError:
    """The error for a file of more than ``limit`` bytes."""
    return BadInputError(f"{name}: larger than {limit >> 20} MiB", hint="give the part that matters")


def _from_stdin(limit: int) -> bytes:
    if sys.stdin is None:
        raise OSError(0, "it is closed")
    return sys.stdin.buffer.read(limit + 1)


def at_once(path: str, flags: int) -> int:
    """Open as ``opener`` of `open`: a device, or a pipe without a writer, must not block for ever."""
    return os.open(path, flags | os.O_NONBLOCK)


def _from_file(path: str, limit: int) -> bytes:
    with open(path, "rb", opener=at_once) as file:
        if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
            raise IsADirectoryError(0, "it is a directory")
        os.set_blocking(file.fileno(), True)
        return file.read(limit + 1)


def text(data: bytes, name: str, limit: int = LIMIT) -> str:
    """The text of a file; bytes that are not UTF-8 become U+FFFD. Errors as for `plain`."""
    return plain(data, name, limit).decode("utf-8", "replace")


def plain(data: bytes, name: str, limit: int = LIMIT) -> bytes:
    """The bytes of a text, decompressed, as UTF-8 with line feeds only and without byte order mark.

    Bytes that are not in a Unicode encoding (such as Latin-1) are unchanged: in a list of secrets every byte counts.
    Raises BadInputError for more than ``limit`` bytes, damaged or unknown compression, and binary data.
    """
    found = _one_encoding(unpacked(data, name, limit), name)
    nul = found.find(b"\0")
    if nul >= 0:
        line = found.count(b"\n", 0, nul) + 1
        raise BadInputError(f"{name}, line {line}: binary data (a NUL byte)", hint="give a text file")
    return found.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in found else found


def unpacked(data: bytes, name: str, limit: int = LIMIT) -> bytes:
    """Decompress gzip, bzip2, xz or zstd; bytes that are not compressed are returned unchanged."""
    for _ in range(_NESTED):
        packing = next((kind for kind in _PACKINGS if data.startswith(kind.magic)), None)
        if packing is None:
            break
        data = _unpack(packing, data, name, limit)
    if len(data) > limit:
        raise too_large(name, limit)
    return data


def _unpack(packing: _Packing, data: bytes, name: str, limit: int) -> bytes:
    if packing.unpack is None:
        raise BadInputError(f"{name}: {packing.name}", hint=packing.hint)
    try:
        found = packing.unpack(data, limit + 1)
    except MissingToolError:
        raise
    except Exception as error:
        raise BadInputError(
            f"{name}: the {packing.name} data is damaged or cut off: {error or type(error).__name__}",
            hint="copy the file again",
        ) from error
    if len(found) > limit:
        raise too_large(f"{name} (decompressed)", limit)
    return found


def _gzip(data: bytes, size: int) -> bytes:
    import gzip
    import io

    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        return file.read(size)


def _bzip2(data: bytes, size: int) -> bytes:
    import bz2
    import io

    with bz2.BZ2File(io.BytesIO(data)) as file:
        return file.read(size)


def _xz(data: bytes, size: int) -> bytes:
    import io
    import lzma

    with lzma.LZMAFile(io.BytesIO(data)) as file:
        return file.read(size)


def _zstd(data: bytes, size: int) -> bytes:
    import io

    found = bytearray()
    for chunk in zstd_chunks(io.BytesIO(data)):
        found += chunk
        if len(found) >= size:
            break
    return bytes(found)


def zstd_chunks(source: IO[bytes]) -> Iterator[bytes]:
    """Decompress a zstd file in pieces of at most 128 MiB; raises EOFError if the last frame is incomplete.

    Raises MissingToolError without the library.
    """
    try:
        import zstandard
    except ImportError as error:
        raise MissingToolError("zstandard is not installed", hint="pip install zstandard, or: zstd -d FILE") from error
    frame, rest, begun = None, b"", False
    while rest or (rest := source.read(_ZSTD_INPUT)):
        frame = frame or zstandard.ZstdDecompressor().decompressobj()
        begun = True
        yield frame.decompress(rest)
        rest = b""
        if frame.eof:
            rest = frame.unused_data
            frame = None
    if frame is not None or not begun:
        raise EOFError("the last frame is not whole")


_PACKINGS = (
    _Packing(b"\x1f\x8b\x08", "gzip", _gzip),
    _Packing(b"BZh", "bzip2", _bzip2),
    _Packing(b"\xfd7zXZ\0", "xz", _xz),
    _Packing(b"\x28\xb5\x2f\xfd", "zstd", _zstd),
    _Packing(b"PK\x03\x04", "a zip archive", None, "unpack it: unzip FILE"),
    _Packing(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", None, "unpack it: 7z x FILE"),
    _Packing(b"\x04\x22\x4d\x18", "compressed by lz4", None, "unpack it: lz4 -d FILE"),
    _Packing(b"\x1f\x9d", "compressed by compress(1)", None, "unpack it: uncompress FILE"),
)


def _one_encoding(data: bytes, name: str) -> bytes:
    encoding = _utf_16_or_32(data)
    if encoding is None:
        return data.removeprefix(b"\xef\xbb\xbf")
    try:
        found = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInputError(
            f"{name}: damaged {encoding.upper()} at byte {error.start}: {error.reason}", hint="save it as UTF-8"
        ) from error
    return found.removeprefix("\ufeff").encode()


def _utf_16_or_32(data: bytes) -> str | None:
    """The encoding of a text in UTF-16 or UTF-32: from its byte order mark, else from the positions of NUL bytes."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    head = data[:_SAMPLE]
    if len(head) < 4 or len(data) % 2 or b"\0" not in head:
        return None
    even, odd = head[::2], head[1::2]
    for nul, other, encoding in ((odd, even, "utf-16-le"), (even, odd, "utf-16-be")):
        if nul.count(0) * 10 >= len(nul) * 9 and not other.count(0):
            return encoding
    return None
