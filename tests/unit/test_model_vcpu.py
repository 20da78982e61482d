"""The model's vCPU, its page tables, and guests that are larger than any machine."""

import time
from typing import Any

import pytest

from sevkit.model import paging, vmsa
from sevkit.model.cipher import PAGE, Scheme
from sevkit.model.faults import Fault
from sevkit.model.isa import Op, assemble, decode, encode
from sevkit.model.launch import launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.memory import SparseDram
from sevkit.model.platform import Platform
from sevkit.model.rmp_checks import LARGE
from sevkit.model.vcpu import HV_VECTOR, Vcpu
from sevkit.model.vm import Vm
from sevkit.vocabulary import Mode

COUNT = """
    movi rbx, 0x2000
    movi rax, 0
again:
    addi rax, 3
    store [rbx + 8], rax
    load rcx, [rbx + 8]
    cmpi rcx, 30
    jnz again
    out rcx
    vmmcall
    hlt
"""


def machine(mode: Mode, **config: Any) -> Platform:
    return Platform(PlatformConfig(memory=64 << 20, snp=mode is Mode.SEV_SNP, **config))


def cpu_of(
    mode: Mode,
    program: str,
    *,
    config: dict[str, Any] | None = None,
    registers: Any = None,
    contents: Any = None,
    **options: Any,
) -> Vcpu:
    platform = machine(mode, **(config or {}))
    state = {"rsp": 0x6000, **(registers or {})}
    guest = launch(
        platform, mode, contents={0: assemble(program), **(contents or {})}, shared=[0x3000], registers=state
    )
    return Vcpu(guest, **options)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("config", [{}, {"scheme": Scheme.XE}, {"tsme": True}, {"vmsa_reg_prot": True}])
def test_a_program_runs_alike_in_every_mode(mode: Mode, config: dict[str, Any]) -> None:
    cpu = cpu_of(mode, COUNT, config=config, ghcb=0x3000)
    assert cpu.run().reason == "VMMCALL"
    assert cpu.out == [30]
    assert cpu.registers["rcx"] == 30
    assert cpu.run().reason == "HLT"


@pytest.mark.parametrize("mode", list(Mode))
def test_single_steps_add_up_to_the_whole(mode: Mode) -> None:
    whole, steps = cpu_of(mode, COUNT), cpu_of(mode, COUNT)
    whole.run()
    while steps.run(limit=1).reason == "INTR":
        pass
    assert steps.registers == whole.registers


@pytest.mark.parametrize("mode", [Mode.SEV, Mode.SEV_ES, Mode.SEV_SNP])
def test_guest_page_tables_with_and_without_the_c_bit(mode: Mode) -> None:
    pages = {va: (va + 0x1000, va != 0x2000) for va in (0x0, 0x1000, 0x2000, 0x5000)}
    tables = paging.tables(0x8000, pages)
    program = "movi rbx, 0x1000\nmovi rdx, 0x2000\nmovi rax, 77\nstore [rbx], rax\nstore [rdx], rax\nhlt"
    platform = machine(mode)
    contents = {0x1000: assemble(program), **tables}
    guest = launch(platform, mode, contents=contents, shared=[0x3000], registers={"cr3": 0x8000, "rsp": 0x5800})
    assert Vcpu(guest).run().reason == "HLT"
    assert guest.vm.read(0x2000, 8) == (77).to_bytes(8, "little")
    assert platform.host_read(guest.spa(0x3000), 8) == (77).to_bytes(8, "little")
    assert platform.host_read(guest.spa(0x2000), 8) != (77).to_bytes(8, "little")


def test_what_is_not_mapped_or_no_instruction_ends_the_guest() -> None:
    cpu = cpu_of(Mode.SEV, "hlt", registers={"rip": 8})
    assert cpu.run().check == "invalid-instruction"
    tables = paging.tables(0x8000, {0: (0, True)})
    cpu = cpu_of(Mode.SEV, "movi rbx, 0x7000\nload rax, [rbx]", contents=tables, registers={"cr3": 0x8000})
    assert cpu.run().check == "guest-page-fault"


def test_a_fault_leaves_the_instruction_to_run_again() -> None:
    cpu = cpu_of(Mode.SEV_SNP, COUNT)
    spa = cpu.vm.npt.spa(0x2000)
    cpu.vm.npt.unmap(0x2000)
    ending = cpu.run()
    assert (ending.reason, ending.check) == ("#NPF", "npt-present")
    cpu.vm.remap(0x2000, spa)
    assert cpu.run().reason == "VMMCALL"
    assert cpu.out == [30]


def test_es_notices_a_changed_and_a_foreign_save_area() -> None:
    cpu = cpu_of(Mode.SEV_ES, COUNT)
    platform, spa = cpu.vm.platform, cpu.launched.vmsa_spa
    assert spa is not None
    old = platform.host_read(spa, PAGE)
    cpu.run(limit=3)
    platform.host_write(spa, old)
    assert cpu.run().check == "vmsa-check-value"


