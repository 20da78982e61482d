"""A vCPU: runs the model guest's programs in encrypted memory, and stores its registers as each mode does.

VMEXIT: without SEV-ES the registers are in a page of the host (the VMCB). SEV-ES stores them in the VMSA, encrypted
and with a check value that VMRUN compares. SEV-SNP keeps the VMSA in a page that the RMP protects from other writers.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sevkit.model import vmsa
from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault, FaultKind
from sevkit.model.isa import SIZE, Op, decode
from sevkit.model.launch import Launched
from sevkit.model.paging import PageFaultError, walk
from sevkit.model.tlb import Core
from sevkit.model.vm import GuestAbortError
from sevkit.vocabulary import Mode

_MASK = (1 << 64) - 1
_ZERO_FLAG = 0x40
HV_VECTOR = 28  # #HV, the only exception a host may inject under restricted injection (APM 15.36.16)
GHCB_FIELDS = {"rax": 0x01F8, "rcx": 0x0308, "rdx": 0x0310, "rbx": 0x0318, "sw_exitcode": 0x0390}
_SAVED = (*vmsa.GENERAL, "rip", "rflags", "cr3", "idtr_base", "xmm0", "sev_features")


@dataclass(frozen=True)
class Exit:
    """Why the vCPU returned to the host. ``check`` names the check that stopped it, if any."""

    reason: str
    check: str = ""
    detail: str = ""


class Vcpu:
    """One vCPU of a launched guest. ``run`` is VMRUN until the next VMEXIT.

    ``ghcb`` is the guest address of the shared page through which SEV-ES guests talk to the host. ``careless`` makes
    the guest validate a page again whenever one turns out not to be valid, which a correct guest never does. ``core``
    is the core that it runs on, with its TLB; without one every access walks the guest's tables.
    """

    def __init__(
        self, launched: Launched, *, ghcb: int | None = None, careless: bool = False, core: Core | None = None
    ) -> None:
        self.launched = launched
        self.vm = launched.vm
        self.ghcb = ghcb
        self.careless = careless
        self.core = core
        self.registers: dict[str, int] = {}
        self.steps = 0
        self.out: list[int] = []
        self._operations: dict[Op, Callable[[int, int, int], Exit | None]] = {
            Op.LOAD: self._load,
            Op.STORE: self._store,
            Op.LOADX: self._loadx,
            Op.VMMCALL: lambda *_: self._ask("VMMCALL", ("rax",)),
            Op.CPUID: lambda *_: self._ask("CPUID", ("rax", "rcx")),
            Op.OUT: self._output,
            Op.IRET: self._iret,
            Op.PVALIDATE: self._pvalidate,
        }

    # --- VMRUN and VMEXIT

    def run(self, limit: int = 10_000, *, inject: int | None = None, error: int | None = None) -> Exit:
        """VMRUN: load the state, deliver an injected event, run at most ``limit`` instructions, store the state.

        ``error`` is the error code that the event pushes (for #VC: the exit code).
        """
        refused = self._load_state()
        if refused is not None:
            return refused
        if self.core is not None:
            self.core.enter(self.vm.asid, self._vmsa_spa(), tlb_id=self.vm.snp)
        outcome = self._deliver(inject, error) if inject is not None else None
        count = 0
        while outcome is None and count < limit:
            outcome = self._step()
            count += 1
        self._store_state()
        return outcome or Exit("INTR")

    @property
    def sealed(self) -> bool:
        """Whether the registers are hidden from the host."""
        return self.vm.mode in (Mode.SEV_ES, Mode.SEV_SNP)

    def _load_state(self) -> Exit | None:
        platform, spa = self.vm.platform, self._vmsa_spa()
        if not self.sealed:
            page = platform.host_read(spa, PAGE)
        else:
            page = platform.controller.read(spa, PAGE, self.vm.asid)
            refused = self._check_sealed(spa, page)
            if refused is not None:
                return refused
            if self._register_protection():
                page = vmsa.unprotect(page)
        self.registers = {name: value for name, value in vmsa.unpack(page).items() if name in _SAVED}
        return None

    def _check_sealed(self, spa: int, page: bytes) -> Exit | None:
        platform = self.vm.platform
        if self.vm.mode is Mode.SEV_ES:
            if platform.tmr.get(spa) != vmsa.check_value(page):
                return Exit(FaultKind.VMEXIT_INVALID, "vmsa-check-value")
            return None
        assert platform.rmp is not None
        entry, _ = platform.rmp.lookup(spa)
        if not (entry.vmsa and entry.assigned and entry.validated and entry.asid == self.vm.asid):
            return Exit(FaultKind.VMEXIT_INVALID, "rmp-vmsa")
        return None

    def _store_state(self) -> None:
        platform, spa = self.vm.platform, self._vmsa_spa()
        page = vmsa.pack(self.registers)
        if not self.sealed:
            platform.host_write(spa, page)
            return
        if self._register_protection():
            page = vmsa.protect(page, platform.entropy.bytes(8))
        platform.controller.write(spa, page, self.vm.asid)
        if self.vm.mode is Mode.SEV_ES:
            platform.tmr[spa] = vmsa.check_value(page)

    def _register_protection(self) -> bool:
        return self.vm.mode is Mode.SEV_SNP and self.vm.platform.config.vmsa_reg_prot

    def _vmsa_spa(self) -> int:
        assert self.launched.vmsa_spa is not None
        return self.launched.vmsa_spa

    def _deliver(self, vector: int, error: int | None) -> Exit | None:
        """An injected event: under restricted injection only #HV gets through."""
        restricted = self.vm.snp and self.registers["sev_features"] & vmsa.RESTRICTED_INJECTION
        if restricted and vector != HV_VECTOR:
            return Exit(FaultKind.VMEXIT_INVALID, "restricted-injection", f"vector {vector:#x}")
        handler = self._read_word(self.registers["idtr_base"] + 8 * vector)
        if handler == 0:
            return None
        self._push(self.registers["rflags"])
        self._push(self.registers["rip"])
        if error is not None:
            self._push(error)
        self.registers["rip"] = handler
        return None

    # --- instructions

    def _step(self) -> Exit | None:
        """Run one instruction; after a fault RIP still points to it, so it runs again."""
        before = dict(self.registers)
        try:
            gpa, _ = self._address(self.registers["rip"])
            op, rd, rs, imm = decode(self.vm.read(gpa, SIZE, execute=True))
            self.registers["rip"] += SIZE
            self.steps += 1
            return self._execute(op, rd, rs, imm)
        except ValueError:
            return Exit("SHUTDOWN", "invalid-instruction", f"rip {before['rip']:#x}")
        except PageFaultError as error:
            return Exit("SHUTDOWN", "guest-page-fault", str(error))
        except GuestAbortError as error:
            return Exit("TERMINATE", error.check, error.detail)
        except Fault as fault:
            self.registers = before
            return self._faulted(fault)

    def _faulted(self, fault: Fault) -> Exit | None:
        if fault.kind is not FaultKind.VC:
            return Exit(str(fault.kind), fault.check, fault.detail)
        if not self.careless:
            return Exit("TERMINATE", fault.check, "the guest takes #VC 0x404 for an attack")
        for gpa in self._gpas():
            try:
                self.vm.pvalidate(gpa)
            except Fault as again:
                return Exit(str(again.kind), again.check, again.detail)
        return None

    def _gpas(self) -> list[int]:
        """The guest pages that the instruction at RIP touches: what a careless handler validates again."""
        gpa, _ = self._address(self.registers["rip"])
        found = [gpa]
        if not self._invalid(gpa):
            _, rd, rs, imm = decode(self.vm.read(gpa, SIZE, execute=True))
            found = [self._address(self.registers[vmsa.GENERAL[base]] + imm)[0] for base in (rd, rs)]
        return [gpa for gpa in found if self._invalid(gpa)]

    def _invalid(self, gpa: int) -> bool:
        try:
            self.vm.read(gpa, 1)
        except Fault as fault:
            return fault.kind is FaultKind.VC
        return False

    def _execute(self, op: Op, rd: int, rs: int, imm: int) -> Exit | None:
        if op is Op.HLT:
            return Exit("HLT")
        if op in self._operations:
            return self._operations[op](rd, rs, imm)
        if op in (Op.JMP, Op.JZ, Op.JNZ):
            zero = bool(self.registers["rflags"] & _ZERO_FLAG)
            if op is Op.JMP or zero == (op is Op.JZ):
                self.registers["rip"] = imm & _MASK
            return None
        self._arithmetic(op, vmsa.GENERAL[rd], self.registers[vmsa.GENERAL[rs]], imm)
        return None

    def _arithmetic(self, op: Op, target: str, other: int, imm: int) -> None:
        value = self.registers[target]
        results = {
            Op.MOVI: imm,
            Op.MOV: other,
            Op.ADD: value + other,
            Op.ADDI: value + imm,
            Op.SUB: value - other,
            Op.XOR: value ^ other,
            Op.AND: value & other,
            Op.SHR: value >> (imm & 63),
        }
        if op is Op.CMPI:
            self._flag(value == imm & _MASK)
        elif op in results:
            self.registers[target] = results[op] & _MASK
            self._flag(self.registers[target] == 0)

    def _flag(self, zero: bool) -> None:
        flags = self.registers["rflags"]
        self.registers["rflags"] = flags | _ZERO_FLAG if zero else flags & ~_ZERO_FLAG

    def _load(self, rd: int, rs: int, imm: int) -> None:
        self.registers[vmsa.GENERAL[rd]] = self._read_word(self.registers[vmsa.GENERAL[rs]] + imm)

    def _store(self, rd: int, rs: int, imm: int) -> None:
        gpa, private = self._address(self.registers[vmsa.GENERAL[rd]] + imm)
        self.vm.write(gpa, self.registers[vmsa.GENERAL[rs]].to_bytes(8, "little"), private=private)

    def _loadx(self, rd: int, rs: int, imm: int) -> None:
        del rd
        gpa, private = self._address(self.registers[vmsa.GENERAL[rs]] + imm)
        self.registers["xmm0"] = int.from_bytes(self.vm.read(gpa, 16, private=private), "little")

    def _output(self, rd: int, rs: int, imm: int) -> None:
        del rs, imm
        self.out.append(self.registers[vmsa.GENERAL[rd]])

    def _iret(self, rd: int, rs: int, imm: int) -> None:
        del rd, rs, imm
        self.registers["rip"] = self._pop()
        self.registers["rflags"] = self._pop()

    def _pvalidate(self, rd: int, rs: int, imm: int) -> None:
        del rs, imm
        gpa, _ = self._address(self.registers[vmsa.GENERAL[rd]])
        if self.careless:
            self.vm.pvalidate(gpa)
        else:
            self.vm.accept(gpa)

    def _ask(self, reason: str, shown: tuple[str, ...]) -> Exit:
        """Exit to the host with a request. A sealed guest's #VC handler reveals only what the host needs."""
        if self.sealed and self.ghcb is not None:
            for name in shown:
                self.vm.write(self.ghcb + GHCB_FIELDS[name], self.registers[name].to_bytes(8, "little"), private=False)
        return Exit(reason)

    def take_answer(self, names: tuple[str, ...], page: Callable[[str], int]) -> None:
        """Let the guest's #VC handler copy the host's answer from the GHCB; the instruction before RIP requested it."""
        self._load_state()
        for name in names:
            self.registers[name] = page(name) & _MASK
        self._store_state()

    # --- memory

    def _address(self, va: int) -> tuple[int, bool]:
        """Guest-physical address and C-bit. Without paging all accesses are private."""
        if not self.registers["cr3"]:
            return va & _MASK, True
        if self.core is None:
            return self._walk(va & _MASK)
        return self.core.translate(self.vm.asid, va & _MASK, self._walk)

    def _walk(self, va: int) -> tuple[int, bool]:
        return walk(self.registers["cr3"], va, lambda gpa: int.from_bytes(self.vm.read(gpa, 8), "little"))

    def _read_word(self, va: int) -> int:
        gpa, private = self._address(va)
        return int.from_bytes(self.vm.read(gpa, 8, private=private), "little")

    def _push(self, value: int) -> None:
        self.registers["rsp"] -= 8
        gpa, private = self._address(self.registers["rsp"])
        self.vm.write(gpa, value.to_bytes(8, "little"), private=private)

    def _pop(self) -> int:
        value = self._read_word(self.registers["rsp"])
        self.registers["rsp"] += 8
        return value
