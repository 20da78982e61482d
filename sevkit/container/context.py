"""The build context that is sent to the engine: the sources, and the locked Python packages.

The packages are downloaded outside of the container, with this machine's configuration of pip. So the build in the
container needs no index and no credentials, and none of this machine's get into an image.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sevkit import processes
from sevkit.errors import MissingToolError
from sevkit.paths import cache_dir

_LOCK = "requirements-dev.lock"
_PARTS = ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", "SECURITY.md", "Makefile", _LOCK)
_FOLDERS = (
    *("sevkit", "attacks", "benchmarks", "emulator", "docker", "docs", "scripts", "tests"),
    *(".ci", ".github"),
)
_LEFT_OUT = {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".DS_Store"}
# The images' Python (Debian 12) and the C libraries that its wheels may need.
_PYTHON, _ABIS = "3.11", ("cp311", "abi3", "none")
_PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 24, 26, 27, 28, 31, 34, 35, 36))
_OLD_PLATFORMS = ("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64", "linux_x86_64", "any")


def source_root() -> Path:
    """The clone that contains this file; raises MissingToolError for an installed package."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "docker/Dockerfile").exists():
        raise MissingToolError(
            "images are built from a clone of the repository, and this is an installed package",
            hint="clone the repository and run `make setup` in it",
        )
    return root


def wheels(root: Path) -> Path:
    """The locked packages as a folder of wheels, each checked against its hash; downloaded once per lock file."""
    lock = root / _LOCK
    place = cache_dir("wheels")
    folder = place / hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    with (place / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if folder.is_dir():
            return folder
        with tempfile.TemporaryDirectory(dir=place, prefix=".fetching-") as scratch:
            _download(lock, Path(scratch) / "wheels")
            for old in place.iterdir():
                if old.is_dir() and not old.name.startswith("."):
                    shutil.rmtree(old)
            (Path(scratch) / "wheels").rename(folder)
    return folder


def _download(lock: Path, into: Path) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    argv += ["--require-hashes", "-r", str(lock), "-d", str(into), "--only-binary", ":all:"]
    argv += ["--python-version", _PYTHON, "--implementation", "cp"]
    argv += [word for abi in _ABIS for word in ("--abi", abi)]
    argv += [word for platform in (*_PLATFORMS, *_OLD_PLATFORMS) for word in ("--platform", platform)]
    done = processes.run(argv, timeout=900)
    if done.status != 0:
        raise MissingToolError(
            "pip cannot download the locked packages", hint="can pip install here?", detail=done.error_text
        )


@contextlib.contextmanager
def context() -> Iterator[IO[bytes]]:
    """The build context as a tar file. Times and owners are left out, so that equal sources give equal layers."""
    root = source_root()
    packages = wheels(root)
    with tempfile.TemporaryFile() as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in _PARTS:
                if (root / name).exists():
                    _add(archive, root / name, name)
            for name in _FOLDERS:
                _add_folder(archive, root / name, name)
            for package in sorted(packages.iterdir()):
                _add(archive, package, f"wheels/{package.name}")
        stream.seek(0)
        yield stream


def _add_folder(archive: tarfile.TarFile, folder: Path, name: str) -> None:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for entry in sorted([*files, *[each for each in folders if (Path(place) / each).is_symlink()]]):
            path = Path(place) / entry
            if path.suffix not in (".pyc", ".so"):  # built here, for this machine
                _add(archive, path, f"{name}/{path.relative_to(folder)}")


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if os.access(path, os.X_OK) else 0o644
    if path.is_symlink():
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115 - the text, as it is
        archive.addfile(info)
        return
    data = path.read_bytes()
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))
