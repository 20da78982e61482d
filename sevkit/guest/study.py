"""The images in which the published study is reproduced: the sources that it compiles, unpacked and configured."""

import shlex
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from sevkit.guest import sources

Progress = Callable[[str], None]

NAMES = ("study", "study-small")
# ext4 is made sparse: what is not written takes no space. Linux, LLVM and Godot leave about 20 GB of objects.
SIZES = {"study": "40G", "study-small": "6G"}
_SCRIPTS = {"study": "full.sh", "study-small": "small.sh"}
_PACKAGES = (
    *("cmake", "ninja-build", "scons", "pkg-config", "python3", "openssl", "cpio", "kmod"),
    *("libx11-dev", "libxcursor-dev", "libxinerama-dev", "libxi-dev", "libxrandr-dev", "libgl1-mesa-dev"),
    *("libglu1-mesa-dev", "libasound2-dev", "libpulse-dev", "libudev-dev"),
)


def packages(name: str) -> tuple[str, ...]:
    """The packages that an image needs beside those of `bench`."""
    return _PACKAGES if name == "study" else ()


def recipe(name: str) -> list[object]:
    """All that determines the content of an image, beside the recipe of `bench`."""
    pinned = [source.sha256 for source in sources.PINNED.values()]
    return [packages(name), SIZES[name], _script(name), pinned]


def _script(name: str) -> str:
    return resources.files("sevkit.guest").joinpath("sourcetrees", _SCRIPTS[name]).read_text(encoding="utf-8")


def fetched(progress: Progress) -> dict[str, tuple[sources.Source, Path]]:
    """The sources in the cache; raises MissingToolError."""
    return {name: sources.fetch(name, progress) for name in sources.PINNED}


def hook(name: str, found: dict[str, tuple[sources.Source, Path]], work: Path) -> str:
    """The hook of mmdebstrap that unpacks and configures the sources, natively, inside of the new file system.

    The script writes to the log of the build, and a line that starts with ``rootdisk.STEP`` for each step.
    """
    inbox = work / "sources"
    inbox.mkdir(parents=True)
    (inbox / "prepare.sh").write_text(_script(name))
    for _, path in found.values():
        shutil.copy(path, inbox / path.name)
    # The hook sees the host's files, also in the user namespace of a build without root.
    return (
        f'mkdir -p "$1/tmp/sources" && cp {shlex.quote(str(inbox))}/* "$1/tmp/sources/" '
        '&& chroot "$1" env HOME=/root SOURCES=/tmp/sources sh /tmp/sources/prepare.sh '
        '&& rm -rf "$1/tmp/sources"'
    )
