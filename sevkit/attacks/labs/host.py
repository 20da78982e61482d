"""What a hostile host can do to a guest in QEMU: stop it, read and write its DRAM, read its registers."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sevkit.errors import HypervisorError, InconclusiveError
from sevkit.hypervisor.qemu.guest import QemuGuest
from sevkit.memory.guest_ram.layout import GuestMap
from sevkit.memory.sources import poke
from sevkit.memory.sources.base import PAGE, State, intersect, normalise
from sevkit.memory.sources.process import LiveMemory

_WINDOW = 8 << 20
_MOST_TOUCHES = 65536  # of x-sev-host-page-trace


class RefusedError(Exception):
    """The processor refused what the host tried; ``check`` names the check that failed."""

    def __init__(self, check: str, words: str) -> None:
        super().__init__(words)
        self.check = check


class Host:
    """The host's operations on one guest. Addresses are addresses in the VMM, as in `gcore` and `/proc/PID/mem`."""

    def __init__(self, guest: QemuGuest) -> None:
        self._guest = guest
        self.pid = guest.pid

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stop the guest and write its caches back, so that DRAM has the complete content of its memory."""
        self._guest.pause()
        try:
            self._guest.write_back()
            yield
        finally:
            self._guest.resume()

    def ram(self) -> GuestMap:
        """The layout of guest RAM in the VMM; an SEV-SNP guest's private memory is separate from its shared memory."""
        return GuestMap(self._guest.private_blocks() or self._guest.ram_blocks())

    def gpa(self, address: int) -> int:
        """The guest-physical address of a byte of guest RAM; raises InconclusiveError if it is not guest RAM."""
        place = self.ram().place(address)
        if place is None:
            raise InconclusiveError(f"{address:#x} is not in the guest's RAM")
        return place.gpa

    def command(self, name: str, **arguments: object) -> Any:
        """A command of the emulator's hostile host; raises RefusedError when the processor refuses it."""
        try:
            return self._guest.ask(f"x-sev-host-{name}", **arguments)
        except HypervisorError as error:
            check = re.match(r"(RMP_\w+|\w+: (?:FAIL_\w+|POLICY_FAILURE))", error.detail or "")
            if check is None:
                raise
            raise RefusedError(check[1].lower().replace("_", "-"), error.detail or "") from error

    def save_area(self) -> bytes:
        """The save area of the guest's first vCPU as the host sees it; the guest should be stopped."""
        return base64.b64decode(self.command("vmsa", vcpu=0)["data"])

    def debug_decrypt(self, gpa: int, size: int) -> bytes:
        """DBG_DECRYPT: plaintext from the firmware; raises RefusedError if the guest's policy forbids it."""
        return base64.b64decode(self.command("debug-decrypt", gpa=gpa, size=size)["data"])

    def walked(self, gpa: int, *, asid: int) -> int | None:
        """Where a page walk under an ASID goes on from the entry at ``gpa``; None if the entry is not present.

        ASID 1 is the guest's, 0 has no key. Raises RefusedError when the RMP refuses the walk.
        """
        step = self.command("asid-walk", gpa=gpa, asid=asid)
        return int(step["fault-gpa"]) if step["present"] else None

    def launch_digest(self) -> str:
        """The measurement of the guest's launch, as the emulated firmware computed it, in hexadecimal digits."""
        return str(self._guest.ask("qom-get", path="/objects/sev0", property="launch-digest"))

    def invalidate_caches(self) -> None:
        """INVD: what the caches have not written back is lost."""
        self._guest.ask("qom-set", path="/objects/sev0", property="cache-op", value="invd")

    def touched(self) -> set[int] | None:
        """The guest-physical addresses of the pages that the guest has touched since the last call; traces on.

        None if there were more touches than the emulator keeps, so that the rest is lost.
        """
        touches = self.command("page-trace", enable=True)
        return None if len(touches) >= _MOST_TOUCHES else {int(touch["gpa"]) & -PAGE for touch in touches}

    def vmm_log(self) -> list[str]:
        """The lines that the VMM has written, among them why it stopped a guest."""
        return str((self._guest.folder / "qemu.log").read_text(errors="replace")).strip().splitlines()

    def fault(self) -> tuple[str, str] | None:
        """The fault that has stopped the guest: the check that failed, and QEMU's message; None while it runs."""
        if self._guest.ask("query-status")["status"] != "internal-error":
            return None
        words = self.vmm_log()[-1:]
        check = re.search(r"\((RMP_\w+)\)", words[0]) if words else None
        return (check[1].lower().replace("_", "-") if check else "unknown"), "".join(words)

    def read(self, address: int, size: int) -> bytes:
        """The bytes of DRAM at an address."""
        with LiveMemory(self.pid) as memory:
            return memory.read(address, size)

    def write(self, address: int, data: bytes) -> None:
        """Change the bytes of DRAM at an address; raises CaptureError if the write is refused."""
        poke.write(self.pid, address, data)

    def fingerprints(self) -> dict[int, int]:
        """A fingerprint of each populated page of guest RAM in DRAM: host address -> fingerprint.

        It is the sum of the page's 64-bit words modulo 2^64, each multiplied by a different odd number. Equal pages
        have equal fingerprints, different pages almost never.
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
