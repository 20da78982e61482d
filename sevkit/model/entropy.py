"""Random numbers of the model: a stream from a seed, so that the same seed gives the same history."""

import hashlib


class Entropy:
    """A deterministic stream of bytes: SHA-256 in counter mode over the seed and a label."""

    def __init__(self, seed: int | bytes | str, label: str = "") -> None:
        self._root = hashlib.sha256(f"sevkit-model:{seed!r}:{label}".encode()).digest()
        self._count = 0

    def bytes(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        out = b""
        while len(out) < size:
            out += hashlib.sha256(self._root + self._count.to_bytes(8, "little")).digest()
            self._count += 1
        return out[:size]

    def below(self, limit: int) -> int:
        """A number from 0 to ``limit`` - 1."""
        return int.from_bytes(self.bytes(16), "little") % limit

    def fork(self, label: str) -> "Entropy":
        """Return an independent stream without advancing this one."""
        return Entropy(self._root, label)
