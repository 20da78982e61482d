"""What a hostile host can do to a guest in QEMU: hold it, read and write its DRAM, look at its registers."""

from collections.abc import Iterator
from contextlib import contextmanager

from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.sources import poke
from sevkit.memory.sources.base import PAGE, State, intersect, normalise
from sevkit.memory.sources.process import LiveMemory

_WINDOW = 8 << 20


class Host:
    """The host's hands on one guest. Addresses are addresses in the VMM, as `gcore` and `/proc/PID/mem` have them."""

    def __init__(self, guest: QemuGuest) -> None:
        self._guest = guest
        self.pid = guest.pid

    @contextmanager
    def held(self) -> Iterator[None]:
        """The guest stands still and its caches are written back: what DRAM holds is all there is."""
        self._guest.pause()
        try:
            self._guest.write_back()
            yield
        finally:
            self._guest.resume()

    def ram(self) -> GuestMap:
        """Where the VMM has the guest's RAM."""
        return GuestMap(self._guest.ram_blocks())

    def read(self, address: int, size: int) -> bytes:
        """What DRAM holds there."""
        with LiveMemory(self.pid) as memory:
            return memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Change what DRAM holds there; raises CaptureError when the write is refused."""
        poke.write(self.pid, address, data)

    def fingerprints(self) -> dict[int, int]:
        """A number for each populated page of guest RAM as DRAM holds it: host address -> fingerprint.

        A page's fingerprint is the sum of its 64-bit words, each times an odd number of its own: equal pages have equal
        fingerprints, different ones practically never.
        """
        import numpy as np

        factors = np.random.default_rng(1).integers(1, 2**63, PAGE // 8, dtype=np.uint64) | np.uint64(1)
        found: dict[int, int] = {}
        with self.held(), LiveMemory(self.pid) as memory:
            buffer = bytearray(_WINDOW)
            for stretch in intersect(memory.stretches(), normalise(self.ram().host_ranges())):
                if stretch.state != State.DATA:
                    continue
                for at in range(stretch.start, stretch.end, _WINDOW):
                    view = memoryview(buffer)[: min(_WINDOW, stretch.end - at)]
                    read = memory.readinto(at, view) // PAGE * PAGE
                    words = np.frombuffer(view[:read], dtype=np.uint64).reshape(-1, PAGE // 8)
                    sums = (words * factors).sum(axis=1, dtype=np.uint64)
                    found.update(zip(range(at, at + read, PAGE), sums.tolist(), strict=True))
        return found
