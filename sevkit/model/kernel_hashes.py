"""The table of hashes that QEMU adds to the launch measurement to cover the kernel (kernel-hashes=on). Pure.

Source: QEMU target/i386/sev.c, sev_add_kernel_loader_hashes; edk2 OvmfPkg/AmdSev/BlobVerifierLibSevHashes.
"""

import hashlib
import struct
import uuid
from dataclasses import dataclass

_TABLE = "9438d606-4f22-4cc9-b479-a793d411fd21"
_ENTRIES = {
    "cmdline": "97d02dd8-bd20-4c94-aa78-e7714d36ab2a",
    "initrd": "44baf731-3a2f-4bd7-9af1-41e29169781d",
    "kernel": "4de79437-abd2-427f-b835-d5b172d2045b",
}
_HEAD = struct.Struct("<16sH")


@dataclass(frozen=True)
class KernelHashes:
    """SHA-256 of what QEMU boots directly."""

    kernel: bytes
    initrd: bytes
    cmdline: bytes

    def table(self) -> bytes:
        """The hash table as QEMU writes it, padded to 16 bytes."""
        size = _HEAD.size + 32
        entries = b"".join(
            _HEAD.pack(uuid.UUID(guid).bytes_le, size) + getattr(self, name) for name, guid in _ENTRIES.items()
        )
        table = _HEAD.pack(uuid.UUID(_TABLE).bytes_le, _HEAD.size + len(entries)) + entries
        return table + bytes(-len(table) % 16)


@dataclass(frozen=True)
class Kernel:
    """What QEMU boots directly: the files, and the command line without its terminating zero."""

    kernel: bytes
    initrd: bytes = b""
    cmdline: str = ""

    def hashes(self) -> KernelHashes:
        """The three hashes."""
        return KernelHashes(*(hashlib.sha256(part).digest() for part in (self.kernel, self.initrd, self.line())))

    def line(self) -> bytes:
        """The command line as QEMU hashes it; a name that is not UTF-8 is hashed with its original bytes."""
        return self.cmdline.encode(errors="surrogateescape") + b"\0"

    def table(self) -> bytes:
        """The hash table."""
        return self.hashes().table()
