"""Laws of the leaf decoder: encode and decode are inverse, no set bit is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.probe import leaf
from sevkit.probe.leaf import BY_NAME, FIELDS, REGISTERS, Field, Registers

WORD = st.integers(0, 0xFFFFFFFF)
ANY = st.builds(Registers, WORD, WORD, WORD, WORD)


@given(ANY)
def test_encode_is_the_inverse_of_decode(registers: Registers) -> None:
    assert leaf.encode(leaf.decode(registers), leaf.unknown_bits(registers)) == registers


@given(ANY)
def test_every_set_bit_is_in_a_field_or_reported_as_unknown(registers: Registers) -> None:
    unknown = leaf.unknown_bits(registers)
    for name, value in zip(REGISTERS, registers, strict=True):
        for bit in range(32):
            covered = any(f.register == name and f.low <= bit < f.low + f.width for f in FIELDS)
            assert (bit in unknown.get(name, [])) == (bool(value >> bit & 1) and not covered)


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
@given(data=st.data())
def test_each_field_survives_alone(field: Field, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, (1 << field.width) - 1))
    registers = leaf.encode({field.name: value})
    decoded = leaf.decode(registers)
    assert decoded.pop(field.name) == value
    assert not any(decoded.values())
    assert registers[REGISTERS.index(field.register)] == value << field.low


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
def test_a_value_too_wide_is_refused(field: Field) -> None:
    with pytest.raises(ValueError, match=field.name):
        leaf.encode({field.name: 1 << field.width})


@given(ANY)
def test_asid_ranges_never_overlap_and_stay_within_the_maximum(registers: Registers) -> None:
    found = leaf.asids(registers)
    for count, span in ((found.sev, found.sev_range), (found.sev_es_snp, found.sev_es_snp_range)):
        assert count == (span[1] - span[0] + 1 if span else 0)
        if span:
            assert 1 <= span[0] <= span[1] <= registers.ecx
    if found.sev_range and found.sev_es_snp_range:
        assert found.sev_es_snp_range[1] < found.sev_range[0]


def test_no_two_fields_share_a_bit_or_a_name() -> None:
    taken = [(f.register, bit) for f in FIELDS for bit in range(f.low, f.low + f.width)]
    assert len(taken) == len(set(taken))
    assert len(BY_NAME) == len(FIELDS)