def test_snp_runs_only_save_areas_that_the_rmp_knows() -> None:
    cpu = cpu_of(Mode.SEV_SNP, COUNT)
    cpu.launched.vmsa_spa = cpu.vm.npt.spa(0x2000)
    assert cpu.run().check == "rmp-vmsa"


def test_interrupts_push_and_return() -> None:
    program = "vmmcall\nmov rdx, rax\nhlt\nhandler:\nmovi rax, 9\niret"
    idt = bytes(8 * HV_VECTOR) + (3 * 8).to_bytes(8, "little")
    for features, vector, expected in ((0, HV_VECTOR, 9), (vmsa.RESTRICTED_INJECTION, HV_VECTOR, 9)):
        registers = {"idtr_base": 0x4000, "sev_features": features}
        cpu = cpu_of(Mode.SEV_SNP, program, contents={0x4000: idt}, registers=registers)
        cpu.run()
        assert cpu.run(inject=vector).reason == "HLT"
        assert cpu.registers["rdx"] == expected
        assert cpu.registers["rsp"] == 0x6000


def test_instructions_survive_their_encoding() -> None:
    for op in Op:
        assert decode(encode(op, 3, 7, -5)) == (op, 3, 7, -5)
    with pytest.raises(ValueError, match="instruction"):
        decode(bytes([2, 99, 0, 0, 0, 0, 0, 0]))
    with pytest.raises(ValueError, match="memory operand"):
        assemble("load rax, rbx")


def test_save_areas_lay_registers_where_the_manual_has_them() -> None:
    page = vmsa.pack({"rip": 1, "rax": 2, "rcx": 3, "rsp": 4, "sev_features": 5, "r15": 6, "cr3": 7, "efer": 8})
    at = {0x178: 1, 0x1F8: 2, 0x308: 3, 0x1D8: 4, 0x3B0: 5, 0x378: 6, 0x150: 7, 0xD0: 8}
    assert {offset: page[offset] for offset in at} == at
    assert vmsa.unpack(page)["r15"] == 6


def test_a_guest_of_one_tebibyte_costs_what_it_touches() -> None:
    size = 1 << 40
    start = time.process_time()
    platform = Platform(PlatformConfig(memory=2 * size))
    vm = launch(platform, Mode.SEV_SNP, pages=0).vm
    base = -(-platform.allocate(1, align=512) // LARGE) * LARGE
    vm.npt.map_region(0, size, base)
    vm.on_fault = lambda vm, gpa, private, fault: _give(platform, vm, gpa, private, fault)
    for gpa in (0, size // 3 // PAGE * PAGE, size - PAGE):
        vm.write(gpa, b"far apart")
        assert vm.read(gpa, 9) == b"far apart"
        assert platform.host_read(vm.npt.spa(gpa), 9) != b"far apart"
    assert isinstance(platform.dram, SparseDram)
    assert len(platform.dram.pages) < 40
    assert time.process_time() - start < 60, "a tebibyte must not be walked"


def _give(platform: Platform, vm: Vm, gpa: int, private: bool, fault: Fault) -> bool:
    if not private or fault.check not in ("rmp-assigned", "rmp-validated"):
        return False
    gpa = gpa // PAGE * PAGE
    if fault.check == "rmp-validated":
        vm.accept(gpa)
        return True
    return platform.snp.table.rmpupdate(vm.npt.spa(gpa), assigned=True, asid=vm.asid, gpa=gpa) == 0


def test_sme_hides_host_memory_and_another_key_reads_noise() -> None:
    platform = machine(Mode.SEV)
    spa = platform.allocate()
    platform.host_write(spa, b"the host's own..", encrypted=True)
    assert platform.host_read(spa, 16) != b"the host's own.."
    assert platform.host_read(spa, 16, encrypted=True) == b"the host's own.."
    guest = launch(platform, Mode.SEV, pages=1)
    guest.vm.write(0, b"the guest's own.")
    seen = {platform.host_read(guest.spa(0), 16, encrypted=enc) for enc in (True, False)}
    assert len(seen | {b"the guest's own."}) == 3


def test_tsme_encrypts_what_is_shared_but_for_the_memory_bus_only() -> None:
    platform = machine(Mode.SEV, tsme=True)
    guest = launch(platform, Mode.SEV, pages=2, shared=[PAGE])
    guest.vm.write(PAGE, b"shared in clear.", private=False)
    assert platform.host_read(guest.spa(PAGE), 16) == b"shared in clear."
    assert platform.dram.read(guest.spa(PAGE), 16) != b"shared in clear."


def test_a_guest_without_a_key_cannot_run() -> None:
    platform = machine(Mode.SEV)
    guest = launch(platform, Mode.SEV, pages=1)
    platform.sev.deactivate(guest.handle)
    with pytest.raises(Fault, match="asid-active"):
        guest.vm.read(0, 1)
