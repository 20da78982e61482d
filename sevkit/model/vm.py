"""A guest's way to memory: nested tables, TLB, RMP checks, C-bit, key of the ASID."""

from collections.abc import Callable

from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault, FaultKind
from sevkit.model.machine import Machine
from sevkit.model.npt import NestedTables
from sevkit.model.rmp_checks import LARGE
from sevkit.vocabulary import Mode

# page, C-bit, write, execute, VMPL
_Key = tuple[int, bool, bool, bool, int]


class Vm:
    """A virtual machine as the hardware sees it: a mode, an ASID, and nested tables in the host's hands.

    ``read``, ``write``, ``pvalidate`` and ``rmpadjust`` are what the guest does; they raise Fault. Everything else is
    the host's.
    """

    def __init__(self, platform: Machine, mode: Mode, asid: int) -> None:
        self.platform = platform
        self.mode = mode
        self.asid = asid
        self.npt = NestedTables()
        self.validated: set[int] = set()  # the guest's own record of what it has validated
        # Called with the guest address, the C-bit and the fault; True: something was repaired, try again.
        self.on_fault: Callable[[Vm, int, bool, Fault], bool] | None = None
        self._tlb: dict[_Key, int] = {}

    @property
    def encrypted(self) -> bool:
        """Whether the mode encrypts memory at all."""
        return self.mode is not Mode.NOSEV

    @property
    def snp(self) -> bool:
        """Whether the RMP checks this guest's private accesses."""
        return self.mode is Mode.SEV_SNP

    # --- the guest's side

    def read(self, gpa: int, size: int, *, private: bool = True, vmpl: int = 0, execute: bool = False) -> bytes:
        """Read guest memory with the C-bit set (``private``) or clear."""
        out = b""
        while size:
            take = min(PAGE - gpa % PAGE, size)
            spa = self._translate(gpa, private=private, write=False, execute=execute, vmpl=vmpl)
            out += self.platform.memory.read(spa, take, self._key(private))
            gpa += take
            size -= take
        return out

    def write(self, gpa: int, data: bytes, *, private: bool = True, vmpl: int = 0) -> None:
        """Write guest memory with the C-bit set (``private``) or clear. Each page is checked before it is written."""
        done = 0
        while done < len(data):
            take = min(PAGE - gpa % PAGE, len(data) - done)
            spa = self._translate(gpa, private=private, write=True, execute=False, vmpl=vmpl)
            self.platform.memory.write(spa, data[done : done + take], self._key(private))
            gpa += take
            done += take

    def pvalidate(self, gpa: int, *, validate: bool = True, large: bool = False, vmpl: int = 0) -> tuple[int, bool]:
        """PVALIDATE: returns EAX and CF; a second validation that changes nothing must be taken for an attack."""
        assert self.platform.rmp is not None
        spa = self.npt.walk(gpa).spa
        page = gpa // PAGE * PAGE
        return self.platform.rmp.pvalidate(spa, self.asid, page, validate=validate, large=large, vmpl=vmpl)

    def accept(self, gpa: int, *, large: bool = False) -> None:
        """Validate a page as a careful guest does: once for each address; raises GuestAbortError otherwise."""
        first = gpa // (LARGE if large else PAGE) * (LARGE if large else PAGE)
        pages = range(first // PAGE, (first + (LARGE if large else PAGE)) // PAGE)
        if not self.validated.isdisjoint(pages):
            raise GuestAbortError("validate-once", f"gpa {gpa:#x} was validated before")
        code, unchanged = self.pvalidate(first, large=large)
        if code or unchanged:
            raise GuestAbortError("pvalidate-unchanged", f"gpa {gpa:#x}: EAX={code} CF={int(unchanged)}")
        self.validated.update(pages)

    def rmpadjust(
        self, gpa: int, *, target: int, perms: int, vmpl: int = 0, vmsa: bool = False, large: bool = False
    ) -> int:
        """RMPADJUST: returns EAX."""
        assert self.platform.rmp is not None
        spa = self.npt.walk(gpa).spa
        page = gpa // PAGE * PAGE
        return self.platform.rmp.rmpadjust(
            spa, self.asid, page, target=target, perms=perms, vmpl=vmpl, vmsa=vmsa, large=large
        )

    # --- the host's side

    def remap(self, gpa: int, spa: int, *, large: bool = False, flush: bool = True) -> None:
        """Change the nested tables; without ``flush`` old translations stay in the TLB."""
        self.npt.map(gpa, spa, large=large)
        if flush:
            self.flush_tlb()

    def flush_tlb(self) -> None:
        """What the TLB control field of the VMCB asks for at the next VMRUN."""
        self._tlb.clear()

    # --- inside

    def _key(self, private: bool) -> int | None:
        if not (self.encrypted and private):
            return None
        if self.asid not in self.platform.controller.keys:
            raise Fault(FaultKind.VMEXIT_INVALID, "asid-active", f"no key is installed for ASID {self.asid}")
        return self.asid

    def _translate(self, gpa: int, *, private: bool, write: bool, execute: bool, vmpl: int) -> int:
        """System-physical address of an access that all checks allow."""
        key = (gpa // PAGE, private, write, execute, vmpl)
        spa = self._tlb.get(key)
        if spa is None:
            spa = self._tlb[key] = self._walk(key, gpa)
        return spa + gpa % PAGE

    def _walk(self, key: _Key, gpa: int) -> int:
        """Walk the nested tables and check the RMP; ``on_fault`` may repair what is missing (demand paging)."""
        for _ in range(4):
            try:
                mapping = self.npt.walk(gpa, write=key[2])
                if self.platform.rmp is not None:
                    self._check(mapping.spa, gpa, key, mapping.large)
            except Fault as fault:
                if self.on_fault is None or not self.on_fault(self, gpa, key[1], fault):
                    raise
            else:
                return mapping.spa
        raise Fault(FaultKind.NPF, "npt-present", f"gpa {gpa:#x}: the fault handler repairs nothing")

    def _check(self, spa: int, gpa: int, key: _Key, mapping_large: bool) -> None:
        rmp = self.platform.rmp
        assert rmp is not None
        _, private, write, execute, vmpl = key
        if self.snp and private:
            access = rmp.access(
                spa, self.asid, gpa, write=write, execute=execute, vmpl=vmpl, mapping_large=mapping_large
            )
            rmp.check_guest(access)
        elif write:
            rmp.check_guest_shared_write(spa, self.asid, gpa)


class GuestAbortError(Exception):
    """The guest noticed that something is wrong and stopped: ``check`` names what it looked at."""

    def __init__(self, check: str, detail: str = "") -> None:
        super().__init__(f"{check}: {detail}")
        self.check = check
        self.detail = detail
