"""The mappings of a process, from /proc/PID/smaps (proc(5))."""

import re
from dataclasses import dataclass
from pathlib import Path

from sevkit.errors import NotPermittedError
from sevkit.memory.gcore import ptrace_hint
from sevkit.memory.source import Region, SourceGoneError

_LINE = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S{4}) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)$")
# Pages that belong to the kernel, not to the process: never guest memory, and not readable through ptrace.
_KERNEL = frozenset({"[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"})
_USED = frozenset({"Rss", "Swap", "Shared_Hugetlb", "Private_Hugetlb"})


@dataclass(frozen=True, slots=True)
class Mapping:
    """A mapping of a process: its region, the file behind it, whether any page of it is used, and its flags."""

    region: Region
    device: str
    inode: int
    used: bool
    flags: frozenset[str]  # two letters each, proc(5) VmFlags: dd = left out of cores, io/pf = device memory, ht = huge

    @property
    def shared(self) -> bool:
        """Whether writes are shared with other processes."""
        return self.region.perms.endswith("s")

    @property
    def anonymous(self) -> bool:
        """Whether no file is behind it."""
        return self.inode == 0


def read_mappings(pid: int) -> list[Mapping]:
    """All mappings of a process. Raises SourceGoneError or NotPermittedError."""
    try:
        text = Path(f"/proc/{pid}/smaps").read_text(errors="surrogateescape")
    except PermissionError as error:
        raise NotPermittedError(f"not permitted to look into process {pid}", hint=ptrace_hint(pid)) from error
    except (FileNotFoundError, ProcessLookupError) as error:
        raise SourceGoneError(f"there is no process {pid}") from error
    if not text:
        raise SourceGoneError(f"process {pid} has no memory: it ended, or belongs to the kernel")
    return parse_smaps(text)


def parse_smaps(text: str) -> list[Mapping]:
    """The mappings in the text of an smaps file, without the kernel's own pages."""
    found: list[Mapping] = []
    head: re.Match[str] | None = None
    used, flags = False, frozenset[str]()
    for line in text.split("\n"):
        key, colon, value = line.partition(":")
        if colon and key in _USED:
            used = used or not value.lstrip().startswith("0 ")
        elif colon and key == "VmFlags":
            flags = frozenset(value.split())
        elif match := _LINE.match(line):
            if head:
                found.append(_mapping(head, used, flags))
            head, used, flags = match, False, frozenset()
    if head:
        found.append(_mapping(head, used, flags))
    return [mapping for mapping in found if mapping.region.name not in _KERNEL]


def _mapping(head: re.Match[str], used: bool, flags: frozenset[str]) -> Mapping:
    start, end, perms, offset, device, inode, name = head.groups()
    why = "device memory" if flags & {"io", "pf"} else ""
    region = Region(int(start, 16), int(end, 16), name, perms, int(offset, 16), not why, why)
    return Mapping(region, device, int(inode), used, flags)
