"""The mappings of a process, from /proc/PID/maps or, if that does not suffice, from smaps (proc(5))."""

from __future__ import annotations

from typing import NamedTuple

from sevkit.errors import NotPermittedError
from sevkit.memory.sources.base import Region, SourceGoneError
from sevkit.procfs import ptrace_hint

# Pages of the kernel, not of the process: never guest memory, and not readable through ptrace.
_KERNEL = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"})
_NO_READER = "memfd_secret: the kernel keeps it from every reader, such as the emulator's cache of plaintext"
_USED = frozenset({"Rss", "Swap", "Shared_Hugetlb", "Private_Hugetlb"})
_HUGE = 2 << 20
_HEX = frozenset("0123456789abcdef")


class Mapping(NamedTuple):
    """A mapping of a process: its region, its file, its flags, and whether some page of it is (or may be) populated."""

    region: Region
    device: str
    inode: int
    used: bool = True
    flags: frozenset[str] = frozenset()  # two letters each, proc(5) VmFlags: io/pf = device memory, ht = huge pages

    @property
    def shared(self) -> bool:
        """Whether writes are shared with other processes."""
        return self.region.perms.endswith("s")

    @property
    def anonymous(self) -> bool:
        """Whether it maps no file."""
        return self.inode == 0

    @property
    def file(self) -> tuple[str, int]:
        """The file that it maps: device and inode."""
        return self.device, self.inode

    @property
    def huge(self) -> bool:
        """Whether it consists of huge pages of hugetlbfs."""
        return "ht" in self.flags

    @property
    def nameless(self) -> bool:
        """Whether no other process can share its huge pages: a private mmap(2) with MAP_HUGETLB."""
        return self.region.name.startswith("/anon_hugepage") and not self.shared

    @property
    def doubtful(self) -> bool:
        """Whether it may be device memory or huge pages, which only the flags in smaps can tell."""
        region = self.region
        huge = region.start % _HUGE == region.size % _HUGE == 0
        named = region.name.startswith(("/dev/", "/sys/", "/dmabuf", "anon_inode:", "socket:"))
        return not self.anonymous and (huge or named) and "kvm-vcpu" not in region.name


def read_mappings(pid: int, *, flags: bool = False) -> list[Mapping]:
    """All mappings of a process. Raises SourceGoneError or NotPermittedError.

    Reads smaps if ``flags`` is set or a mapping is doubtful, else maps: for smaps the kernel must walk all pages.
    """
    mappings = parse(_text(pid, "smaps" if flags else "maps"))
    if not flags and any(mapping.doubtful for mapping in mappings):
        return read_mappings(pid, flags=True)
    return mappings


def _text(pid: int, name: str) -> str:
    try:
        with open(f"/proc/{pid}/{name}", errors="surrogateescape") as file:  # noqa: PTH123 - start-up time
            text = file.read()
    except PermissionError as error:
        raise NotPermittedError(f"not permitted to look into process {pid}", hint=ptrace_hint(pid)) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise SourceGoneError(f"there is no process {pid}") from error
    if not text:
        raise SourceGoneError(f"process {pid} has no memory: it ended, or belongs to the kernel")
    return text


def parse(text: str) -> list[Mapping]:
    """The mappings in the text of a maps or smaps file, without the kernel's own pages."""
    found: list[Mapping] = []
    head: Mapping | None = None
    used, detailed, flags = False, False, frozenset[str]()
    for line in text.split("\n"):
        if "A" <= line[:1] <= "Z":
            key, _, value = line.partition(":")
            if key in _USED:
                detailed, used = True, used or not value.lstrip().startswith("0 ")
            elif key == "VmFlags":
                flags = frozenset(value.split())
        elif mapping := _head(line):
            if head:
                found.append(_whole(head, used or not detailed, flags))
            head, used, detailed, flags = mapping, False, False, frozenset()
    if head:
        found.append(_whole(head, used or not detailed, flags))
    return [mapping for mapping in found if mapping.region.name not in _KERNEL]


def _head(line: str) -> Mapping | None:
    """``start-end perms offset device inode name``; None for any other line."""
    try:
        addresses, perms, offset, device, inode, *name = line.split(None, 5)
        start, end = addresses.split("-")
    except ValueError:
        return None
    if not (start and end and _HEX.issuperset(start + end + offset) and len(perms) == 4 and inode.isdecimal()):
        return None
    region = Region(int(start, 16), int(end, 16), name[0] if name else "", perms, int(offset, 16))
    return Mapping(region, device, int(inode))


def _whole(head: Mapping, used: bool, flags: frozenset[str]) -> Mapping:
    region = head.region
    if used and not flags and not region.name.startswith("/secretmem"):
        return head
    if flags & {"io", "pf"}:
        region = region._replace(readable=False, why="device memory")
    elif region.name.startswith("/secretmem"):
        region = region._replace(readable=False, why=_NO_READER)
    return Mapping(region, head.device, head.inode, used, flags)
