"""The code in an ACPI table: what is encoded is what runs, and damage is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attacks.labs import aml

ADDRESSES = st.integers(0, 2**40)
VALUES = st.integers(0, 2**64 - 1)


def run(code: bytes, memory: dict[int, bytes]) -> list[tuple[int, bytes]]:
    """Run the code; what it wrote to ports."""
    written: list[tuple[int, bytes]] = []
    machine = aml.Machine(lambda at, _: memory[at], memory.__setitem__, lambda port, data: written.append((port, data)))
    aml.run(aml.table(code), machine)
    return written


@given(ADDRESSES, ADDRESSES, VALUES, VALUES)
def test_code_reads_and_writes_where_its_regions_are(source: int, port: int, old: int, new: int) -> None:
    memory = {source: old.to_bytes(8, "little")}
    code = aml.region(b"AAAA", aml.SYSTEM_MEMORY, source) + aml.region(b"BBBB", aml.SYSTEM_IO, port)
    code += aml.store(aml.field(b"AAAA"), aml.field(b"BBBB")) + aml.store(new, aml.field(b"AAAA"))
    assert run(code, memory) == [(port, old.to_bytes(8, "little"))]
    assert memory == {source: new.to_bytes(8, "little")}


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    table = bytearray(aml.table(aml.region(b"AAAA", aml.SYSTEM_MEMORY, 0)))
    at = data.draw(st.integers(0, len(table) - 1))
    table[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="zero"):
        aml.run(bytes(table), aml.Machine(lambda *_: b"", lambda *_: None, lambda *_: None))


def test_what_the_interpreter_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="no such operation"):
        run(b"\xa3", {})
