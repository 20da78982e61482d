"""Launch policies: names, numbers, and what the firmware would say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.errors import UsageError
from sevkit.guest import policy
from sevkit.vocabulary import Mode

ENCRYPTED = [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP]


@pytest.mark.parametrize("mode", ENCRYPTED)
def test_the_default_is_accepted(mode: Mode) -> None:
    policy.check(policy.DEFAULTS[mode], mode)


@given(st.sampled_from(ENCRYPTED), st.data())
def test_names_set_their_bits_and_no_others(mode: Mode, data: st.DataObject) -> None:
    table = policy.SNP_BITS if mode is Mode.SEV_SNP else policy.SEV_BITS
    names = data.draw(st.lists(st.sampled_from(sorted(table)), unique=True))
    base = policy.parse("", mode)
    assert policy.parse(",".join(names), mode) == base | sum(
        1 << table[name] for name in names if not base >> table[name] & 1
    )


@given(st.integers(0, 2**64 - 1))
def test_snp_without_bit_17_or_with_reserved_bits_is_fatal(value: int) -> None:
    fatal = any(finding.fatal for finding in policy.lint(value, Mode.SEV_SNP))
    assert fatal == (not value >> 17 & 1 or value >> 25 != 0)


def test_debug_has_opposite_polarity() -> None:
    assert any("NODBG" in f.text for f in policy.lint(0x2, Mode.SEV))
    assert not any("NODBG" in f.text for f in policy.lint(0x3, Mode.SEV))
    assert any("DEBUG" in f.text for f in policy.lint(0x30000 | 1 << 19, Mode.SEV_SNP))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("0x30000", Mode.NOSEV),
        ("nodbg", Mode.SEV_SNP),
        ("bogus", Mode.SEV),
        ("0x1ffffffff", Mode.SEV),
        ("-1", Mode.SEV),
    ],
)
def test_nonsense_is_refused(text: str, mode: Mode) -> None:
    with pytest.raises(UsageError):
        policy.parse(text, mode)


def test_es_must_agree_with_the_mode() -> None:
    with pytest.raises(UsageError, match="sev-es"):
        policy.check(0x5, Mode.SEV)
    with pytest.raises(UsageError, match="bit 2"):
        policy.check(0x1, Mode.SEV_ES)
