"""How well page classes tell ciphertext from other content: the confusion table of docs/memory.md.

Content is made here (random bytes, AES, compressors over this machine's own files) and cut into pages of 4 KiB.
Run as ``python -m benchmarks.scan_pages``.
"""

import base64
import bz2
import gzip
import io
import lzma
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from sevkit import processes
from sevkit.memory.guest_ram.classes import classify, count
from sevkit.memory.sources.base import PAGE

SIZE = 24 << 20


def corpus(size: int) -> bytes:
    """Text and code of this machine: Python's library, then programs and libraries."""
    parts: list[bytes] = []
    total = 0
    for folder, pattern in (
        (Path(os.__file__).parent, "*.py"),
        (Path("/usr/lib"), "**/*.so*"),
        (Path("/usr/bin"), "*"),
    ):
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not path.is_symlink():
                parts.append(path.read_bytes())
                total += len(parts[-1])
            if total >= size:
                return b"".join(parts)[:size]
    return b"".join(parts)


def aes(size: int) -> bytes:
    """AES-XTS over zeros, a tweak a page: what an encrypting memory controller makes of empty pages."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = algorithms.AES(os.urandom(32))
    pages = (modes.XTS(number.to_bytes(16, "little")) for number in range(size // PAGE))
    return b"".join(Cipher(key, tweak).encryptor().update(bytes(PAGE)) for tweak in pages)


def images(kind: str) -> bytes:
    """Photographs of noise and gradients, as a camera's files would lie in memory."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:1500, 0:2000]
    stream = io.BytesIO()
    for index in range(8):
        waves = np.stack(
            [np.sin(x / (40 + 9 * c + index)) * np.cos(y / (55 - 7 * c)) * 90 + 128 for c in range(3)], axis=2
        )
        grain = rng.normal(0, 12, waves.shape)
        Image.fromarray(np.clip(waves + grain, 0, 255).astype(np.uint8)).save(stream, kind, quality=90)
    return stream.getvalue()


def zstd(data: bytes, level: int) -> bytes:
    """By the zstd program."""
    if not processes.have_tool("zstd"):
        return b""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain"
        plain.write_bytes(data)
        return processes.run(["zstd", "-q", "-c", f"-{level}", str(plain)], timeout=300).stdout


def contents() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Names, and how to make the content."""
    data = corpus(SIZE)
    yield "random bytes", lambda: os.urandom(16 * SIZE)
    yield "AES-XTS over zeros", lambda: aes(4 * SIZE)
    yield "text and code", lambda: data
    yield "xz -6", lambda: lzma.compress(data, preset=6)
    yield "zstd -3", lambda: zstd(data, 3)
    yield "zstd -19", lambda: zstd(data, 19)
    yield "bzip2 -9", lambda: bz2.compress(data)
    yield "gzip -6", lambda: gzip.compress(data, 6)
    yield "gzip -1", lambda: gzip.compress(data, 1)
    yield "JPEG", lambda: images("JPEG")
    yield "PNG", lambda: images("PNG")
    yield "base64 of random", lambda: base64.b64encode(os.urandom(SIZE))
    yield "zeros", lambda: bytes(SIZE)


def main() -> None:
    """Print the table."""
    print("| content | pages | ciphertext | plaintext | zero |\n|---|---:|---:|---:|---:|")
    for name, make in contents():
        data = make()
        data = data[: len(data) // PAGE * PAGE]
        if not data:
            print(f"{name}: not here", file=sys.stderr)
            continue
        counts = count(classify(data))
        pages = len(data) // PAGE
        shares = " | ".join(f"{100 * counts[word] / pages:.3f} %" for word in ("ciphertext", "plaintext", "zero"))
        print(f"| {name} | {pages:,} | {shares} |")


if __name__ == "__main__":
    main()
