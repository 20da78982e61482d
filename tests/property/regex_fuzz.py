"""Random expressions and random text: the scanner must find what Python's `re` finds.

`python -m tests.property.regex_fuzz PAIRS [SEED]` runs as many pairs as wanted (`make fuzz-regex`).
"""

import random
import re
import sys
import warnings
from collections.abc import Iterator

from sevkit.errors import UsageError
from sevkit.memory.search.regexes import LOOKAHEAD, LOOKBEHIND, MAX_MATCH, Expression

_ATOMS = [
    rb"\d",
    rb"\s",
    rb"\w",
    rb"\D",
    rb"\W",
    rb"[a-f]",
    rb"[^a]",
    rb"[0-9a-f]",
    rb"[-_=]",
    rb".",
    rb"\x00",
    rb"\xff",
]
_ATOMS += [bytes([code]) for code in b"ab1-_=: @k"] + [b"key", b"ab1", b"begin", b"=="]
_REPEATS = [b"", b"", b"", b"", b"", b"+", b"+?", b"*", b"?", b"{2}", b"{1,3}", b"{3,}", b"++"]
_ENDLESS = re.compile(rb"[*+]|,\}")
_REPEATED = re.compile(rb"[*+]|,\}|,\d")
BLOCK = 20_000
_FEW = [b"", b"", b"?", b"{2}", b"{1,2}"]
_TEXT = [bytes([code]) for code in b"ab1-_=: @kKA\n\x00\xff "] + [b"key", b"ab1", b"begin", b"1-", b" _", b"==", b"Key"]


def expression(rng: random.Random, depth: int = 2) -> bytes:
    """A random expression."""
    parts = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.random()
        if depth and kind < 0.12:
            part = (
                b"(" + rng.choice([b"", b"?:", b"?i:", b"?P<g%d>" % rng.getrandbits(30)]) + expression(rng, depth - 1)
            )
            part += b")"
        elif depth and kind < 0.22:
            part = b"(?:" + expression(rng, depth - 1) + b"|" + expression(rng, depth - 1) + b")"
        elif kind < 0.26:
            part = rng.choice([b"^", b"$", rb"\b", rb"\B"])
            parts.append(part)
            continue
        elif depth and kind < 0.30:
            parts.append(rng.choice([b"(?=", b"(?!"]) + expression(rng, 0) + b")")
            continue
        else:
            part = rng.choice(_ATOMS)
            if len(part) > 1 and part[:1] not in (b"\\", b"["):
                part = b"(?:" + part + b")" if rng.random() < 0.5 else part
        # A repeated group holds repeats of its own: without an end it could backtrack without end.
        parts.append(part + rng.choice(_FEW if part.startswith(b"(") else _REPEATS))
    flags = rng.choice([b""] * 6 + [b"(?i)", b"(?s)"]) if depth == 2 else b""
    return flags + b"".join(parts)


def text(rng: random.Random) -> bytes:
    """Some bytes that such expressions may match, within others that do not."""
    filler = rng.choice([b"z", b"\0", b" ", b"a", b"1"])
    middle = b"".join(rng.choices(_TEXT, k=rng.randint(1, 30)))
    return filler * rng.choice([0, 1, 15, 16, 17, 40, 100]) + middle + filler * rng.choice([0, 1, 20, 80])


_CLASSES = [rb"\d", rb"\w", rb"[0-9a-f]", rb"[a-f]", rb"[^a]", rb"\s", rb".", rb"[-_=]", rb"[^@]", rb"(?:a|[bk])"]
_FIXED = [b"-", b"@", b":", b"=", rb"\.com", b"key", b"1-", b"ab", b"(?i:Key)", b"(?:ab|key=|@1)", b"(?:-a|b_|1{3})"]
_RUNS = [b"", b"", b"{2}", b"{3}", b"{8}", b"{2,4}", b"+", b"+", b"*", b"+?", b"{3,}", b"{1,70}", b"{66}", b"{40,}"]
_LETTERS = [b"0123456789", b"abcdef01", b"ak_1b", b"a", b"1", b"-", b"@", b"\n\0", b"b."]


