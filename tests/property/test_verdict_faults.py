"""No fault, and no two, may turn a secret that the host can read into `protected`."""

import random

import pytest

from sevkit.vocabulary import Mode, Verdict
from tests.property.verdict_faults import cases, encrypted, false_protected, plain


def test_no_two_faults_make_a_false_protected() -> None:
    found = [case for case in cases(1000, seed=3) if false_protected(case)]
    assert [(case.mode, case.faults) for case in found] == []


@pytest.mark.parametrize("times", [1, 4, 16])
def test_without_faults_the_verdicts_are_right_at_every_size_of_ram(times: int) -> None:
    rng = random.Random(times)
    seen = set()
    for make in (plain, encrypted):
        for _ in range(40):
            case = make(rng, times)
            expected = Verdict.LEAKED if case.secrets else Verdict.PROTECTED
            assert case.verdict() is expected
            seen.add((case.mode, expected))
    assert {(Mode.SEV, Verdict.PROTECTED), (Mode.SEV_SNP, Verdict.PROTECTED)} <= seen
