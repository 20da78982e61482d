"""Seeded mutation of inputs: the same seed gives the same inputs, so that a find can be had again."""

import random
import re
from collections.abc import Iterator, Sequence

_INTERESTING = (0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, (1 << 63) - 1, (1 << 64) - 1)
_WORDS = (b"null", b"-1", b"1e999", b"NaN", b"[]", b"{}", b'""', b"true", b"\xff\xfe", b"\0", b"9" * 400, b"[" * 2000)


def inputs(corpus: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """``count`` inputs made from a corpus."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(rng.choice(corpus))
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            data = _changed(data, rng, corpus)
        yield bytes(data)


def _changed(data: bytearray, rng: random.Random, corpus: Sequence[bytes]) -> bytearray:
    at = rng.randrange(len(data) + 1)
    kind = rng.randrange(8)
    if kind == 0 and data:
        data[at - 1] ^= 1 << rng.randrange(8)
    elif kind == 1:
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice(_INTERESTING) & (1 << 8 * size) - 1
        data[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
    elif kind == 2:
        del data[at : at + rng.choice((1, 4, 64, 1024))]
    elif kind == 3:
        data[at:at] = rng.choice(_WORDS)
    elif kind == 4:
        del data[at:]
    elif kind == 5:
        other = rng.choice(corpus)
        start = rng.randrange(len(other) + 1)
        data[at:at] = other[start : start + rng.randrange(1, 200)]
    elif kind == 6:
        data = bytearray(_number_changed(bytes(data), rng))
    else:
        data[at:at] = bytes(data[at : at + rng.choice((8, 56, 512))]) * rng.choice((2, 30))
    return data[: 1 << 20]


def _number_changed(data: bytes, rng: random.Random) -> bytes:
    """One of the numbers or words that stand in a text, replaced."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?|0x[0-9a-f]+|true|false|null|\"[^\"]{0,40}\"", data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(_WORDS) + data[match.end() :]