def with_runs(rng: random.Random) -> bytes:
    """Runs of a class with fixed bytes between them: factors in the middle, at any distance from the start."""
    parts = []
    for _ in range(rng.randint(1, 3)):
        parts += [rng.choice(_CLASSES) + rng.choice(_RUNS), rng.choice(_FIXED)]
    parts += [rng.choice(_CLASSES) + rng.choice(_RUNS)] * rng.randint(0, 1)
    whole = b"".join(parts[rng.randint(0, 1) :])
    return rng.choice([b"", b"", b"", rb"\b", b"(?i)", b"(?s)", b"^"]) + whole


def runs_of_text(rng: random.Random, *, long: bool) -> bytes:
    """Runs of letters and fixed bytes between them; with ``long``, a few are longer than a match may be."""
    parts = []
    longest = MAX_MATCH + rng.randint(-3, 100) if long and rng.random() < 0.02 else 0
    for _ in range(rng.randint(1, 12)):
        size = rng.choice([0, 1, 2, 3, 4, 5, 8, 9, 40, 66, 71])
        if longest and rng.random() < 0.2:
            size, longest = longest, 0
        parts.append(bytes(rng.choices(rng.choice(_LETTERS), k=size)))
        parts.append(
            rng.choice([b"-", b"@", b":", b"=", b".com", b"key", b"Key", b"1-", b"ab", b"kEy", b"@1", b"", b" "])
        )
    return b"".join(parts) * rng.choice([1, 1, 1, 3])


def in_pieces(ours: Expression, data: bytes, cuts: list[int]) -> list[tuple[int, int, int]]:
    """What is found if the memory is searched piece by piece, each with the context that it needs and no more."""
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        if start == end:
            continue
        low, high = max(0, start - LOOKBEHIND), min(len(data), end + LOOKAHEAD)
        view = memoryview(bytearray(data[low:high]))
        found += [(index, low + at, low + to) for index, at, to in ours.find(view, start - low, end - low, 1 << 20)]
    return found


def by_re(compiled: re.Pattern[bytes], data: bytes, *, each_place: bool = True) -> list[tuple[int, int, int]]:
    """What Python's engine finds: tried at each place or, faster, searched for behind each match.

    The second is the same for texts of less than MAX_MATCH bytes, unless `re` itself is wrong.
    """
    hits, covered = [], 0
    places = range(len(data)) if each_place else _places(compiled, data)
    for at in places:
        match = compiled.match(data, at, at + MAX_MATCH)
        if match and match.end() > max(covered, at):
            covered = match.end()
            hits.append((0, at, covered))
    return hits


def _places(compiled: re.Pattern[bytes], data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data) and (found := compiled.search(data, at)):
        yield found.start()
        at = found.start() + 1


def differences(pairs: int, seed: int, texts: int = 20) -> Iterator[tuple[bytes, bytes]]:
    """Expressions and texts on which the two differ."""
    rng = random.Random(seed)
    done = 0
    while done < pairs:
        runs = rng.random() < 0.5
        value = with_runs(rng) if runs else expression(rng)
        if len(_ENDLESS.findall(value)) > 3:  # several of them one after the other backtrack for minutes
            continue
        try:
            ours = Expression(value, [0])
        except UsageError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = re.compile(value, re.MULTILINE)
        for number in range(texts):
            # With several repeats that have no end, `re` takes minutes for a long run.
            data = runs_of_text(rng, long=len(_REPEATED.findall(value)) < 2) if runs else text(rng)
            cuts = sorted(rng.choices(range(len(data) + 1), k=rng.choice([0, 0, 1, 3])))
            found = in_pieces(ours, data, cuts)
            if found != by_re(theirs, data, each_place=number % 10 == 0 or len(data) >= MAX_MATCH):
                yield value, data
        done += texts


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    differ = 0
    for block in range(
        0, count, BLOCK
    ):  # each with a seed of its own, so that a run that is stopped has said something
        seed = first + block // BLOCK
        for value, data in differences(min(BLOCK, count - block), seed):
            differ += 1
            print(value, data)
        print(f"{min(block + BLOCK, count)} pairs of expression and text (seed {seed}), {differ} differ", flush=True)
    sys.exit(1 if differ else 0)
