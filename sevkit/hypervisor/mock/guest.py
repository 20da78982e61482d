"""The guest that runs in the mock: a few kernel structures and a file system, kept in the model's guest memory.

All data that the guest stores goes through the model: private bytes are encrypted before they reach the DRAM that the
VMM process maps, and decrypted when read back. So tampering by the host has the same effect as on a real guest.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sevkit.guest import secrets
from sevkit.hypervisor.mock.layout import HEAP, KERNEL, SHARED_CONSOLE, SHARED_SIZE
from sevkit.model.cipher import PAGE
from sevkit.model.vm import Vm
from sevkit.vocabulary import labels_of

# What Linux says at boot (arch/x86/coco/core.c and mem_encrypt.c of 6.x).


@dataclass(frozen=True)
class Extent:
    """The location of bytes in guest memory."""

    gpa: int
    size: int


class MockGuestKernel:
    """Guest memory and what is kept in it. ``ram`` is its size in bytes; ``clock`` gives seconds since boot."""

    def __init__(self, vm: Vm, ram: int, *, seed: int, vcpus: int, clock: Callable[[], float]) -> None:
        self.vm = vm
        self.ram = ram
        self.vcpus = vcpus
        self.clock = clock
        self.files: dict[str, Extent] = {}
        self.log: list[Extent] = []
        self.processes: dict[str, Extent] = {}  # memory of processes, by what it is
        self._heap = HEAP
        self._console = b""
        self._boot(seed)

    # --- memory

    def store(self, data: bytes) -> Extent:
        """Keep bytes in fresh private pages, the rest of the last one zeroed first, as a kernel does."""
        pages = max(1, -(-len(data) // PAGE))
        if self._heap + pages * PAGE > self.ram - SHARED_SIZE:
            raise MemoryError("the guest is out of memory")
        extent = Extent(self._heap, len(data))
        self._heap += pages * PAGE
        self.vm.write(extent.gpa, data.ljust(pages * PAGE, b"\0"))
        return extent

    def load(self, extent: Extent) -> bytes:
        """Read bytes back, through the memory controller."""
        return self.vm.read(extent.gpa, extent.size)

    @property
    def used(self) -> int:
        """Bytes of guest memory in use."""
        return KERNEL[1] + self._heap - HEAP + SHARED_SIZE

    # --- files, kernel log, console

    def write_file(self, path: str, data: bytes, *, append: bool = False) -> None:
        """Write a file."""
        if append and path in self.files:
            data = self.read_file(path) + data
        self.files[path] = self.store(data)

    def read_file(self, path: str) -> bytes:
        """Read a file; raises FileNotFoundError."""
        virtual = self._virtual(path)
        if virtual is not None:
            return virtual
        if path not in self.files:
            raise FileNotFoundError(path)
        return self.load(self.files[path])

    def print_kernel(self, text: str, *, console: bool = True) -> None:
        """Add a line to the kernel log, and to the console, which the host sees."""
        line = f"[{self.clock():12.6f}] {text}\n".encode()
        self.log.append(self.store(line))
        if console:
            self.print_console(line)

    def print_console(self, data: bytes) -> None:
        """Write to the console: a shared page, and so the host's to read."""
        room = SHARED_CONSOLE[1] - 8
        self._console = (self._console + data)[-room:]
        base = self.ram - SHARED_SIZE + SHARED_CONSOLE[0]
        self.vm.write(base, len(self._console).to_bytes(8, "little") + self._console, private=False)

    def console_text(self) -> str:
        """The console so far, read from the shared page as the VMM reads it."""
        base = self.ram - SHARED_SIZE + SHARED_CONSOLE[0]
        size = int.from_bytes(self.vm.read(base, 8, private=False), "little")
        return self.vm.read(base + 8, min(size, SHARED_CONSOLE[1] - 8), private=False).decode(errors="replace")

    def kernel_log(self) -> bytes:
        """What dmesg prints."""
        return b"".join(self.load(extent) for extent in self.log)

    # --- secrets

    def plant(self, nonce: bytes) -> None:
        """Derive the secrets of a nonce and keep one in each place; put the public marker into shared memory."""
        keep = {place: secrets.secret(nonce, place) for place in secrets.PLACES}
        self.write_file("/root/sevkit-secret", keep["file"])
        self.processes["anonymous"] = self.store(keep["anonymous"])
        self.processes["environment"] = self.store(b"SEVKIT_SECRET=" + keep["environment"] + b"\0")
        self.print_kernel(keep["kernel-log"].decode(), console=False)

    def holds(self, nonce: bytes) -> dict[str, bool]:
        """For every place, whether the guest still reads its secret there."""
        held = {
            "file": self.read_file("/root/sevkit-secret") if "/root/sevkit-secret" in self.files else b"",
            "environment": self._process("environment"),
            "anonymous": self._process("anonymous"),
            "kernel-log": self.kernel_log(),
        }
        return {place: secrets.secret(nonce, place) in held[place] for place in secrets.PLACES}

    def secret_pages(self) -> list[int]:
        """Guest addresses of the pages of the processes that hold a secret."""
        return [extent.gpa for extent in self.processes.values()]

    # --- inside

    def _process(self, name: str) -> bytes:
        return self.load(self.processes[name]) if name in self.processes else b""

    def _virtual(self, path: str) -> bytes | None:
        made: dict[str, Callable[[], bytes]] = {
            "/proc/meminfo": self._meminfo,
            "/proc/cpuinfo": self._cpuinfo,
            "/proc/version": lambda: b"Linux version 6.1.0-sevkit-model (a model, not Linux)\n",
            "/proc/uptime": self._uptime,
            "/dev/null": lambda: b"",
        }
        return made[path]() if path in made else None

    def _uptime(self) -> bytes:
        return f"{self.clock():.2f} 0.00\n".encode()

    def _meminfo(self) -> bytes:
        total, free = self.ram // 1024, (self.ram - self.used) // 1024
        return f"MemTotal: {total:14} kB\nMemFree:  {free:14} kB\nMemAvailable: {free:10} kB\n".encode()

    def _cpuinfo(self) -> bytes:
        return "".join(f"processor\t: {n}\nmodel name\t: sevkit model CPU\n\n" for n in range(self.vcpus)).encode()

    def _boot(self, seed: int) -> None:
        """Fill the kernel's memory with something that looks like code and text, and say what Linux says."""
        base, size = KERNEL
        unit = b"".join(
            hashlib.sha256(f"{seed}:{number}".encode()).digest()[:8] + b"kernel text and data of the mock guest, "
            for number in range(4096)
        )
        data = (unit * (size // len(unit) + 1))[:size]
        for offset in range(0, size, 2 << 20):
            self.vm.write(base + offset, data[offset : offset + (2 << 20)])
        self.print_kernel("Linux version 6.1.0-sevkit-model (a model, not Linux)")
        if self.vm.encrypted:
            self.print_kernel(f"Memory Encryption Features active: AMD {labels_of(self.vm.mode)}")
        self.write_file("/etc/hostname", b"mock\n")
        self.write_file("/etc/os-release", b'NAME="sevkit mock"\nID=sevkit-mock\n')
        self.print_kernel("mock guest ready")
