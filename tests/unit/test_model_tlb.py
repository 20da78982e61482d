"""A core's TLB: shared by the vCPUs of one guest unless somebody flushes, never between guests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevkit.attacks.experiment import Notebook
from sevkit.attacks.labs import model_lab
from sevkit.model import paging
from sevkit.model.cipher import PAGE
from sevkit.model.tlb import Core
from sevkit.model.vcpu import Vcpu
from sevkit.vocabulary import Mode


def _to(gpa: int):  # type: ignore[no-untyped-def]
    return lambda page: (gpa, True)


@given(st.integers(0, 2**47), st.integers(0, PAGE - 1), st.booleans())
def test_an_entry_serves_its_page_and_its_asid_until_a_flush(page: int, offset: int, by_host: bool) -> None:
    core, va = Core(), page // PAGE * PAGE
    core.enter(1, 0x1000, tlb_id=not by_host)
    assert core.translate(1, va + offset, _to(0x7000)) == (0x7000 + offset, True)
    assert core.translate(1, va, _to(0x9000)) == (0x7000, True), "kept"
    assert core.translate(2, va, _to(0x9000)) == (0x9000, True), "another guest has its own"
    core.enter(1, 0x1000, tlb_id=not by_host)
    assert core.translate(1, va, _to(0x9000)) == (0x7000, True), "the same vCPU comes back"
    core.enter(1, 0x2000, tlb_id=not by_host)
    assert core.flushes == ([] if by_host else ["tlb-id"])
    if by_host:
        core.host_flush(1)
    assert core.translate(1, va, _to(0x9000)) == (0x9000, True)
    assert core.translate(2, va, _to(0x7000)) == (0x9000, True), "the other guest keeps its entries"


@pytest.mark.parametrize("mode", list(Mode))
def test_every_vcpu_of_a_guest_has_registers_of_its_own(mode: Mode) -> None:
    note = Notebook(mode)
    registers = [{"rbx": number} for number in (5, 6, 7)]
    guest = model_lab.guest(note, model_lab.machine(note), program="mov rax, rbx\nhlt", registers=registers)
    for number in (2, 0, 1):
        cpu = Vcpu(guest.vcpu(number))
        assert cpu.run().reason == "HLT"
        assert cpu.registers["rax"] == 5 + number


@pytest.mark.parametrize("mode", list(Mode))
def test_a_core_changes_nothing_for_a_guest_that_has_it_alone(mode: Mode) -> None:
    note = Notebook(mode)
    pages = {model_lab.CODE: (model_lab.CODE, True), 0x2000: (model_lab.OTHER, True)}
    guest = model_lab.guest(
        note,
        model_lab.machine(note),
        program="movi rbx, 0x2000\nload rcx, [rbx]\nhlt",
        contents=paging.tables(0x8000, pages),
        registers={"cr3": 0x8000},
    )
    guest.vm.write(model_lab.OTHER, (77).to_bytes(8, "little"))
    cpu = Vcpu(guest, core=Core())
    cpu.run()
    assert cpu.registers["rcx"] == 77
