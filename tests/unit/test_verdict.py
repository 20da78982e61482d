"""A verdict is earned: anything unfinished, missing or unproven is inconclusive."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attacks.leak.seen import SecondLook, coverage, secret_pages, weigh
from sevkit.attacks.leak.seen import Seen as Capture
from sevkit.attacks.leak.verdict import Controls, Seen, decide, fits
from sevkit.guest.secrets import GuestWord
from sevkit.memory.guest_ram.classes import PageClass
from sevkit.memory.guest_ram.layout import GuestMap, GuestRange
from sevkit.memory.guest_ram.picture import GuestPages
from sevkit.memory.search.scan import ScanResult
from sevkit.memory.sources.base import PAGE, Coverage, State, Stretch, normalise
from sevkit.vocabulary import Evidence, Mode, Verdict
from tests.property.test_scan_law import Islands

PASSED = Controls(positive=True, negative=True, secret_alive=True)
ENCRYPTED = Seen(0, True, 0, {"ciphertext": 900, "plaintext": 20, "zero": 80, "hole": 0})
PLAIN = Seen(3, True, 0, {"ciphertext": 1, "plaintext": 900, "zero": 99, "hole": 0})
UNMAPPED = Seen(0, True, 0, {"ciphertext": 0, "plaintext": 10, "zero": 10, "hole": 980})
IN_PLACE = (Mode.SEV, Mode.SEV_ES)
# As measured once: a plain guest, its secrets lost in the capture, all controls passed.
LOST = Seen(0, True, 0, {"zero": 117782, "plaintext": 13290, "ciphertext": 0, "hole": 0})


def test_the_three_pictures() -> None:
    assert decide(Mode.NOSEV, PLAIN, PASSED).verdict is Verdict.LEAKED
    assert decide(Mode.NOSEV, PLAIN, PASSED).evidence is Evidence.PLAINTEXT
    assert decide(Mode.SEV, ENCRYPTED, PASSED).verdict is Verdict.PROTECTED
    assert decide(Mode.SEV, ENCRYPTED, PASSED).evidence is Evidence.CIPHERTEXT
    assert decide(Mode.SEV_SNP, UNMAPPED, PASSED).verdict is Verdict.PROTECTED
    assert decide(Mode.SEV_SNP, UNMAPPED, PASSED).evidence is Evidence.HOLE


@pytest.mark.parametrize("control", ["positive", "negative", "secret_alive"])
@pytest.mark.parametrize("seen", [PLAIN, ENCRYPTED, UNMAPPED])
@pytest.mark.parametrize("mode", Mode)
def test_each_failed_control_makes_it_inconclusive(mode: Mode, control: str, seen: Seen) -> None:
    decision = decide(mode, seen, replace(PASSED, **{control: False}))
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons


def test_unfinished_or_missing_is_never_protected() -> None:
    assert decide(Mode.SEV, replace(ENCRYPTED, finished=False), PASSED).verdict is Verdict.INCONCLUSIVE
    assert decide(Mode.SEV, replace(ENCRYPTED, missing_bytes=1), PASSED).verdict is Verdict.INCONCLUSIVE
    assert decide(Mode.SEV, replace(ENCRYPTED, second_look=1), PASSED).verdict is Verdict.INCONCLUSIVE
    assert decide(Mode.SEV, replace(ENCRYPTED, parts=1), PASSED).verdict is Verdict.INCONCLUSIVE
    assert decide(Mode.SEV, replace(ENCRYPTED, moved=("it ran",)), PASSED).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", Mode)
def test_readable_memory_without_the_secret_proves_nothing(mode: Mode) -> None:
    assert decide(mode, replace(PLAIN, secret_hits=0), PASSED).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("more", [0, 2048, 3 * 131072, 15 * 131072])
def test_a_plain_guest_is_not_protected_however_much_empty_memory_it_has(mode: Mode, more: int) -> None:
    """512 MiB, 520 MiB, 2 GiB and 8 GiB, of which the guest uses the same."""
    pages = {**LOST.pages, "zero": LOST.pages["zero"] + more}
    for used in (0, 13_500):
        assert decide(mode, replace(LOST, pages=pages, used_pages=used), PASSED).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", IN_PLACE)
def test_encryption_in_place_shows_ciphertext_or_nothing_is_said(mode: Mode) -> None:
    assert decide(mode, UNMAPPED, PASSED).verdict is Verdict.INCONCLUSIVE
    assert decide(mode, replace(ENCRYPTED, used_pages=1500), PASSED).verdict is Verdict.PROTECTED
    too_few = replace(ENCRYPTED, used_pages=10_000)
    assert decide(mode, too_few, PASSED).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("mode", "word", "protected"),
    [
        (Mode.SEV, "ciphertext", True),
        (Mode.SEV, "zero", False),
        (Mode.SEV, "hole", False),
        (Mode.SEV_ES, "plaintext", False),
        (Mode.SEV_SNP, "hole", True),
        (Mode.SEV_SNP, "zero", True),
        (Mode.SEV_SNP, "plaintext", False),
        (Mode.SEV_SNP, "nowhere", False),
        (Mode.SEV_SNP, "unread", False),
    ],
)
def test_the_page_that_holds_a_secret_looks_as_the_mode_makes_it_look(mode: Mode, word: str, protected: bool) -> None:
    seen = replace(UNMAPPED if mode is Mode.SEV_SNP else ENCRYPTED, secret_pages={word: 1})
    assert (decide(mode, seen, PASSED).verdict is Verdict.PROTECTED) == protected


@given(
    st.sampled_from(Mode),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 2) | st.just(1 << 30),
    st.fixed_dictionaries({word: st.integers(0, 10**6) for word in ("ciphertext", "plaintext", "zero", "hole")}),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.integers(0, 2),
)
def test_protected_needs_everything(
    mode: Mode,
    hits: int,
    finished: bool,
    missing: int,
    pages: dict[str, int],
    controls: tuple[bool, bool, bool],
    again: int,
) -> None:
    decision = decide(mode, Seen(hits, finished, missing, pages, second_look=again), Controls(*controls))
    if decision.verdict is Verdict.PROTECTED:
        assert hits == missing == again == 0
        assert finished
        assert all(controls)
        assert mode is not Mode.NOSEV
        assert decision.evidence is Evidence.CIPHERTEXT or mode is Mode.SEV_SNP
        assert decision.evidence in {Evidence.CIPHERTEXT, Evidence.ZERO, Evidence.HOLE}
    if decision.verdict is Verdict.LEAKED:
        assert hits > 0


@pytest.mark.parametrize(
    ("mode", "pages", "seen", "fitting"),
    [
        (Mode.NOSEV, {"plaintext": 900, "zero": 100}, Evidence.PLAINTEXT, True),
        (Mode.SEV, {"plaintext": 10, "ciphertext": 900}, Evidence.CIPHERTEXT, True),
        (Mode.SEV, {"plaintext": 900, "ciphertext": 10}, Evidence.PLAINTEXT, False),
        (Mode.NOSEV, {"plaintext": 10, "ciphertext": 900}, Evidence.CIPHERTEXT, False),
        (Mode.SEV_SNP, {"plaintext": 10, "hole": 9000}, Evidence.HOLE, True),
        (Mode.SEV, {"hole": 9000}, Evidence.HOLE, False),
        (Mode.SEV, {}, None, False),
    ],
)
def test_what_memory_looks_like_fits_its_mode_or_not(
    mode: Mode, pages: dict[str, int], seen: Evidence | None, fitting: bool
) -> None:
    assert fits(mode, pages) == (seen, fitting)


RAM = 64 * PAGE
BASE = 1 << 30
READ = {"guest_ram_bytes": RAM, "read_bytes": RAM, "unreadable_bytes": 0, "unpopulated_bytes": 0}


def weighed(word: GuestWord | None = None, **changed: Any) -> Verdict:
    """The verdict on a capture of a guest in SEV that shows ciphertext everywhere, with something changed."""
    classes = np.full(RAM // PAGE, PageClass.CIPHERTEXT, dtype=np.uint8)
    pages = GuestPages((GuestRange("ram", 0, RAM, BASE),), classes, changed.pop("stopped", None))
    found = ScanResult((), Coverage(RAM, RAM, 0, {}), changed.pop("finished", True), None, 0.0, 1)
    covered = {**READ, **changed.pop("coverage", {})}
    return weigh(Mode.SEV, Capture({}, found, pages, covered, [], word or GuestWord(60), **changed), 0, PASSED).verdict


@pytest.mark.parametrize(
    "changed",
    [
        {"finished": False},
        {"stopped": "the VMM ended"},
        {"coverage": {"read_bytes": RAM - 1}},
        {"coverage": {"unreadable_bytes": 1}},
        {"second_look": SecondLook(secrets=1)},
        {"second_look": SecondLook(missing_bytes=1)},
        {"second_look": SecondLook(moved=("it ran",))},
        {"parts": 1},
        {"word": GuestWord(200)},
        {"word": GuestWord(60, (RAM,))},
    ],
)
def test_each_gap_in_what_was_seen_alone_makes_it_inconclusive(changed: dict[str, Any]) -> None:
    assert weighed() is Verdict.PROTECTED
    assert weighed(coverage={"read_bytes": RAM - PAGE, "unpopulated_bytes": PAGE}) is Verdict.PROTECTED
    assert weighed(**changed) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_a_secret_in_a_page_outside_of_guest_ram_fits_no_mode(mode: Mode) -> None:
    pages = GuestPages((GuestRange("ram", 0, RAM, BASE),), np.full(RAM // PAGE, PageClass.HOLE, dtype=np.uint8))
    found = ScanResult((), Coverage(RAM, RAM, 0, {}), True, None, 0.0, 1)
    seen = Capture({}, found, pages, READ, [], GuestWord(60, (RAM, 0)))
    assert secret_pages(seen) == {"nowhere": 1, "hole": 1}
    assert weigh(mode, seen, 0, PASSED).verdict is Verdict.INCONCLUSIVE


@given(
    st.lists(st.sampled_from(State), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(-4, 70), st.integers(0, 9)), max_size=3),
    st.integers(0, 64),
)
def test_what_was_not_read_of_guest_ram_is_never_counted_as_read(
    states: list[State], lost: list[tuple[int, int]], unread: int
) -> None:
    """Two pages in each state, from two pages before guest RAM on; what is beyond them is not mapped."""
    source = Listed([Stretch(BASE + (2 * n - 2) * PAGE, BASE + 2 * n * PAGE, state) for n, state in enumerate(states)])
    spans = normalise((BASE + at * PAGE, BASE + (at + size) * PAGE) for at, size in lost)
    of = {
        at: state for part in source.stretches() for at in range(part.start, part.end, PAGE) for state in [part.state]
    }
    gone = {at for start, end in spans for at in range(start, end, PAGE) if of.get(at) is State.DATA}
    spans = normalise((at, at + PAGE) for at in gone)
    found = ScanResult((), Coverage(RAM, RAM, 0, {}), True, None, 0.0, 1, tuple(spans))
    counts = coverage(source, GuestMap([GuestRange("ram", 0, RAM, BASE)]), found, {"unread": unread})
    inside = {at: state for at, state in of.items() if BASE <= at < BASE + RAM}
    assert counts["read_bytes"] == PAGE * sum(state is State.DATA and at not in gone for at, state in inside.items())
    bad = sum(state is State.UNREADABLE or at in gone for at, state in inside.items())
    assert counts["unreadable_bytes"] == PAGE * max(bad, unread)
    assert counts["unpopulated_bytes"] == PAGE * sum(state is State.UNPOPULATED for state in inside.values())


class Listed(Islands):
    """Memory of which only the list of stretches is asked for."""

    def __init__(self, stretches: list[Stretch]) -> None:
        super().__init__([])
        self.listed = stretches

    def stretches(self) -> list[Stretch]:
        return self.listed


@pytest.mark.parametrize(
    ("mode", "pages", "used", "evidence"),
    [
        (Mode.SEV, {}, 0, None),
        (Mode.SEV_ES, {"hole": 9000}, 0, Evidence.HOLE),
        (Mode.SEV, {"ciphertext": 600, "plaintext": 400}, 0, Evidence.PLAINTEXT),
        (Mode.SEV, {"ciphertext": 600, "plaintext": 10}, 2000, Evidence.ZERO),
        (Mode.SEV, {"ciphertext": 400, "plaintext": 10}, 1000, Evidence.ZERO),
        (Mode.SEV_ES, {"ciphertext": 100, "plaintext": 200}, 3000, Evidence.PLAINTEXT),
    ],
)
def test_pages_that_do_not_look_as_the_mode_makes_them_look_prove_nothing(
    mode: Mode, pages: dict[str, int], used: int, evidence: Evidence | None
) -> None:
    decision = decide(mode, Seen(0, True, 0, pages, used_pages=used), PASSED)
    assert (decision.verdict, decision.evidence) == (Verdict.INCONCLUSIVE, evidence)
