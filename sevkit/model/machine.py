"""What a machine is, and what its firmware and its guests use of it; platform.py puts the parts together."""

from dataclasses import dataclass
from typing import Protocol

from sevkit.model.cipher import Scheme
from sevkit.model.entropy import Entropy
from sevkit.model.memory import Dram, MemoryController, WriteBackCache
from sevkit.model.rmp import Rmp

GIB = 1 << 30
FIRMWARE_ABI = (1, 57)
ABI_PAGE_SWAP = (1, 58)  # the first ABI with POLICY.PAGE_SWAP_DISABLE


@dataclass(frozen=True)
class PlatformConfig:
    """What a machine is and which mitigations it has.

    ``memory`` is the installed memory in bytes (the RMP lies at its end); ``min_sev_asid`` and ``max_asid`` are EDX
    and ECX of CPUID 8000_001F. ``firmware_svn`` is the security version of the SNP firmware,
    ``firmware_abi`` the ABI that it speaks (major, minor). ``disabled_checks`` removes checks of the RMP by name: for
    mutation tests.
    """

    seed: int = 1
    memory: int = GIB
    snp: bool = True
    scheme: Scheme = Scheme.XEX
    tsme: bool = False
    cache: bool = False
    ciphertext_hiding: bool = False
    vmsa_reg_prot: bool = False
    alias_check: bool = False
    invd_microcode: bool = False
    rmp_init_lock: bool = False
    fabric_lock: bool = False
    min_sev_asid: int = 128
    max_asid: int = 509
    max_snp_asid: int = 99
    firmware_svn: int = 24
    firmware_abi: tuple[int, int] = FIRMWARE_ABI
    disabled_checks: frozenset[str] = frozenset()


class Machine(Protocol):
    """The parts of a Platform that firmware and guests work on (see platform.py for what each is)."""

    config: PlatformConfig
    entropy: Entropy
    dram: Dram
    controller: MemoryController
    rmp: Rmp | None
    tmr: dict[int, bytes]
    dirty_asids: set[int]
    wbinvd_done: bool

    @property
    def memory(self) -> MemoryController | WriteBackCache:
        """What an access of a core goes through."""
        ...

    def install_key(self, asid: int, key: bytes) -> None:
        """Put a key into the memory controller's slot of an ASID."""
        ...

    def remove_key(self, asid: int) -> None:
        """Take the key of an ASID away."""
        ...

    def host_read(self, spa: int, size: int, *, encrypted: bool = False) -> bytes:
        """Read system memory as the host."""
        ...

    def host_write(self, spa: int, data: bytes, *, encrypted: bool = False, mapping_large: bool = False) -> None:
        """Write system memory as the host; raises Fault where the RMP forbids it."""
        ...
