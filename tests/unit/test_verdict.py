"""A verdict is earned: anything unfinished, missing or unproven is inconclusive."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attacks.leak.verdict import Controls, Seen, decide
from sevkit.vocabulary import Evidence, Verdict

PASSED = Controls(positive=True, negative=True, secret_alive=True)
ENCRYPTED = Seen(0, True, 0, {"ciphertext": 900, "plaintext": 20, "zero": 80, "hole": 0})
PLAIN = Seen(3, True, 0, {"ciphertext": 1, "plaintext": 900, "zero": 99, "hole": 0})
UNMAPPED = Seen(0, True, 0, {"ciphertext": 0, "plaintext": 10, "zero": 10, "hole": 980})


def test_the_three_pictures() -> None:
    assert decide(PLAIN, PASSED).verdict is Verdict.LEAKED
    assert decide(PLAIN, PASSED).evidence is Evidence.PLAINTEXT
    assert decide(ENCRYPTED, PASSED).verdict is Verdict.PROTECTED
    assert decide(ENCRYPTED, PASSED).evidence is Evidence.CIPHERTEXT
    assert decide(UNMAPPED, PASSED).evidence is Evidence.HOLE


@pytest.mark.parametrize("control", ["positive", "negative", "secret_alive"])
@pytest.mark.parametrize("seen", [PLAIN, ENCRYPTED, UNMAPPED])
def test_each_failed_control_makes_it_inconclusive(control: str, seen: Seen) -> None:
    decision = decide(seen, replace(PASSED, **{control: False}))
    assert decision.verdict is Verdict.INCONCLUSIVE
    assert decision.reasons


def test_unfinished_or_missing_is_never_protected() -> None:
    assert decide(replace(ENCRYPTED, finished=False), PASSED).verdict is Verdict.INCONCLUSIVE
    assert decide(replace(ENCRYPTED, missing_bytes=4096), PASSED).verdict is Verdict.INCONCLUSIVE


def test_readable_memory_without_the_secret_proves_nothing() -> None:
    assert decide(replace(PLAIN, secret_hits=0), PASSED).verdict is Verdict.INCONCLUSIVE


@given(
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 2) | st.just(1 << 30),
    st.fixed_dictionaries({word: st.integers(0, 10**6) for word in ("ciphertext", "plaintext", "zero", "hole")}),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
def test_protected_needs_everything(
    hits: int, finished: bool, missing: int, pages: dict[str, int], controls: tuple[bool, bool, bool]
) -> None:
    decision = decide(Seen(hits, finished, missing, pages), Controls(*controls))
    if decision.verdict is Verdict.PROTECTED:
        assert hits == 0
        assert finished
        assert missing == 0
        assert all(controls)
        assert decision.evidence in {Evidence.CIPHERTEXT, Evidence.ZERO, Evidence.HOLE}
    if decision.verdict is Verdict.LEAKED:
        assert hits > 0
