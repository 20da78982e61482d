"""The machine: DRAM, memory controller, RMP, ASIDs, and what the host can do to them as software."""

from sevkit.model.cipher import PAGE, MemoryKey
from sevkit.model.entropy import Entropy
from sevkit.model.faults import Fault, FaultKind
from sevkit.model.machine import PlatformConfig
from sevkit.model.memory import Dram, MemoryController, SparseDram, WriteBackCache
from sevkit.model.psp_sev import SevFirmware
from sevkit.model.psp_snp import SnpFirmware
from sevkit.model.rmp import COUNTERS, ENTRY_SIZE, Rmp
from sevkit.model.vm import Vm
from sevkit.vocabulary import Mode


class Platform:
    """A machine with memory encryption. The methods named ``host_…`` are what host software can do."""

    def __init__(self, config: PlatformConfig | None = None, dram: Dram | None = None) -> None:
        self.config = config or PlatformConfig()
        self.entropy = Entropy(self.config.seed)
        self.dram: Dram = dram if dram is not None else SparseDram(self.config.memory)
        tsme = MemoryKey(self.entropy.fork("tsme").bytes(16), self.config.scheme) if self.config.tsme else None
        self.controller = MemoryController(self.dram, tsme_key=tsme)
        self.install_key(0, self.entropy.fork("sme").bytes(16))
        self.cache = WriteBackCache(self.controller) if self.config.cache else None
        self.vms: dict[int, Vm] = {}
        self.tmr: dict[int, bytes] = {}  # check values of VMSA pages, in memory that only the hardware reaches (SEV-ES)
        self.dirty_asids: set[int] = set()  # used before, caches not flushed since
        self.wbinvd_done = True
        self._next_page = 1
        self.rmp: Rmp | None = None
        if self.config.snp:
            self._make_rmp()
        self.sev = SevFirmware(self)
        self.snp = SnpFirmware(self, self.sev)

    @property
    def memory(self) -> MemoryController | WriteBackCache:
        """What an access of a core goes through."""
        return self.cache if self.cache is not None else self.controller

    def install_key(self, asid: int, key: bytes) -> None:
        """Put a key into the memory controller's slot of an ASID (firmware, at ACTIVATE)."""
        self.controller.keys[asid] = MemoryKey(key, self.config.scheme)

    def remove_key(self, asid: int) -> None:
        """Take the key of an ASID away (firmware, at DEACTIVATE)."""
        self.controller.keys.pop(asid, None)
        self.dirty_asids.add(asid)
        self.wbinvd_done = False

    def allocate(self, pages: int = 1, *, align: int = 1) -> int:
        """System memory that nothing uses yet, as the host's allocator would give it: the address of the first page."""
        first = -(-self._next_page // align) * align
        limit = self.rmp.base if self.rmp is not None else self.dram.size
        if (first + pages) * PAGE > limit:
            raise MemoryError("the machine has no more memory")
        self._next_page = first + pages
        return first * PAGE

    def reserve(self, size: int) -> None:
        """Keep the allocator off the first ``size`` bytes."""
        self._next_page = max(self._next_page, -(-size // PAGE))

    def flush_tlbs(self) -> None:
        """Forget all cached translations: what every change of the RMP does."""
        for vm in self.vms.values():
            vm.flush_tlb()

    # --- what host software can do

    def host_read(self, spa: int, size: int, *, encrypted: bool = False) -> bytes:
        """Read system memory as the host: with the C-bit clear, or (``encrypted``) with the host's own key.

        The RMP does not check reads; ciphertext hiding (Zen 5) answers zeros for pages of SNP guests.
        """
        out = b""
        while size:
            take = min(PAGE - spa % PAGE, size)
            out += bytes(take) if self._hidden(spa) else self.memory.read(spa, take, 0 if encrypted else None)
            spa += take
            size -= take
        return out

    def host_write(self, spa: int, data: bytes, *, encrypted: bool = False, mapping_large: bool = False) -> None:
        """Write system memory as the host; raises Fault #PF(RMP) where the RMP forbids it."""
        for page in range(spa // PAGE, (spa + max(len(data), 1) - 1) // PAGE + 1):
            if self.rmp is not None:
                self.rmp.check_host_write(page * PAGE, mapping_large=mapping_large)
        self.memory.write(spa, data, 0 if encrypted else None)

    def host_wbinvd(self) -> None:
        """WBINVD on all cores."""
        if self.cache is not None:
            self.cache.wbinvd()
        self.wbinvd_done = True

    def host_invd(self) -> None:
        """INVD: drop the caches. Patched microcode (AMD-SB-3005) writes them back instead."""
        if self.cache is None:
            return
        if self.config.invd_microcode:
            self.cache.wbinvd()
        else:
            self.cache.invd()

    def host_race_rmp_init(self, spa: int) -> None:
        """Write into a page of the RMP while the firmware initialises the table (RMPocalypse, CVE-2025-0033).

        On firmware without the fix the write stays: the page never becomes the firmware's.
        """
        if self.config.rmp_init_lock:
            raise Fault(FaultKind.PF_RMP, "rmp-init-lock")
        self._unguard(spa)

    def host_misroute_rmp_writes(self) -> None:
        """Have the Data Fabric drop the firmware's writes to the RMP (Fabricked, CVE-2025-54510).

        What the firmware writes at initialisation does not arrive: the table's pages stay the hypervisor's.
        """
        if self.config.fabric_lock:
            raise Fault(FaultKind.PF_RMP, "fabric-lock")
        assert self.rmp is not None
        for page in range(self.rmp.base, self.rmp.end, PAGE):
            self._unguard(page)

    def _unguard(self, spa: int) -> None:
        assert self.rmp is not None
        if not self.rmp.base <= spa < self.rmp.end:
            raise ValueError(f"{spa:#x} is not in the RMP")
        self.rmp.unguarded.add(spa // PAGE * PAGE)

    def attach(self, mode: Mode, asid: int) -> Vm:
        """A virtual machine under this ASID: what the host builds before any VMRUN. Two may share an ASID."""
        vm = Vm(self, mode, asid)
        self.vms[len(self.vms)] = vm
        return vm

    def _hidden(self, spa: int) -> bool:
        if not self.config.ciphertext_hiding or self.rmp is None or not self.rmp.covers(spa):
            return False
        entry, _ = self.rmp.lookup(spa)
        return entry.assigned and entry.asid > 0

    def _make_rmp(self) -> None:
        """The RMP at the end of memory, covering all that lies before it."""
        size = COUNTERS + self.dram.size // PAGE * ENTRY_SIZE
        base = (self.dram.size - size) // (1 << 20) * (1 << 20)
        if base <= 0:
            raise ValueError("too little memory for an RMP")
        covered = self.dram.size
        self.rmp = Rmp(self.dram, base, covered, disabled=self.config.disabled_checks, on_change=self.flush_tlbs)
