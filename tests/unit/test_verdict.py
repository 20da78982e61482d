"""A verdict is earned: anything unfinished, missing or unproven is inconclusive."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attacks.leak.verdict import Controls, Seen, decide, fits
from sevkit.vocabulary import Evidence, Mode, Verdict

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
