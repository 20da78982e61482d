"""What a guest's own facts say about its mode: every source counts, none is taken for read that was not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.guest.verify import GuestFacts, judge
from sevkit.vocabulary import Mode

BOOT = "[    0.000000] Linux version 6.1.0-49-cloud-amd64\n"
# Lines as Linux 6.1 prints them in an SEV-SNP guest.
SNP_LINES = (
    "[    0.300000] Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP\n"
    "[    0.310000] SEV: Using SNP CPUID table, 31 entries present.\n"
    "[    1.100000] SEV: SNP guest platform device initialized.\n"
)
LOGS = {
    Mode.NOSEV: BOOT,
    Mode.SEV: f"{BOOT}[    0.3] Memory Encryption Features active: AMD SEV\n",
    Mode.SEV_ES: f"{BOOT}[    0.3] Memory Encryption Features active: AMD SEV SEV-ES\n",
    Mode.SEV_SNP: BOOT + SNP_LINES,
}
STATUS = {Mode.NOSEV: None, Mode.SEV: 1, Mode.SEV_ES: 3, Mode.SEV_SNP: 7}
EAX = {Mode.NOSEV: 0, Mode.SEV: 2, Mode.SEV_ES: 0xA, Mode.SEV_SNP: 0x1A}


def facts(mode: Mode) -> GuestFacts:
    return GuestFacts(STATUS[mode], (EAX[mode], 51, 0, 0), LOGS[mode])


@pytest.mark.parametrize("asked", list(Mode))
@pytest.mark.parametrize("real", list(Mode))
def test_each_mode_is_told_from_each_other_by_each_source(real: Mode, asked: Mode) -> None:
    findings = judge(facts(real), asked)
    assert len(findings) == (5 if asked is Mode.SEV_SNP else 3)
    for finding in findings[:3]:
        unreadable = finding.source == "SEV_STATUS" and real is Mode.NOSEV and asked is not Mode.NOSEV
        assert finding.agrees == (None if unreadable else real is asked), finding
    if asked is Mode.SEV_SNP:
        assert [finding.agrees for finding in findings[3:]] == [real is Mode.SEV_SNP] * 2


def test_the_entries_of_the_cpuid_table_are_recorded() -> None:
    assert facts(Mode.SEV_SNP).cpuid_entries == 31
    assert facts(Mode.SEV_ES).cpuid_entries is None


def test_a_log_that_has_lost_its_beginning_is_no_evidence_of_absence() -> None:
    cut = replace(facts(Mode.SEV_SNP), kernel_log="[  900.0] something later\n")
    assert [finding.agrees for finding in judge(cut, Mode.SEV_SNP)] == [True, True, None, None, None]
    assert judge(replace(cut, kernel_log=SNP_LINES), Mode.SEV)[2].agrees is False


@given(st.one_of(st.none(), st.integers(0, 2**64 - 1)), st.sampled_from(list(Mode)))
def test_only_the_exact_bits_of_the_mode_agree(status: int | None, mode: Mode) -> None:
    found = judge(replace(facts(mode), sev_status=status), mode)[0]
    bits = {Mode.NOSEV: 0, Mode.SEV: 1, Mode.SEV_ES: 3, Mode.SEV_SNP: 7}[mode]
    assert found.agrees == ((True if mode is Mode.NOSEV else None) if status is None else status & 7 == bits)
