"""A kernel of the user's own: its release, its modules, and an initrd that loads these."""

import struct
from pathlib import Path

from sevkit.guest import cpio, debian

_PLACES = ("lib/modules", "usr/lib/modules")


def release(path: Path) -> str:
    """The release of a bzImage, such as ``6.12.43-cloud``; empty if its header has none.

    The header has the offset of the version, less 0x200, at 0x20E (Linux: Documentation/arch/x86/boot.rst).
    """
    with path.open("rb") as stream:
        head = stream.read(0x210)
        (offset,) = struct.unpack_from("<H", head, 0x20E) if len(head) == 0x210 else (0,)
        if not offset:
            return ""
        stream.seek(offset + 0x200)
        words = stream.read(128).split(b"\0")[0].decode("ascii", "replace").split()
    return words[0] if words and "/" not in words[0] else ""


def modules(path: Path) -> Path | None:
    """A kernel's modules: in the tree that it lies in (an unpacked package has boot/ and lib/), or on this host."""
    name = release(path)
    roots = (path.resolve().parent, path.resolve().parent.parent, Path("/"))
    found = (root / place / name for root in roots for place in _PLACES)
    return next((folder for folder in found if name and folder.is_dir()), None)


def initrd(base: bytes, wanted: tuple[str, ...], folder: Path | None) -> bytes:
    """An image's initrd with other modules: those in ``folder``, or none, since those of another kernel do not load.

    A second archive follows the first; its files replace those of the same name (Linux:
    early-userspace/buffer-format.rst).
    """
    files = debian.module_closure(wanted, folder) if folder is not None else []
    names = [path.name.split(".")[0] + ".ko" for path in files]
    entries = [
        cpio.file(f"lib/modules/{name}", debian.read_module(path)) for name, path in zip(names, files, strict=True)
    ]
    entries.append(cpio.file("etc/sevkit/modules", "".join(f"{name}\n" for name in names).encode()))
    return base + cpio.pack(entries)


def note(path: Path) -> str:
    """Where the modules of a kernel are from, for people."""
    found = modules(path)
    name = release(path) or "without a release in its header"
    if found is None:
        return f"no modules of kernel {name} are here: it must have virtio (PCI, console, block, network) built in"
    return f"modules of kernel {name}: {found}"
