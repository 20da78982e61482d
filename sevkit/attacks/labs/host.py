"""What a hostile host can do to a guest in QEMU: hold it, read and write its DRAM, look at its registers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sevkit.errors import HypervisorError, InconclusiveError
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.memory.guest_ram.layout import GuestMap, GuestRange
from sevkit.memory.sources import poke
from sevkit.memory.sources.base import PAGE, State, intersect, normalise
from sevkit.memory.sources.process import LiveMemory
from sevkit.vocabulary import Mode

_WINDOW = 8 << 20


class RefusedError(Exception):
    """The processor refused what the host tried; ``check`` names the check that failed."""

    def __init__(self, check: str, words: str) -> None:
        super().__init__(words)
        self.check = check


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
        """Where the VMM has the guest's RAM; an SEV-SNP guest's private memory is apart from what it shares."""
        if self._guest.spec.mode is Mode.SEV_SNP and self._guest.encrypted_by_engine:
            address, size = (self.engine(f"private-{word}") for word in ("address", "size"))
            return GuestMap([GuestRange("private memory", 0, min(size, self.engine("dram-size")), address)])
        return GuestMap(self._guest.ram_blocks())

    def gpa(self, address: int) -> int:
        """The guest-physical address of a byte of guest RAM; raises InconclusiveError where it is none."""
        place = self.ram().place(address)
        if place is None:
            raise InconclusiveError(f"{address:#x} is not in the guest's RAM")
        return place.gpa

    def engine(self, name: str) -> int:
        """A number that the emulator's engine offers (docs/emulator.md has the list)."""
        return int(self._guest.ask("qom-get", path="/objects/sev0", property=name))

    def command(self, name: str, **arguments: object) -> Any:
        """A command of the emulator's hostile host; raises RefusedError when the processor refuses it."""
        try:
            return self._guest.ask(f"x-sev-host-{name}", **arguments)
        except HypervisorError as error:
            check = re.match(r"(RMP_\w+|\w+: FAIL_\w+)", error.detail or "")
            if check is None:
                raise
            raise RefusedError(check[1].lower().replace("_", "-"), error.detail or "") from error

    def vmm_log(self) -> list[str]:
        """The lines that the VMM has written: why it stopped a guest stands there too."""
        return str((self._guest.folder / "qemu.log").read_text(errors="replace")).strip().splitlines()

    def fault(self) -> tuple[str, str] | None:
        """The fault that has stopped the guest: the check that failed, and QEMU's words; None when it runs."""
        if self._guest.ask("query-status")["status"] != "internal-error":
            return None
        words = self.vmm_log()[-1:]
        check = re.search(r"\((RMP_\w+)\)", words[0]) if words else None
        return (check[1].lower().replace("_", "-") if check else "unknown"), "".join(words)

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
