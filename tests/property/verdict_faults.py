"""Leak experiments with random faults, simulated on recorded captures: no verdict may be a false `protected`.

The captures (tests/data/leak_captures.json) are the page classes of two real guests of 512 MiB in QEMU, one plain and one
encrypted by the emulator. A case takes a guest that protects nothing, or one that shows some of its secrets, or one
that shows none, in a mode; then one or two things go wrong. `python -m tests.property.verdict_faults CASES [SEED]`
prints the figures of docs/reliability.md (`make faults-verdict`).
"""

import base64
import json
import random
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sevkit.attacks.leak.seen import SecondLook, Seen, weigh
from sevkit.attacks.leak.verdict import Controls
from sevkit.guest.secrets import GuestWord
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.layout import GuestRange
from sevkit.memory.guest_ram.picture import GuestPages
from sevkit.memory.search.scan import ScanResult
from sevkit.memory.sources.base import PAGE, Coverage
from sevkit.vocabulary import Mode, Verdict

Classes = np.ndarray[tuple[int], np.dtype[np.uint8]]
_FILE = Path(__file__).parent.parent / "data" / "leak_captures.json"


@dataclass
class Case:
    """What is true (``secrets``: pages where the host can read one), and what the experiment gets to see of it."""

    mode: Mode
    classes: Classes
    secrets: set[int]
    told: list[int]
    used: int
    missed: list[range] = field(default_factory=list)  # pages that the search did not see, without noticing
    lost: list[range] = field(default_factory=list)  # pages that the search could not read
    unseen_again: list[range] = field(default_factory=list)  # pages that cannot be read at all
    absent: int = 0  # pages that are not in the capture
    finished: bool = True
    alive: bool = True
    markers: bool = True
    faults: list[str] = field(default_factory=list)

    def verdict(self) -> Verdict:
        """What the experiment concludes."""
        size = len(self.classes) * PAGE
        pages = GuestPages((GuestRange("ram", 0, size, 0),), self.classes)
        unread = int(np.count_nonzero(self.classes == PageClass.UNREAD))
        hits = _outside(self.secrets, self.missed + self.lost)
        lost = sum(map(len, self.lost))
        covered = {
            "guest_ram_bytes": size,
            "read_bytes": size - (lost + self.absent) * PAGE,
            "unreadable_bytes": max(lost, unread) * PAGE,
            "unpopulated_bytes": 0,
        }
        again = SecondLook()
        if not hits:
            again = SecondLook(_outside(self.secrets, self.unseen_again), sum(map(len, self.unseen_again)) * PAGE)
        found = ScanResult((), Coverage(size, size, 0, {}), self.finished, None, 0.0, 1)
        word = GuestWord(self.used, tuple(page * PAGE for page in self.told))
        seen = Seen({}, found, pages, covered, [], word, second_look=again)
        return weigh(self.mode, seen, hits, Controls(self.markers, True, self.alive)).verdict


def _outside(pages: set[int], ranges: list[range]) -> int:
    return sum(not any(page in span for span in ranges) for page in pages)


@cache
def _captures() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(_FILE.read_text())
    for capture in found.values():
        capture["pages"] = np.frombuffer(zlib.decompress(base64.b64decode(capture["pages"])), dtype=np.uint8)
    return found


def _classes(capture: dict[str, Any], rng: random.Random, mode: Mode, times: int) -> Classes:
    """The recorded pages, in a guest with so many times the RAM and the same use; SNP maps nothing that is private.

    A larger guest is simulated at the same cost: each place stands for ``times`` pages.
    """
    pages = capture["pages"][::times]
    found = np.full(len(pages) * times, rng.choice([PageClass.ZERO, PageClass.HOLE]), dtype=np.uint8)
    found[: len(pages)] = pages
    if mode is Mode.SEV_SNP:
        found[found == PageClass.CIPHERTEXT] = rng.choice([PageClass.HOLE, PageClass.ZERO])
    return found


