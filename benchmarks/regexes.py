"""How fast expressions are searched for, next to hyperscan, side by side in one run: CPU time, one thread.

hyperscan is no dependency: `pip install hyperscan` into the environment to compare. Its side only reports where matches
end; sevkit's finds the matches, and their parts at the borders of pages. Run as ``python -m benchmarks.regexes``.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from sevkit.memory.search.regexes import LOOKAHEAD, LOOKBEHIND, Expression
from sevkit.memory.search.workers import CHUNK

MIB = 1 << 20
LIMIT = 10_000  # matches in one piece
EXPRESSIONS = {
    "social security number": rb"\d{3}-\d{2}-\d{4}",
    "UUID": rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "mail address": rb"\w+@\w+\.com",
    "32 hexadecimal digits": rb"[0-9a-f]{32}",
    "16 digits": rb"\d{16}",
    "20 capital letters": rb"[A-Z]{20}",
    "base64": rb"[A-Za-z0-9+/]{40,}",
    "AWS key": rb"AKIA[A-Z0-9]{16}",
    "password": rb"(?i)password=\S+",
    "IP address": rb"\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b",
    "private key": rb"(?:BEGIN RSA|BEGIN EC|BEGIN OPENSSH) PRIVATE KEY",
}
Search = Callable[[memoryview, int, int], object]


def memory(size: int) -> dict[str, bytes]:
    """Memory of several kinds, of ``size`` bytes each; hostile ones are what the expressions consist of."""
    rng = random.Random(5)
    library = Path(json.__file__).parents[1]
    programs = [Path(sys.executable).resolve(), *sorted(library.glob("lib-dynload/*.so"))]
    texts = sorted(library.glob("*.py"))
    kinds = {
        "noise": rng.randbytes(size),
        "programs": b"".join(path.read_bytes() for path in programs),
        "nearly empty pages": b"\1" + bytes(4095),
        "text": b"".join(path.read_bytes() for path in texts),
    }
    quarters = b"".join(_filled(part, size // 4) for part in kinds.values())
    hostile = {"digits": b"0123456789", "hexadecimal digits": b"0123456789abcdef", "digits and -": b"0123456789-"}
    hostile |= {"-": b"-", "@": b"@", "word characters and @": b"ab@."}
    kinds |= {f"only {name}": bytes(rng.choices(letters, k=MIB)) for name, letters in hostile.items()}
    return {"all of these": quarters} | {name: _filled(part, size) for name, part in kinds.items()}


def _filled(part: bytes, size: int) -> bytes:
    return b"".join(islice(cycle([part]), size // len(part) + 1))[:size]


def by_hyperscan(value: bytes) -> Search:
    """Hyperscan's block mode; it stops, as sevkit does, when there are too many matches."""
    hyperscan: Any = importlib.import_module("hyperscan")
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=[value], ids=[0], elements=1, flags=[hyperscan.HS_FLAG_MULTILINE])
    scratch = hyperscan.Scratch(database)

    def search(data: memoryview, core_start: int, core_end: int) -> object:
        del core_start, core_end
        ends: list[int] = []

        def on_match(_number: int, _start: int, end: int, _flags: int, _context: object) -> bool:
            ends.append(end)
            return len(ends) > LIMIT

        with contextlib.suppress(hyperscan.ScanTerminated):
            database.scan(data, match_event_handler=on_match, scratch=scratch)
        return ends

    return search


def by_sevkit(value: bytes) -> Search:
    """What a thread of `sevkit scan` does with each piece that it has copied."""
    expression = Expression(value, [0])
    return lambda data, core_start, core_end: expression.search(data, core_start, core_end, LIMIT)


def seconds(search: Search, data: memoryview, buffer: bytearray) -> float:
    """CPU seconds for all pieces; copying them is not counted."""
    spent = 0.0
    for start in range(0, len(data), CHUNK):
        low, end = max(0, start - LOOKBEHIND), min(len(data), start + CHUNK)
        piece = memoryview(buffer)[: min(len(data), end + LOOKAHEAD) - low]
        piece[:] = data[low : low + len(piece)]
        began = time.process_time()
        search(piece, start - low, end - low)
        spent += time.process_time() - began
    return spent


def main() -> None:
    """Run all comparisons and print them as JSON: speed, and time as a share of hyperscan's (median, least, most)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=32, help="size of the memory of each kind")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    sides = {"sevkit": by_sevkit}
    if importlib.util.find_spec("hyperscan"):
        sides["hyperscan"] = by_hyperscan
    buffer = bytearray(CHUNK + LOOKBEHIND + LOOKAHEAD)
    results: dict[str, dict[str, object]] = {}
    for kind, data in memory(options.mib * MIB).items():
        for name, value in EXPRESSIONS.items():
            searches = {side: make(value) for side, make in sides.items()}
            times: dict[str, list[float]] = {side: [] for side in searches}
            for _ in range(options.repeats):
                for side, search in searches.items():
                    times[side].append(seconds(search, memoryview(data), buffer))
            row: dict[str, object] = {
                f"{side}_gb_s": len(data) / statistics.median(t) / 1e9 for side, t in times.items()
            }
            if "hyperscan" in times:
                shares = [one / other for one, other in zip(times["sevkit"], times["hyperscan"], strict=True)]
                row["share"] = {"median": statistics.median(shares), "least": min(shares), "most": max(shares)}
            results.setdefault(kind, {})[name] = row
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
