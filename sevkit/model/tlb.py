"""A core's TLB for guest-virtual addresses: its entries carry the ASID, and nothing that tells vCPUs apart.

When vCPUs of one guest take turns on a core, the host has to ask for a flush (TLB_CONTROL in the VMCB). SEV-SNP does
not rely on it: its VMSA has fields for where the vCPU ran last (TLB_ID and PCPU_ID), and VMRUN flushes by itself.
How the hardware numbers cores and flushes was not read; the model's rule is "another vCPU of the guest ran here since".
"""

from collections.abc import Callable

from sevkit.model.cipher import PAGE

Translation = tuple[int, bool]


class Core:
    """A core that guests run on. ``flushes`` tells who asked for each flush: ``host`` or ``tlb-id``."""

    def __init__(self) -> None:
        self.flushes: list[str] = []
        self._entries: dict[tuple[int, int], Translation] = {}
        self._last: dict[int, int] = {}  # by ASID: the save area of the vCPU that ran last

    def enter(self, asid: int, vmsa: int, *, tlb_id: bool) -> None:
        """VMRUN; with ``tlb_id`` the hardware itself flushes when another vCPU of the guest ran here before."""
        if tlb_id and self._last.get(asid, vmsa) != vmsa:
            self._drop(asid, "tlb-id")
        self._last[asid] = vmsa

    def host_flush(self, asid: int) -> None:
        """What TLB_CONTROL asks for: forget the translations of an ASID."""
        self._drop(asid, "host")

    def translate(self, asid: int, va: int, walk: Callable[[int], Translation]) -> Translation:
        """Guest-physical address and C-bit: from the TLB, or by a walk of the guest's tables."""
        page = va // PAGE * PAGE
        if (asid, page) not in self._entries:
            self._entries[asid, page] = walk(page)
        gpa, private = self._entries[asid, page]
        return gpa + va % PAGE, private

    def _drop(self, asid: int, reason: str) -> None:
        self._entries = {key: value for key, value in self._entries.items() if key[0] != asid}
        self.flushes.append(reason)
