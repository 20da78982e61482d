"""The machine of a mock guest: which memory is in the VMM, and which memory the host cannot map. Pure.

SEV and SEV-ES: all guest RAM is memory of the VMM; private pages in it are ciphertext. SEV-SNP: private pages are in
separate memory (guest_memfd, QEMU 9.1 and Linux 6.11) that the VMM does not map; only shared pages are in the VMM.
"""

from sevkit.hypervisor.mock.layout import SHARED_SIZE
from sevkit.model.cipher import PAGE
from sevkit.model.faults import Fault
from sevkit.model.launch import Launched, launch
from sevkit.model.machine import PlatformConfig
from sevkit.model.memory import BufferDram, RegionDram, SparseDram
from sevkit.model.platform import Platform
from sevkit.model.rmp_checks import LARGE
from sevkit.model.vm import Vm
from sevkit.vocabulary import Mode

_EXTRA = 64 << 20  # room for firmware pages, save areas and the RMP itself


def build(ram: memoryview, mode: Mode, seed: int, policy: int | None = None) -> Vm:
    """A launched guest whose VMM-visible memory is ``ram``."""
    size = len(ram)
    hidden = size if mode is Mode.SEV_SNP else 0
    rmp = (size + hidden) // PAGE * 16
    dram = RegionDram([BufferDram(ram), SparseDram(hidden), SparseDram(_EXTRA + 2 * rmp)])
    snp = mode is Mode.SEV_SNP
    platform = Platform(PlatformConfig(seed=seed, snp=snp, memory=dram.size), dram)
    platform.reserve(size + hidden)
    launched = launch(platform, mode, pages=0, policy=policy)
    _map(launched, size, hidden)
    return launched.vm


def _map(launched: Launched, size: int, hidden: int) -> None:
    """Map all of guest memory, each page when it is first touched."""
    vm = launched.vm
    vm.npt.map_region(size - SHARED_SIZE, SHARED_SIZE, size - SHARED_SIZE)
    vm.npt.map_region(0, size - SHARED_SIZE, hidden, large=bool(hidden))
    if vm.snp:
        vm.on_fault = _give_page


def _give_page(vm: Vm, gpa: int, private: bool, fault: Fault) -> bool:
    """On the first access to private memory, the host assigns 2 MiB, and the guest validates it once."""
    if not private or fault.check not in ("rmp-assigned", "rmp-validated"):
        return False
    rmp = vm.platform.rmp
    assert rmp is not None
    first = gpa // LARGE * LARGE
    if fault.check == "rmp-assigned":
        return rmp.rmpupdate(vm.npt.spa(first), assigned=True, asid=vm.asid, gpa=first, large=True) == 0
    vm.accept(first, large=True)
    return True
