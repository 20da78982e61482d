"""Source code for benchmark images: Debian's original tarballs, by SHA-256, in the cache.

No address is in this file: what is fetched comes from the mirrors in the configuration of the machine's apt.
"""

import fcntl
import hashlib
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from sevkit.errors import MissingToolError
from sevkit.guest import apt
from sevkit.guest.watch import watching
from sevkit.paths import cache_dir

Progress = Callable[[str], None]

_STEP = 10  # per cent between two messages


@dataclass(frozen=True)
class Source:
    """One tarball: the Debian source package, the path below an archive, SHA-256, and the size in bytes."""

    package: str
    pool_path: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """The name of the tarball, which contains the version."""
        return self.pool_path.rpartition("/")[2]


# Tarballs of Debian 12. Godot and ImageMagick are a major version behind the study's, Linux and LLVM close to them.
PINNED = {
    "linux": Source(
        "linux",
        "pool/main/l/linux/linux_6.1.176.orig.tar.xz",
        "9aad4025973feea3f0d978e82ab7db97d8d5ce3f59fcc6b1f316153d66e3a504",
        137945728,
    ),
    "llvm": Source(
        "llvm-toolchain-16",
        "pool/main/l/llvm-toolchain-16/llvm-toolchain-16_16.0.6.orig.tar.xz",
        "5ab98480d3bc9f1896de1a1afafb46c318a9baa02bf21a4f6830c644d06c1cc0",
        136421172,
    ),
    "godot": Source(
        "godot",
        "pool/main/g/godot/godot_3.2.3-stable.orig.tar.gz",
        "4c2a8e7da1ad05c6223b0ff6cf2be124dad6708b56a8ec9910dc2aaf82a553ae",
        22459811,
    ),
    "imagemagick": Source(
        "imagemagick",
        "pool/main/i/imagemagick/imagemagick_6.9.11.60+dfsg.orig.tar.xz",
        "472fb516df842ee9c819ed80099c188463b9e961303511c36ae24d0eaa8959c4",
        9395144,
    ),
}


def fetch(name: str, progress: Progress) -> tuple[Source, Path]:
    """One source in the cache, and what it is; raises MissingToolError when no mirror has it.

    The pinned version is preferred. An archive drops old versions: then the newest one of the signed index that a
    mirror still has is taken, and said to differ.
    """
    pinned = PINNED[name]
    if (path := _get(pinned, progress)) is not None:
        return pinned, path
    progress(f"{pinned.file} is on no mirror any more: looking for another version")
    for other in _from_index(pinned.package, progress):
        if (path := _get(other, progress)) is not None:
            return other, path
    raise MissingToolError(
        f"the source of {pinned.package} cannot be fetched: no Debian mirror of this machine's apt has it",
        hint=f"put {pinned.file} into {cache_dir('sources', pinned.sha256)}; it is checked by its SHA-256",
    )


def missing() -> list[Source]:
    """The pinned sources that are not in the cache yet."""
    return [source for source in PINNED.values() if not _place(source).exists()]


def _place(source: Source) -> Path:
    return cache_dir("sources", source.sha256) / source.file


def _get(source: Source, progress: Progress) -> Path | None:
    target = _place(source)
    with (target.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be fetching the same file
        if target.exists() and _digest(target) == source.sha256:
            return target
        with _told(target.with_name(f".{target.name}.part"), source, progress):
            found = apt.download_pinned(source.pool_path, source.sha256, target)
        return target if found else None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _told(partial: Path, source: Source, progress: Progress) -> AbstractContextManager[None]:
    """Tell how much of a file is there while it is fetched."""
    told = -1

    def look() -> None:
        nonlocal told
        size = partial.stat().st_size if partial.exists() else 0
        step = size * 100 // source.size // _STEP
        if step > told:
            told = step
            progress(f"fetching {source.file}: {size >> 20} of {source.size >> 20} MiB")

    return watching(look)


def _from_index(package: str, progress: Progress) -> list[Source]:
    """All tarballs of a source package in the signed indexes of the machine's suites, newest version first."""
    found = apt.with_sources(progress).run("apt-cache", "showsrc", "--only-source", package)
    return parse(package, found.text)


def parse(package: str, text: str) -> list[Source]:
    """The tarballs in the output of ``apt-cache showsrc``, newest version first, each once."""
    sources: dict[str, tuple[list[int], Source]] = {}
    for paragraph in text.split("\n\n"):
        folder = re.search(r"^Directory: (pool/[\w./+-]+)$", paragraph, re.MULTILINE)
        file = re.search(r"^ ([0-9a-f]{64}) (\d+) ([\w.+~-]+\.orig\.tar\.\w+)$", paragraph, re.MULTILINE)
        if folder and file:
            source = Source(package, f"{folder[1]}/{file[3]}", file[1], int(file[2]))
            sources[source.pool_path] = ([int(n) for n in re.findall(r"\d+", file[3])], source)
    ordered = sorted(sources.values(), key=lambda entry: entry[0], reverse=True)
    return [source for _, source in ordered]
