"""Read a bundle (a directory, or a tar archive as sosreport makes it): its known files become facts of one host."""

import os
import re
import tarfile
from collections.abc import Iterator
from typing import IO, Any

from sevkit import textfile
from sevkit.errors import BadInputError, SevkitError
from sevkit.probe.collect import FACTS_VERSION
from sevkit.probe.facts import Facts, checked, from_dump
from sevkit.probe.foreign import said
from sevkit.probe.leaf import LEAF, decode
from sevkit.probe.oklists import Said

_MAX_MEMBERS = 500_000
_MAX_TAKEN = 400
_MAX_FILE = 16 << 20
_MAX_TOTAL = 512 << 20
# Names of files that may contain facts. Others are not opened, since a report may have gigabytes.
_WANTED = re.compile(
    r"(?:dmesg|journal|kern\.log|messages|syslog|console|cpuid|x86info|lscpu|cpuinfo|cmdline|capabilit|snphost|sevctl"
    r"|snpguest|fwupd|host-validate"
    r"|qmp|query-sev|misc\.(?:capacity|current)|/config(?:-|\.gz|$)|modprobe\.d/|kvm(?:_amd)?/parameters/|smt/control"
    r"|dmi/id/|amd-iommu/features)[^/]*$|kvm(?:_amd)?/parameters/\w+$",
    re.IGNORECASE,
)
_HIDDEN = re.compile(r"(?:^|/)(?:lib/modprobe\.d|usr/lib/modprobe\.d)/")


def is_bundle(path: str) -> bool:
    """Whether a path is a directory or a tar archive (also compressed)."""
    return path != "-" and (os.path.isdir(path) or bool(re.search(r"\.(?:tar(?:\.\w+)?|tgz|txz|tbz2?|tzst)$", path)))


def read_bundle(path: str) -> Facts:
    """Facts from a bundle; raises BadInputError when it contains no known file."""
    gathered = _Gathered()
    for name, data in _files(path):
        try:
            gathered.take(name, textfile.plain(data, name, _MAX_FILE))
        except SevkitError:
            continue
    return gathered.facts(path)


def facts_of_text(data: bytes, name: str) -> Facts | None:
    """Facts from the output of one other program, or None if the program is not known."""
    gathered = _Gathered()
    gathered.take(name, data)
    return gathered.facts(name) if gathered.used else None


class _Gathered:
    """Readings by name, each with its first file; a different value in a later file is a contradiction."""

    def __init__(self) -> None:
        self.used: list[dict[str, str]] = []
        self.contradictions: list[str] = []
        self.readings: dict[str, dict[str, Any]] = {}
        self.cpuid: tuple[str, dict[str, Any]] | None = None
        self.fields: dict[str, tuple[str, int]] = {}

    def take(self, name: str, data: bytes) -> None:
        if self._dump(name, data):
            return
        found = said(name, data.decode("utf-8", "replace"))
        if found is not None:
            self._said(name, found)

    def _dump(self, name: str, data: bytes) -> bool:
        from sevkit.probe.dumps import looks_like_dump

        if not looks_like_dump(data):
            return False
        try:
            cpuid = from_dump(data, name).raw["cpuid"]
        except BadInputError:
            return False
        self.used.append({"file": name, "what": "CPUID dump"})
        if self.cpuid is None:
            self.cpuid = name, cpuid
        elif _first_leaf(cpuid) not in (None, _first_leaf(self.cpuid[1])):
            self.contradictions.append(f"leaf 0x8000001f: {self.cpuid[0]} and {name} differ; the first counts")
        return True

    def _said(self, name: str, found: Said) -> None:
        self.used.append({"file": name, "what": found.what})
        for reading, value in found.readings.items():
            old = self.readings.setdefault(reading, {"from": name, "value": value})
            if _same(old["value"], value):
                continue
            if reading == "modprobe.kvm_amd":
                old["value"] = [*old["value"], *(line for line in value if line not in old["value"])]
            elif reading != "kernel.log":
                self.contradictions.append(f"{reading}: {old['from']} and {name} differ; the first counts")
            elif len(value) > len(old["value"]):
                self.readings[reading] = {"from": name, "value": value}
        for field, number in found.fields.items():
            first = self.fields.setdefault(field, (name, number))
            if first[1] != number:
                self.contradictions.append(f"{field}: {first[0]} says {first[1]}, {name} says {number}")

    def _against_the_leaf(self) -> None:
        registers = _first_leaf(self.cpuid[1]) if self.cpuid else None
        if self.cpuid is None or registers is None:
            return
        from sevkit.probe.leaf import Registers

        leaf = decode(Registers(*registers))
        for field, (name, number) in self.fields.items():
            if leaf[field] != number:
                self.contradictions.append(f"{field}: {self.cpuid[0]} says {leaf[field]}, {name} says {number}")

    def facts(self, path: str) -> Facts:
        """Return everything gathered, as facts of one host."""
        if not self.used:
            raise BadInputError(
                f"{path}: nothing in it is known",
                hint="a sosreport, or an archive with the kernel log, `cpuid -r`, lscpu, /proc/cpuinfo, `snphost ok` …",
            )
        self._against_the_leaf()
        empty = {"method": "dump", "cpus": [], "unreadable": []}
        cpuid = {**(self.cpuid[1] if self.cpuid else empty), "method": "bundle"}
        source = {"kind": "bundle", "host": None, "used": self.used, "contradictions": self.contradictions}
        raw = {
            "sevkit_facts_version": FACTS_VERSION,
            "taken": None,
            "source": source,
            "cpuid": cpuid,
            "readings": self.readings,
        }
        return Facts(checked(raw, path))


