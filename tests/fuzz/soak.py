"""A million inputs per reader: ``python -m tests.fuzz.soak [--count N] [--seconds S] [--seed K] [TARGET]…``.

Without coverage guidance, and fast: inputs are changed in place, and what was changed is put back. The seed
and the count name the inputs, so that a find can be reproduced. One line is printed per target: the number of inputs,
how many the reader accepted, and the first find.
"""

import argparse
import random
import sys
import time
import traceback
from pathlib import Path

from sevkit.errors import SevkitError
from tests.fuzz.targets import TARGETS, Target

READERS = ("report", "evidence", "table", "certificates", "policy", "igvm", "firmware", "idblock")
_BYTES = (0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF)
_WORDS = (b"\xff" * 8, bytes(8), b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"[[[[", b'"\\', b"1e999", b"-1", b"\n")


def changed(data: bytearray, rng: random.Random, corpus: list[bytes]) -> None:
    """Change an input in place, in one to eight places. Mostly the length stays: most readers refuse another one."""
    bits, size = rng.getrandbits, len(data)
    for _ in range(1 + (bits(3) & bits(3))):
        at = bits(32) % (size or 1)
        kind = bits(4)
        if kind < 6:
            data[at : at + 1] = bytes((bits(8),))
        elif kind < 9:
            data[at : at + 1] = bytes((_BYTES[bits(16) % len(_BYTES)],))
        elif kind < 11:
            word = _WORDS[bits(16) % len(_WORDS)]
            data[at : at + len(word)] = word
        elif kind < 12:
            del data[at : at + 1 + bits(5)]
        elif kind < 13:
            data[at:at] = data[bits(32) % (size or 1) :][: bits(7)]
        elif kind < 14:
            other = corpus[bits(16) % len(corpus)]
            start = bits(32) % (len(other) or 1)
            data[at : at + 64] = other[start : start + 64]
        elif kind < 15 and bits(2) == 0:
            del data[at:]
        size = len(data)


def soak(target: Target, count: int, seconds: float, seed: int) -> tuple[int, int, str]:
    """Give a reader that many inputs, or as many as the time allows: (inputs, accepted, the first find)."""
    corpus = [path.read_bytes() for path in sorted(target.corpus.iterdir())]
    rng = random.Random(seed)
    accepted, end = 0, time.monotonic() + seconds
    for number in range(count):
        if not number % 256 and time.monotonic() > end:
            return number, accepted, ""
        data = bytearray(corpus[number % len(corpus)])
        changed(data, rng, corpus)
        try:
            target.read(bytes(data))
            accepted += 1
        except SevkitError:
            continue
        except Exception:
            (target.corpus / f"find-{seed}-{number}").write_bytes(data)
            return number, accepted, traceback.format_exc()
    return count, accepted, ""


def main() -> int:
    """Soak the targets; the exit status is 1 when there was a find."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.soak", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", default=READERS)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=1e9, help="for each target")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    finds = 0
    for name in options.targets:
        start = time.process_time()
        tried, accepted, find = soak(TARGETS[name], options.count, options.seconds, options.seed)
        spent = time.process_time() - start
        print(f"{name:12} seed {options.seed} {tried:>9,} inputs {accepted:>9,} accepted {spent:6.0f} s", flush=True)
        finds += bool(find)
        sys.stdout.write(find)
    return 1 if finds else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main())
