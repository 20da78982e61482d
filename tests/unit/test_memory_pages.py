"""Page classes against content whose class is known; the stated error rate, measured."""

import bz2
import gzip
import lzma
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sevkit.errors import UsageError
from sevkit.memory.guest_ram.classes import FALSE_PLAINTEXT, PageClass, classify, count

PAGE = 4096


def share(data: bytes, kind: PageClass) -> float:
    data = data[: len(data) // PAGE * PAGE]
    return float(np.mean(classify(data) == kind))


def program_text() -> bytes:
    return b"".join(path.read_bytes() for path in sorted(Path(os.__file__).parent.glob("*.py")))[: 6 << 20]


def test_random_pages_are_ciphertext_but_for_the_stated_share() -> None:
    """16,384 pages: at the stated rate 1.6 are called plaintext; 10 or more have a probability below 1e-5."""
    pages = random.Random(20).randbytes(16384 * PAGE)
    assert int(np.count_nonzero(classify(pages) != PageClass.CIPHERTEXT)) < 10
    assert FALSE_PLAINTEXT <= 1e-4


def test_encrypted_zeros_are_ciphertext() -> None:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = algorithms.AES(bytes(range(32)))
    pages = (Cipher(key, modes.XTS(bytes([n % 256] * 16))).encryptor().update(bytes(PAGE)) for n in range(200))
    assert share(b"".join(pages), PageClass.CIPHERTEXT) > 0.99


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bytes(PAGE), PageClass.ZERO),
        (bytes(PAGE - 1) + b"\1", PageClass.PLAINTEXT),
        (b"\xff" * PAGE, PageClass.PLAINTEXT),
        (bytes(range(256)) * 16, PageClass.PLAINTEXT),  # as even as can be, and so not random
        (b"root:x:0:0:root:/root:/bin/sh\n" * 137, PageClass.PLAINTEXT),
        (random.Random(1).randbytes(16) * 256, PageClass.PLAINTEXT),  # one block repeated: ECB over zeros
        (random.Random(1).randbytes(2048) + bytes(2048), PageClass.PLAINTEXT),
    ],
)
def test_pages_that_leave_no_doubt(data: bytes, kind: PageClass) -> None:
    assert classify(data[:PAGE]).tolist() == [kind]


@pytest.mark.parametrize(("compress", "at_most"), [(gzip.compress, 0.5), (bz2.compress, 0.1)])
def test_compressed_data_is_mostly_not_taken_for_ciphertext(compress: Callable[[bytes], bytes], at_most: float) -> None:
    assert share(compress(program_text()), PageClass.CIPHERTEXT) < at_most


def test_xz_cannot_be_told_from_ciphertext_and_we_say_so() -> None:
    assert share(lzma.compress(program_text()), PageClass.CIPHERTEXT) > 0.9


def test_text_and_code_are_plaintext() -> None:
    assert share(program_text(), PageClass.CIPHERTEXT) == 0


def test_all_kinds_of_buffers_and_none_but_whole_pages() -> None:
    page = bytearray(os.urandom(PAGE) + bytes(PAGE))
    assert classify(memoryview(page)).tolist() == classify(np.frombuffer(page, dtype=np.uint8)).tolist()
    assert count(classify(page)) == {"hole": 0, "zero": 1, "plaintext": 0, "ciphertext": 1, "unread": 0}
    assert classify(b"").tolist() == []
    with pytest.raises(UsageError):
        classify(b"x" * 100)