def _same(old: Any, new: Any) -> bool:
    """Whether two readings agree; a module's parameter is "Y" or "1", depending on the kernel."""
    switches = {"1": "Y", "0": "N"}
    return bool(old == new) or (isinstance(old, str) and switches.get(old, old) == switches.get(new, new))


def _first_leaf(cpuid: dict[str, Any]) -> list[int] | None:
    from sevkit.probe.collect.cpuid import key

    found: list[int] | None = cpuid["cpus"][0]["leaves"].get(key(LEAF, 0)) if cpuid["cpus"] else None
    return found


def _files(path: str) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of the files that may contain facts, settings of /etc before those of /usr."""
    total = count = 0
    source = _in_folder(path) if os.path.isdir(path) else _in_archive(path)
    for name, data in source:
        total, count = total + len(data), count + 1
        if count > _MAX_TAKEN:
            raise BadInputError(
                f"{path}: more than {_MAX_TAKEN} logs and dumps in it", hint="give the report of one host"
            )
        if total > _MAX_TOTAL:
            raise textfile.too_large(path, _MAX_TOTAL)
        yield name, data


def _in_folder(path: str) -> Iterator[tuple[str, bytes]]:
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            whole = os.path.join(folder, name)
            shown = os.path.relpath(whole, path)
            regular = _wanted(shown) and os.path.isfile(whole) and not os.path.islink(whole)
            if regular and os.path.getsize(whole) <= _MAX_FILE:
                yield shown, textfile.read_bytes(whole, _MAX_FILE)[0]


def _in_archive(path: str) -> Iterator[tuple[str, bytes]]:
    try:
        with open(path, "rb") as file, _tar(file) as archive:
            for number, member in enumerate(archive):
                if number >= _MAX_MEMBERS:
                    raise BadInputError(f"{path}: more than {_MAX_MEMBERS} files in it", hint="give a part of it")
                if member.isreg() and member.size <= _MAX_FILE and _wanted(member.name):
                    content = archive.extractfile(member)
                    yield member.name.removeprefix("./"), content.read() if content else b""
    except OSError as error:
        words = (error.strerror or str(error)).lower()
        raise BadInputError(f"cannot read {path}: {words}", hint="check the path") from error
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise BadInputError(f"{path}: the archive is damaged or cut off: {error}", hint="copy it again") from error


def _tar(file: IO[bytes]) -> tarfile.TarFile:
    """Read the archive as a stream: no seeking, and nothing is unpacked to a disk. zstd is decompressed first."""
    magic = file.read(4)
    file.seek(0)
    if magic != b"\x28\xb5\x2f\xfd":
        return tarfile.open(fileobj=file, mode="r|*")
    import tempfile

    plain = tempfile.TemporaryFile()  # noqa: SIM115 - the archive keeps it
    size = 0
    for chunk in textfile.zstd_chunks(file):
        size += plain.write(chunk)
        if size > 8 * _MAX_TOTAL:
            raise ValueError("it unpacks to more than 4 GiB")
    plain.seek(0)
    return tarfile.open(fileobj=plain, mode="r|")


def _wanted(name: str) -> bool:
    return bool(_WANTED.search(name)) and not _HIDDEN.search(name)