def plain(rng: random.Random, times: int = 1) -> Case:
    """A guest in any mode that protects nothing: the host reads every secret."""
    capture = _captures()["nosev"]
    mode = rng.choice(list(Mode))
    secrets = {gpa // PAGE // times for gpa in capture["hits"]}
    classes = _classes(capture, rng, Mode.NOSEV, times)
    classes[list(secrets)] = PageClass.PLAINTEXT
    return Case(mode, classes, secrets, [rng.choice(sorted(secrets))], capture["used_pages"] // times)


def encrypted(rng: random.Random, times: int = 1) -> Case:
    """A guest that protects its memory; some of its secrets may stand in the clear nevertheless."""
    capture = _captures()["sev"]
    mode = rng.choice([Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
    private = np.flatnonzero(capture["pages"][::times] == PageClass.CIPHERTEXT)
    classes = _classes(capture, rng, mode, times)
    places = [int(page) for page in rng.choices(private.tolist(), k=4)]
    shown = set(places[: rng.choice([0, 0, 1, 1, 2, 4])])
    classes[list(shown)] = PageClass.PLAINTEXT
    return Case(mode, classes, shown, [places[rng.randrange(4)]], capture["used_pages"] // times)


def _span(case: Case, rng: random.Random) -> range:
    """Some pages: one, some, or all up to the end; often around a secret, which is where it matters."""
    pages = len(case.classes)
    start = rng.choice(sorted(case.secrets)) if case.secrets and rng.random() < 0.6 else rng.randrange(pages)
    start = max(0, start - rng.choice([0, 0, 1, 255]))
    return range(start, min(pages, start + rng.choice([1, 2, 256, 5000, pages])))


def _unreadable(case: Case, rng: random.Random) -> None:
    span = _span(case, rng)
    case.lost.append(span)
    case.unseen_again.append(span)
    case.classes[span.start : span.stop] = PageClass.UNREAD


def _unreadable_once(case: Case, rng: random.Random) -> None:
    case.lost.append(_span(case, rng))


def _unclassed(case: Case, rng: random.Random) -> None:
    span = _span(case, rng)
    case.classes[span.start : span.stop] = PageClass.UNREAD


def _cut(case: Case, rng: random.Random) -> None:
    span = _span(case, rng)
    case.absent += len(span)
    case.missed.append(span)
    case.classes[span.start : span.stop] = PageClass.HOLE


def _zeroed(case: Case, rng: random.Random) -> None:
    """As gdb does, without a word: what it cannot read, and what follows."""
    span = _span(case, rng)
    case.missed.append(span)
    case.classes[span.start : span.stop] = PageClass.ZERO


def _zeroed_for_a_bad_page(case: Case, rng: random.Random) -> None:
    _zeroed(case, rng)
    case.unseen_again.append(case.missed[-1][:1])


def _raced(case: Case, rng: random.Random) -> None:
    """The guest goes on while it is read: pages change, and what is moved is missed."""
    moved = rng.choices(sorted(case.secrets), k=rng.randint(1, 4)) if case.secrets else []
    case.missed += [range(page, page + 1) for page in moved]
    for _ in range(rng.randint(1, 50)):
        case.classes[rng.randrange(len(case.classes))] = case.classes[rng.randrange(len(case.classes))]


def _interrupted(case: Case, rng: random.Random) -> None:
    case.finished = False
    case.missed.append(_span(case, rng))


def _forgotten(case: Case, rng: random.Random) -> None:
    """The guest drops a page, with or without having held it to the end."""
    if case.secrets:
        case.secrets.discard(rng.choice(sorted(case.secrets)))
    case.alive = False


def _shifted(case: Case, rng: random.Random) -> None:
    """Guest RAM is thought to lie elsewhere: pages stand for others, or for none."""
    shift = rng.choice([1, 256, 0x80000, len(case.classes) // 2])
    case.told = [page + shift for page in case.told]
    case.markers = rng.random() < 0.5


def _shuffled(case: Case, rng: random.Random) -> None:
    at = rng.randrange(len(case.classes))
    case.classes = np.roll(case.classes, at)


def _silent_guest(case: Case, rng: random.Random) -> None:
    """The guest cannot say what it uses, or where its secrets are."""
    case.used, case.told = rng.choice([(0, []), (0, case.told), (case.used, [])])


def _no_marker(case: Case, _: random.Random) -> None:
    case.markers = False


FAULTS: dict[str, Callable[[Case, random.Random], None]] = {
    "pages cannot be read": _unreadable,
    "pages cannot be read by the search": _unreadable_once,
    "pages cannot be read after the search": _unclassed,
    "a mapping is cut off": _cut,
    "pages and what follows are zeros in the capture": _zeroed,
    "the same, because of a page that nobody can read": _zeroed_for_a_bad_page,
    "the guest changes and moves pages meanwhile": _raced,
    "the VMM ends or the search stops": _interrupted,
    "the guest loses a secret": _forgotten,
    "guest RAM lies elsewhere": _shifted,
    "blocks of guest RAM are mistaken for others": _shuffled,
    "the guest cannot say where its secrets are": _silent_guest,
    "a marker is gone": _no_marker,
}


def cases(count: int, seed: int) -> Iterator[Case]:
    """Random cases with one or two faults each."""
    rng = random.Random(seed)
    for _ in range(count):
        case = rng.choice([plain, encrypted])(rng, rng.choice([1, 4, 16]))
        exposed = set(case.secrets)
        for name in rng.sample(list(FAULTS), rng.choice([1, 2])):
            FAULTS[name](case, rng)
            case.faults.append(name)
        if not case.secrets and exposed:
            case.alive = False  # what the guest lost, it could not read back
        yield case


def false_protected(case: Case) -> bool:
    """Whether the verdict says `protected` though the host can read a secret."""
    return case.verdict() is Verdict.PROTECTED and bool(case.secrets)


if __name__ == "__main__":
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    verdicts: Counter[str] = Counter()
    wrong = 0
    for each in cases(count, first):
        verdict = each.verdict()
        verdicts[f"{'readable' if each.secrets else 'hidden'}: {verdict}"] += 1
        if verdict is Verdict.PROTECTED and each.secrets:
            wrong += 1
            print("FALSE", each.mode, each.faults, sorted(each.secrets)[:4])
    print(f"{count} cases, {wrong} false `protected`; {dict(sorted(verdicts.items()))}")
    sys.exit(1 if wrong else 0)
