"""The one table of modes agrees with itself and with what kernels and firmware say."""

from sevkit.model.snp_commands import POLICY_DEFAULT
from sevkit.vocabulary import ENCRYPTED, MODE_FACTS, Mode, labels_of, mode_from_word, sev_status


def test_every_mode_has_facts_and_every_word_one_mode() -> None:
    assert set(MODE_FACTS) == set(Mode)
    words = [word for facts in MODE_FACTS.values() for word in facts.words]
    assert len(words) == len(set(words))
    assert all(mode_from_word(str(mode)) is mode for mode in Mode)
    assert mode_from_word(" SEV_SNP ") is Mode.SEV_SNP
    assert mode_from_word("tdx") is None


def test_each_mode_builds_on_the_ones_below() -> None:
    assert [sev_status(mode) for mode in Mode] == [0, 1, 3, 7]
    assert labels_of(Mode.SEV_SNP) == "SEV SEV-ES SEV-SNP"
    assert labels_of(Mode.NOSEV) == ""


def test_default_policies_are_the_firmwares() -> None:
    assert MODE_FACTS[Mode.SEV_SNP].policy == POLICY_DEFAULT
    assert all((MODE_FACTS[mode].policy or 0) & 4 == (4 if mode is Mode.SEV_ES else 0) for mode in ENCRYPTED[:2])
