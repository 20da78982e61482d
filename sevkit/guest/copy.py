"""Copy files and folders into a guest and out of it, to the same paths as `cp -r`."""

import shlex
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from sevkit.errors import BadInputError, GuestError, UsageError
from sevkit.guest.result import CommandResult


class Reached(Protocol):
    """The operations of a guest that copying needs."""

    def run(self, command: str, *, stdin: bytes = b"", timeout: float = 60.0) -> CommandResult:
        """Run a command in the guest's shell."""
        ...

    def put(self, source: Path, target: str) -> None:
        """Copy a file into the guest."""
        ...

    def get(self, source: str, target: Path) -> None:
        """Copy a file out of the guest."""
        ...


_TIMEOUT = 600.0


def copy_in(guest: Reached, source: Path, target: str) -> tuple[str, int]:
    """Copy a file or folder of this host into the guest. Returns its path there and the total size of its files."""
    if not source.exists():
        raise UsageError(f"there is no {source}")
    if target.endswith("/") or _is_folder(guest, target):
        target = str(PurePosixPath(target) / source.resolve().name)
    if source.is_file():
        guest.put(source, target)
        return target, source.stat().st_size
    if not source.is_dir():
        raise UsageError(f"{source} is neither a file nor a folder")
    with tempfile.TemporaryDirectory(prefix="sevkit-copy-") as scratch:
        packed = Path(scratch) / "packed.tar"
        with tarfile.open(packed, "w", format=tarfile.GNU_FORMAT) as archive:
            archive.add(source, arcname=".")
        there = f"/tmp/.{packed.name}-{Path(scratch).name}"  # noqa: S108 - in the guest
        guest.put(packed, there)
    where = shlex.quote(target)
    _ok(guest, f"mkdir -p {where} && tar -C {where} -xf {there}; s=$?; rm -f {there}; exit $s")
    return target, _bytes_in(source)


def copy_out(guest: Reached, source: str, target: Path) -> tuple[Path, int]:
    """Copy a file or folder out of the guest. Returns its path here and the total size of its files.

    The guest may be hostile: a folder is unpacked without links out of it, devices or owners (PEP 706, filter "data").
    """
    name = PurePosixPath(source).name
    if target.is_dir() and name not in ("", ".", ".."):
        target = target / name
    if not _is_folder(guest, source):
        if guest.run(f"[ -e {shlex.quote(source)} ]", timeout=_TIMEOUT).status:
            raise UsageError(f"there is no {source} in the guest")
        guest.get(source, target)
        return target, target.stat().st_size
    there = f"/tmp/.sevkit-copy-{abs(hash(source)):x}.tar"  # noqa: S108 - in the guest
    _ok(guest, f"tar -C {shlex.quote(source)} -cf {there} .")
    with tempfile.TemporaryDirectory(prefix="sevkit-copy-") as scratch:
        packed = Path(scratch) / "packed.tar"
        try:
            guest.get(there, packed)
        finally:
            guest.run(f"rm -f {there}", timeout=_TIMEOUT)
        target.mkdir(parents=True, exist_ok=True)
        try:
            with tarfile.open(packed) as archive:
                archive.extractall(target, filter="data")
        except (tarfile.TarError, EOFError) as error:
            raise BadInputError(f"what the guest sent of {source} cannot be unpacked: {error}") from error
    return target, _bytes_in(target)


def _is_folder(guest: Reached, path: str) -> bool:
    return guest.run(f"[ -d {shlex.quote(path)} ]", timeout=_TIMEOUT).status == 0


def _bytes_in(folder: Path) -> int:
    return sum(entry.lstat().st_size for entry in folder.rglob("*") if entry.is_file() and not entry.is_symlink())


def _ok(guest: Reached, line: str) -> None:
    done = guest.run(line, stdin=b"", timeout=_TIMEOUT)
    if done.status != 0:
        raise GuestError("copying failed in the guest", detail=done.stderr.decode(errors="replace"))
