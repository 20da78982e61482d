"""The leaf against recorded silicon."""

import pytest

from sevkit.probe import leaf
from sevkit.probe.leaf import Registers

# Values from public dumps of real parts.
NAPLES = Registers(0x0000000F, 0x0000016F, 0x0000000F, 0x00000001)
ROME = Registers(0x0001000F, 0x0000016F, 0x000001FD, 0x00000001)
MILAN = Registers(0x0101FD3F, 0x00004173, 0x000001FD, 0x00000080)
GENOA_ON = Registers(0x030FFFFB, 0x00004173, 0x000003EE, 0x00000064)
GENOA_OFF = GENOA_ON._replace(eax=0x030FFFEB)


def flags(registers: Registers) -> set[str]:
    return {name for name, value in leaf.decode(registers).items() if value is True}


def test_naples_has_encryption_and_no_asid_for_es() -> None:
    fields = leaf.decode(NAPLES)
    assert flags(NAPLES) == {"sme", "sev", "page_flush_msr", "sev_es"}
    assert (fields["c_bit_position"], fields["phys_addr_reduction"], fields["num_vmpl"]) == (47, 5, 0)
    assert (fields["num_encrypted_guests"], fields["min_sev_no_es_asid"]) == (15, 1)
    assert leaf.asids(NAPLES) == leaf.Asids(15, 0, (1, 15), None)


def test_rome_adds_vte_and_guests() -> None:
    assert flags(ROME) - flags(NAPLES) == {"vte"}
    assert leaf.asids(ROME).sev == 509


def test_the_host_of_the_published_study() -> None:
    fields = leaf.decode(MILAN)
    assert fields["c_bit_position"] == 51
    assert fields["phys_addr_reduction"] == 5
    assert fields["num_vmpl"] == 4
    assert leaf.asids(MILAN) == leaf.Asids(382, 127, (128, 509), (1, 127))


def test_a_firmware_setting_is_one_bit_of_the_leaf() -> None:
    assert flags(GENOA_ON) - flags(GENOA_OFF) == {"sev_snp"}
    assert flags(GENOA_OFF) <= flags(GENOA_ON)


@pytest.mark.parametrize(
    ("ecx", "edx", "sev", "es"),
    [(0, 0, 0, 0), (0, 5, 0, 0), (15, 0, 15, 0), (15, 1, 15, 0), (509, 510, 0, 509), (15, 100, 0, 15), (15, 15, 1, 14)],
)
def test_asid_ranges_at_the_edges(ecx: int, edx: int, sev: int, es: int) -> None:
    found = leaf.asids(Registers(0xF, 0, ecx, edx))
    assert (found.sev, found.sev_es_snp) == (sev, es)


def test_without_the_sev_bit_there_are_no_asids() -> None:
    assert leaf.asids(Registers(1, 0, 509, 128)) == leaf.Asids(0, 0, None, None)


@pytest.mark.parametrize(
    ("vendor", "highest", "registers", "expected"),
    [
        ("AuthenticAMD", 0x80000021, ROME, "present"),
        ("HygonGenuine", 0x80000021, ROME, "present"),
        ("AuthenticAMD", 0x80000021, Registers(0, 0, 0, 0), "masked"),
        ("AuthenticAMD", 0x8000001E, None, "beyond_max_leaf"),
        ("AuthenticAMD", 0x8000001E, ROME, "beyond_max_leaf"),
        ("GenuineIntel", 0x80000008, ROME, "not_amd"),
        ("AuthenticAMD", None, None, None),
        (None, None, Registers(0, 0, 0, 0), None),
    ],
)
def test_status(vendor: str | None, highest: int | None, registers: Registers | None, expected: str | None) -> None:
    assert leaf.status(vendor, highest, registers) == expected


def test_unknown_bits_are_reported() -> None:
    assert leaf.unknown_bits(Registers(0, 1 << 16 | 1 << 31, 0, 0)) == {"ebx": [16, 31]}
    assert leaf.unknown_bits(ROME) == {}
