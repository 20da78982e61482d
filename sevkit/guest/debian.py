"""Fetch Debian packages without installing them, and find the libraries and modules that their programs need.

Works without root: apt-get download checks the packages against the signed index of the machine's configuration.
"""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile

from sevkit import processes
from sevkit.errors import BadInputError, MissingToolError
from sevkit.guest.apt import Apt, Progress, with_backports

_TIMEOUT = 600.0
# What pyelftools raises on damaged files, besides errors of its own.
_DAMAGED = (ELFError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, MemoryError)
# The meta packages that depend on the newest small kernel: Debian's, then Ubuntu's.
KERNEL_METAPACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-generic")


def kernel_packages(metapackages: Iterable[str] = KERNEL_METAPACKAGES) -> list[str]:
    """The packages (image, and modules if separate) on which the first meta package that apt has depends."""
    for meta in metapackages:
        if re.fullmatch(r"linux-image-\d.*", meta):
            return [meta]
        done = Apt().run("apt-cache", "depends", meta)
        found = re.findall(r"Depends: (linux-(?:image|modules)-[0-9]\S*)", done.text)
        if done.status == 0 and found:
            return found + [name.replace("image", "modules", 1) for name in found if "-generic" in name]
    raise MissingToolError(
        "apt knows no kernel package to build a guest from", hint="apt-get update, then run the command again"
    )


def kernel_of_series(series: str, progress: Progress) -> tuple[Apt, str]:
    """The newest cloud kernel of a series such as ``6.12``: from the machine's own release, else from its backports.

    Returns (apt configuration that has the package, name of the package). Raises MissingToolError.
    """
    for configure in (lambda _: Apt(), with_backports):
        apt = configure(progress)
        names = apt.run("apt-cache", "pkgnames", f"linux-image-{series}.").text.split()
        found = [name for name in names if re.fullmatch(r"linux-image-[\d.]+[\w.+-]*-cloud-amd64", name)]
        if found:
            return apt, max(found, key=_version)
    raise MissingToolError(
        f"neither this machine's release nor its backports have a cloud kernel {series}",
        hint="apt-cache pkgnames linux-image- lists the kernels that apt knows",
    )


def _version(name: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", name)]


def fetch(packages: Iterable[str], into: Path, apt: Apt | None = None) -> list[str]:
    """Download packages and unpack them below ``into``; returns their file names, which contain the versions."""
    debs = into / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    done = (apt or Apt()).run("apt-get", "download", "-q", *packages, timeout=_TIMEOUT, cwd=debs)
    if done.status != 0:
        raise MissingToolError(
            f"cannot download {' '.join(packages)}",
            hint="apt-get update, then run the command again",
            detail=done.error_text,
        )
    names = sorted(path.name for path in debs.glob("*.deb"))
    wanted = {re.split("[:=/]", package)[0] for package in packages}
    if missing := wanted - {name.partition("_")[0] for name in names}:
        raise MissingToolError(
            f"apt-get ended with status 0, but did not download {' '.join(sorted(missing))}", detail=done.error_text
        )
    for name in names:
        unpack(debs / name, into / "root")
    return names


def unpack(package: Path, into: Path) -> None:
    """Unpack a package's files below ``into``; raises BadInputError if one of them is missing or damaged."""
    processes.run(["dpkg-deb", "-x", str(package), str(into)], timeout=_TIMEOUT, check=BadInputError)
    sums = processes.run(["dpkg-deb", "-I", str(package), "md5sums"], timeout=_TIMEOUT)  # few packages have none
    for line in sums.text.splitlines():
        digest, _, name = line.partition("  ")
        if digest != _md5(into / name):
            raise BadInputError(
                f"{name} of {package.name} is not what the package says, although dpkg-deb said nothing"
            )


def _md5(path: Path) -> str | None:
    """Against accidents: the packages themselves are checked by SHA-256."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None


def needed_libraries(program: Path, root: Path) -> dict[str, Path]:
    """The closure of shared libraries of ``program`` found below ``root``: path in the guest -> file."""
    found: dict[str, Path] = {}
    queue = [program]
    while queue:
        interpreter, names = _dynamic(queue.pop())
        for name in [*names, *([interpreter.rsplit("/", 1)[-1]] if interpreter else [])]:
            where = f"lib64/{name}" if name.startswith("ld-linux") else f"usr/lib/{name}"
            if where in found:
                continue
            candidates = sorted(path for path in root.rglob(name) if path.is_file())
            if not candidates:
                raise BadInputError(f"{program.name} needs {name}, which is in none of the packages")
            found[where] = candidates[0].resolve()
            queue.append(candidates[0])
    return found


def _dynamic(path: Path) -> tuple[str | None, list[str]]:
    try:
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            section = elf.get_section_by_name(".dynamic")
            interp = elf.get_section_by_name(".interp")
            tags = section.iter_tags("DT_NEEDED") if isinstance(section, DynamicSection) else ()
            names = [str(tag.needed) for tag in tags]  # type: ignore[attr-defined]
            return (interp.data().rstrip(b"\0").decode() if interp else None), names
    except _DAMAGED as error:
        raise BadInputError(f"{path} is not a program that can be read: {error}") from error


def module_closure(wanted: Iterable[str], modules: Path) -> list[Path]:
    """The files of kernel modules ``wanted`` and of their dependencies, in an order in which they can be loaded.

    A missing module is assumed to be built in. Dependencies come from each module's .modinfo section.
    """
    by_name = {path.name.split(".")[0].replace("-", "_"): path for path in sorted(modules.rglob("*.ko*"))}
    ordered: dict[str, Path] = {}

    def visit(name: str) -> None:
        path = by_name.get(name.replace("-", "_"))
        if path is None or path.name in ordered:
            return
        for needed in module_dependencies(read_module(path)):
            visit(needed)
        ordered[path.name] = path

    for name in wanted:
        visit(name)
    return list(ordered.values())


def read_module(path: Path) -> bytes:
    """A module's bytes, decompressed: Debian 13 ships compressed modules, and busybox cannot load these."""
    data = path.read_bytes()
    if path.suffix == ".xz":
        import lzma

        return lzma.decompress(data)
    if path.suffix == ".zst":
        return processes.run([processes.find_tool("zstd"), "-dc"], stdin=data, timeout=60, check=BadInputError).stdout
    return data


def module_dependencies(module: bytes) -> list[str]:
    """The names in the ``depends=`` entry of a module's .modinfo section (include/linux/module.h)."""
    import io

    try:
        section = ELFFile(io.BytesIO(module)).get_section_by_name(".modinfo")
        entries = [] if section is None else section.data().split(b"\0")
    except _DAMAGED as error:
        raise BadInputError(f"a kernel module cannot be read: {error}") from error
    for entry in entries:
        if entry.startswith(b"depends="):
            return [name.decode(errors="replace") for name in entry[8:].split(b",") if name]
    return []
