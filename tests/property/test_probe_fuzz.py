"""Hostile files: mutated dumps, logs and snapshots end in an answer or a typed error, never in a wrong "supported".

The seeds make a run repeatable; SEVKIT_FUZZ_INPUTS raises the number of inputs (10**6 were run once).
"""

import json
import os
import random

import pytest

from sevkit.errors import BadInputError
from sevkit.probe.dumps import read_dump
from sevkit.probe.facts import parse
from sevkit.probe.klog import judge, read_log
from sevkit.probe.leaf import LEAF
from sevkit.probe.report import report
from sevkit.probe.sources import facts_from
from tests.unit import probe_samples as sample
from tests.unit.test_probe_dumps import INST, RAW

INPUTS = int(os.environ.get("SEVKIT_FUZZ_INPUTS", "4000"))
_TOKENS = [
    b"CPU", b"CPU 0:", b"CPU 99999999999:", b"CPUID ", b"0x", b"0x8000001f 0x00:", b" eax=0x", b"8000001F", b":", b"-",
    b"\n", b"\r", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"[SL ", b"]", b"Logical CPU #", b"\xc2\x85", b"\xe2\x80\xa8",
    b" ", b"\t", b"f" * 40, b"#", b"\x1b[31m", b"\xd9\xa1\xd9\xa2", b"{", b"\"", b"ebx=0x0000016f",
    b"SEV enabled (ASIDs 1 - 99)",
]  # fmt: skip


def mutated(rng: random.Random, data: bytes) -> bytes:
    """``data`` after one to eight of: cut, doubled or swapped pieces, changed bytes, put-in tokens."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        at, to = sorted((rng.randint(0, len(out)), rng.randint(0, len(out))))
        match rng.randint(0, 6):
            case 0:
                del out[at : min(to, at + rng.randint(1, 40))]
            case 1:
                del out[at:]
            case 2:
                out[at:at] = out[at : min(to, at + 120)]
            case 3 if out:
                out[at % len(out)] = rng.randint(0, 255)
            case 4:
                out[at:at] = rng.choice(_TOKENS)
            case 5:
                out[at:at] = rng.randbytes(rng.randint(1, 12))
            case 6 if out:
                out[at % len(out)] ^= 1 << rng.randint(0, 7)
    return bytes(out)


@pytest.mark.parametrize(("seed", "text"), [(1, RAW), (2, INST)], ids=["cpuid-r", "instlatx64"])
def test_dumps(seed: int, text: str) -> None:
    """A leaf that the reader believes stands in the file, digit for digit."""
    rng = random.Random(seed)
    for _ in range(INPUTS):
        data = mutated(rng, text.encode())
        try:
            dump = read_dump(data)
        except BadInputError as error:
            assert error.message.isprintable()
            continue
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        plain = data.decode("utf-16" if wide else "utf-8", "replace")
        for cpu in dump.cpus:
            found = cpu.leaves.get((LEAF, 0))
            if found is not None:
                assert all(f"{value:08x}" in plain.lower() for value in found)


def test_whatever_is_given_to_from() -> None:
    rng = random.Random(3)
    saved = json.dumps(sample.ready(1)).encode()
    for number in range(INPUTS // 4):
        data = mutated(rng, (RAW.encode(), INST.encode(), saved, rng.randbytes(200))[number % 4])
        try:
            answer = report(facts_from(data, "x"))
        except BadInputError:
            continue
        json.dumps(answer, ensure_ascii=False).encode()


def test_snapshots() -> None:
    rng = random.Random(4)
    saved = json.dumps(sample.ready(1)).encode()
    for _ in range(INPUTS // 4):
        try:
            answer = report(parse(mutated(rng, saved), "x"))
        except BadInputError:
            continue
        json.dumps(answer, ensure_ascii=False).encode()


def test_logs() -> None:
    rng = random.Random(5)
    log = "\n".join(f"[    {n}.000000] {line}" for n, line in enumerate(sample.LOG)).encode()
    for _ in range(INPUTS // 2):
        try:
            answer = judge(read_log(mutated(rng, log), "x"))
        except BadInputError:
            continue
        json.dumps(answer, ensure_ascii=False).encode()
        assert set(answer["host"].values()) <= {"usable", "unusable", "unknown"}
