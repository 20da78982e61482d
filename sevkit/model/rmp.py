"""The Reverse Map Table: who owns each page of system memory, and the instructions that change it.

The table lies in system memory itself (MSR C001_0132 and C001_0133): 16 KiB of per-ASID page counts, then 16 bytes for
each 4 KiB page. So an attack that accesses that memory around the checks, as BadRAM does, can change the table.
"""

import struct
from collections.abc import Callable
from dataclasses import replace

from sevkit.model.cipher import PAGE
from sevkit.model.faults import CheckTable, Fault, FaultKind
from sevkit.model.memory import Dram
from sevkit.model.rmp_checks import STAGES, SUCCESS, Access, Adjust, Smash, Update, Validate
from sevkit.model.rmp_entry import FULL, LARGE_PAGES, PageState, RmpEntry

COUNTERS = 16 * 1024
ENTRY_SIZE = 16
_COUNT = struct.Struct("<Q")


class Rmp:
    """The table over ``covered`` bytes of system memory, stored at ``base`` in ``dram``.

    ``on_change`` is called after each change (the hardware flushes the TLBs of all cores); ``log`` receives (page
    address, old state, new state, instruction or command) for each change of state.
    """

    def __init__(
        self,
        dram: Dram,
        base: int,
        covered: int,
        *,
        disabled: frozenset[str] = frozenset(),
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        if base % (1 << 20):
            raise ValueError("the RMP starts on a 1 MiB boundary")
        self.base = base
        self.covered = covered
        self.end = base + COUNTERS + covered // PAGE * ENTRY_SIZE
        self.log: Callable[[int, PageState | None, PageState | None, str], None] | None = None
        self.unguarded: set[int] = set()  # pages of the table that the firmware failed to take over
        self._dram = dram
        self._on_change = on_change
        self._tables = {stage: CheckTable(checks, disabled) for stage, checks in STAGES.items()}

    # --- the table itself

    def entry_address(self, spa: int) -> int:
        """Where the entry of a page lies in system memory."""
        return self.base + COUNTERS + spa // PAGE * ENTRY_SIZE

    def covers(self, spa: int) -> bool:
        """Whether the table has an entry for this page; the others are in the Default state."""
        return 0 <= spa < self.covered

    def guards(self, spa: int) -> bool:
        """Whether a page is one of the table's own, which the firmware has taken over."""
        return self.base <= spa < self.end and spa // PAGE * PAGE not in self.unguarded

    def raw(self, spa: int) -> RmpEntry:
        """The entry of exactly this page, as stored. The table's own pages belong to the firmware without an entry."""
        if self.guards(spa):
            return RmpEntry(assigned=True, immutable=True)
        return RmpEntry.unpack(self._dram.read(self.entry_address(spa), ENTRY_SIZE))

    def lookup(self, spa: int) -> tuple[RmpEntry, int]:
        """The entry that applies to a page (in a 2 MiB page: the first page's) and the GPA that it gives."""
        first = spa // PAGE // LARGE_PAGES * LARGE_PAGES * PAGE
        head = self.raw(first)
        if head.assigned and head.large:
            return head, head.gpa + (spa // PAGE * PAGE - first)
        entry = head if spa // PAGE * PAGE == first else self.raw(spa)
        return entry, entry.gpa

    def state(self, spa: int) -> PageState | None:
        """The state of a page; None for a state outside the specification's table."""
        return self.lookup(spa)[0].state if self.covers(spa) else PageState.DEFAULT

    def pages_of(self, asid: int) -> int:
        """The number of 4 KiB pages assigned to an ASID; SNP_ACTIVATE requires zero."""
        return int(_COUNT.unpack(self._dram.read(self.base + asid * 8, 8))[0])

    def store(self, spa: int, new: RmpEntry, by: str) -> None:
        """Write an entry, keep the counts, flush the TLBs. For instructions and firmware, not for software."""
        spa = spa // PAGE * PAGE
        old = self.raw(spa)
        new.subpages = old.subpages
        self._count(old, -1)
        self._count(new, +1)
        self._subpage_count(spa, old, new)
        self._write(spa, new)
        if self.log is not None:
            self.log(spa, old.state, new.state, by)
        self._on_change()

    # --- what the hardware checks at each access

    def check_host_write(self, spa: int, *, mapping_large: bool = False) -> None:
        """Raise #PF(RMP) if the host must not write."""
        if self.covers(spa):
            entry, gpa = self.lookup(spa)
            if mapping_large:
                entry = replace(entry, subpages=self.raw(spa // (LARGE_PAGES * PAGE) * LARGE_PAGES * PAGE).subpages)
            self._require("host-write", Access(entry, gpa, 0, 0, True, False, 0, mapping_large))

    def check_guest(self, access: Access) -> None:
        """Raise #NPF or #VC if an SNP guest's private access does not match the entry."""
        self._require("guest-private", access)

    def check_guest_shared_write(self, spa: int, asid: int, gpa: int) -> None:
        """Raise #NPF if an SNP guest writes, with the C-bit clear, to a page that is not a hypervisor page."""
        if self.covers(spa):
            self._require("guest-shared-write", self.access(spa, asid, gpa, write=True))

    def access(
        self,
        spa: int,
        asid: int,
        gpa: int,
        *,
        write: bool = False,
        execute: bool = False,
        vmpl: int = 0,
        mapping_large: bool = False,
    ) -> Access:
        """The access as the checks see it. A page outside the table has no owner."""
        entry, entry_gpa = self.lookup(spa) if self.covers(spa) else (RmpEntry(), 0)
        return Access(entry, entry_gpa, asid, gpa // PAGE * PAGE, write, execute, vmpl, mapping_large)

    # --- instructions

    def rmpupdate(
        self, spa: int, *, assigned: bool, asid: int = 0, gpa: int = 0, large: bool = False, immutable: bool = False
    ) -> int:
        """RMPUPDATE, the host's instruction. Returns EAX. Never sets Validated; keeps it if nothing else changes."""
        if not self.covers(spa):
            return 1
        first = spa // PAGE // LARGE_PAGES * LARGE_PAGES * PAGE
        head, old = self.raw(first), self.raw(spa)
        new = RmpEntry(assigned=assigned, large=large, immutable=immutable, gpa=gpa, asid=asid)
        under = spa // PAGE * PAGE != first and head.assigned and head.large
        failed = self._tables["rmpupdate"].first_violated(Update(spa, old, new, under, head.subpages))
        if failed is not None:
            return int(failed.answer)  # type: ignore[call-overload,no-any-return]
        same = (old.assigned, old.asid, old.gpa, old.large) == (new.assigned, new.asid, new.gpa, new.large)
        if same and new.assigned and new.asid:
            new.validated, new.perms, new.vmsa = old.validated, old.perms, old.vmsa
        self.store(spa, new, "RMPUPDATE")
        return SUCCESS

    def pvalidate(
        self, spa: int, asid: int, gpa: int, *, validate: bool, large: bool = False, vmpl: int = 0
    ) -> tuple[int, bool]:
        """PVALIDATE, the guest's instruction, on a page that its tables map. Returns EAX and CF (nothing changed)."""
        request = Validate(self.access(spa, asid, gpa), large, vmpl)
        answer = self._answer("pvalidate", request)
        if answer != SUCCESS:
            return answer, False
        entry = request.access.entry
        if entry.validated == validate:
            return SUCCESS, True
        perms = [FULL, 0, 0, 0] if validate else [0, 0, 0, 0]
        self._store_ruling(spa, replace(entry, validated=validate, perms=perms, vmsa=False), "PVALIDATE")
        return SUCCESS, False

    def rmpadjust(
        self,
        spa: int,
        asid: int,
        gpa: int,
        *,
        target: int,
        perms: int,
        vmpl: int = 0,
        vmsa: bool = False,
        large: bool = False,
    ) -> int:
        """RMPADJUST, the guest's instruction: set what a less privileged VMPL may do with a page. Returns EAX."""
        request = Adjust(self.access(spa, asid, gpa, vmpl=vmpl), large, target, perms, vmsa)
        answer = self._answer("rmpadjust", request)
        if answer != SUCCESS:
            return answer
        entry = request.access.entry
        rights = [perms if level == target else right for level, right in enumerate(entry.perms)]
        is_save_area = vmsa if vmpl == 0 else entry.vmsa  # VMPL0 sets and clears the bit; Linux does so at unplug
        self._store_ruling(spa, replace(entry, perms=rights, vmsa=is_save_area), "RMPADJUST")
        return SUCCESS

    def psmash(self, spa: int) -> int:
        """PSMASH, the host's instruction: split a 2 MiB entry into 512 with the same owner and state. Returns EAX."""
        if not self.covers(spa):
            return 1
        entry = self.raw(spa)
        answer = self._answer("psmash", Smash(spa, entry))
        if answer != SUCCESS:
            return answer
        for number in range(LARGE_PAGES):
            small = replace(entry, large=False, gpa=entry.gpa + number * PAGE, subpages=0, perms=list(entry.perms))
            if number == 0:
                small.subpages = LARGE_PAGES - 1
            self._write(spa + number * PAGE, small)
        self._on_change()
        return SUCCESS

    # --- internal

    def _store_ruling(self, spa: int, entry: RmpEntry, by: str) -> None:
        if entry.large:
            spa = spa // (LARGE_PAGES * PAGE) * LARGE_PAGES * PAGE
        self.store(spa, entry, by)

    def _write(self, spa: int, entry: RmpEntry) -> None:
        self._dram.write(self.entry_address(spa), entry.pack())

    def _count(self, entry: RmpEntry, sign: int) -> None:
        if entry.assigned and entry.asid:
            change = sign * (LARGE_PAGES if entry.large else 1)
            self._dram.write(self.base + entry.asid * 8, _COUNT.pack(max(0, self.pages_of(entry.asid) + change)))

    def _subpage_count(self, spa: int, old: RmpEntry, new: RmpEntry) -> None:
        """Count the assigned 4 KiB pages of a 2 MiB range, except the first page, in the entry of that first page."""
        first = spa // PAGE // LARGE_PAGES * LARGE_PAGES * PAGE
        if spa == first or old.assigned == new.assigned:
            return
        head = self.raw(first)
        # RMPUPDATE to 2 MiB and the check of large mappings read this count instead of 511 entries. It has 9 bits.
        head.subpages = head.subpages + (1 if new.assigned else -1) & 0x1FF
        self._write(first, head)

    def _require(self, stage: str, subject: Access) -> None:
        failed = self._tables[stage].first_violated(subject)
        if failed is not None:
            assert isinstance(failed.answer, FaultKind)
            raise Fault(failed.answer, failed.name, f"page is {subject.entry.state}")

    def _answer(self, stage: str, subject: Validate | Adjust | Smash) -> int:
        failed = self._tables[stage].first_violated(subject)
        if failed is None:
            return SUCCESS
        if isinstance(failed.answer, FaultKind):
            raise Fault(failed.answer, failed.name)
        return int(failed.answer)  # type: ignore[call-overload,no-any-return]
