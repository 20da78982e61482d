"""A disk with a Debian root file system, made by mmdebstrap. Nothing of a build outlives it, however it ends.

mmdebstrap mounts /proc, /sys and /dev in the tree, and has several processes. Killed, it would leave all of them, and
gigabytes in the temporary directory. So it runs in namespaces of its own, which the kernel dissolves with the first
process in them, and works in a folder that belongs to the build.
"""

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sevkit import processes
from sevkit.errors import NoSpaceError, SevkitError
from sevkit.guest import ext4
from sevkit.guest.watch import NewLines, watching

Progress = Callable[[str], None]

# Lines of the log with this prefix say what the build does; a script in the tree writes them to its output.
STEP = "sevkit: "
_TIMEOUT = 7200.0
_NAMESPACES = ("--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Without root: this user is root in the tree, its other owners are the user's subordinate IDs (subuid(5)).
_USER_NAMESPACE = ("--map-root-user", "--map-auto")
_LAST_LINES = 30
_FULL = re.compile(r"no space left on device|enough free space", re.IGNORECASE)


class ImageBuildError(SevkitError):
    """The root file system of an image cannot be built here; the detail has the last lines of what failed."""


@dataclass(frozen=True)
class Recipe:
    """What a disk has: Debian packages, its size as mke2fs takes it, and hooks (shell commands, the tree is $1)."""

    release: str
    packages: tuple[str, ...]
    size: str
    hooks: tuple[str, ...] = ()


def build(disk: Path, recipe: Recipe, work: Path, log: Path, progress: Progress) -> None:
    """Make the disk. ``work`` is a folder for the tree, gone at the end; ``log`` stays, and has what scripts print.

    Raises ImageBuildError with the step that failed, NoSpaceError for a full disk, MissingToolError.
    """
    processes.find_tool("mke2fs", package="e2fsprogs")
    processes.find_tool("mmdebstrap")
    isolation = _isolation()
    work.mkdir(parents=True)
    steps = NewLines(log, STEP)
    done: list[str] = []

    def look() -> None:
        for step in steps.read():
            done.append(step)
            progress(step)

    log.write_text(f"{STEP}fetching the base system\n")
    env = processes.environment(TMPDIR=str(work))
    try:
        with watching(look):
            ended = processes.run([*isolation, *argv(disk, recipe, work, log)], timeout=_TIMEOUT, env=env)
        look()
        with contextlib.suppress(OSError), log.open("ab") as stream:  # its disk may be the full one
            stream.write(ended.stderr)
    finally:
        _remove(work, isolation)
    if ended.status != 0:
        raise _failure(done[-1] if done else "starting", ended.error_text, log, disk.parent)
    progress("checking the file system")
    ext4.check_files(disk, ("usr/bin/fio", "usr/bin/make", "usr/bin/gcc"))


def argv(disk: Path, recipe: Recipe, work: Path, log: Path) -> list[str]:
    """The command line of mmdebstrap that makes the disk."""
    told, tree = shlex.quote(str(log)), shlex.quote(str(work / "tree"))

    def step(text: str) -> str:
        return f"echo {shlex.quote(STEP + text)} >> {told}"

    # The file system is filled where files have their owners. A bind mount shows the tree without what is mounted in
    # it. Where mounting is not permitted (a container), the tree is copied: not through a pipe, since the shell would
    # ignore that its first part failed.
    view = f'mkdir {tree} && {{ mount --bind "$1" {tree} 2>/dev/null || cp -ax "$1/." {tree}/; }}'
    pack = f"mke2fs -q -t ext4 -L sevkit-root -E lazy_itable_init=0 -d {tree} {shlex.quote(str(disk))} {recipe.size}"
    own = 'mkdir -p "$1/run" "$1/mnt" && rm -rf "$1"/var/cache/apt/*'
    prepared = (
        f"( {hook} ) >> {told} 2>&1 < /dev/null || {{ tail -n 20 {told} >&2; exit 1; }}" for hook in recipe.hooks
    )
    packed = (step("writing the file system"), f"{view} && {pack}", f"umount {tree} || true", step("removing the tree"))
    hooks = (*prepared, own, *packed)
    return [
        *("mmdebstrap", "--variant=minbase", "--format=null", f"--include={','.join(recipe.packages)}"),
        f"--essential-hook={step(f'installing {len(recipe.packages)} packages and what they need')}",
        *(f"--customize-hook={hook}" for hook in hooks),
        *(recipe.release, "/dev/null"),
    ]


def _isolation() -> list[str]:
    """The words that run a command in namespaces of its own; none where that is not permitted."""
    if not processes.have_tool("unshare"):
        return []
    words = ["unshare", *_NAMESPACES, *(() if os.geteuid() == 0 else _USER_NAMESPACE)]
    return words if processes.run([*words, "true"], timeout=10).status == 0 else []


def _remove(folder: Path, isolation: Sequence[str]) -> None:
    """Remove a tree; without root, parts of it belong to subordinate IDs, and only their namespace can remove them."""
    if isolation and os.geteuid() != 0:
        processes.run([*isolation, "rm", "-rf", "--one-file-system", str(folder)], timeout=_TIMEOUT)
    shutil.rmtree(folder, ignore_errors=True)


def _failure(step: str, errors: str, log: Path, folder: Path) -> SevkitError:
    # Lines with "I:" say what mmdebstrap does, not what failed.
    words = [line for line in errors.splitlines() if not line.startswith("I: ")]
    last = "\n".join(words[-_LAST_LINES:])
    if _FULL.search(errors):
        free = shutil.disk_usage(folder).free >> 20
        return NoSpaceError(
            f"the disk was full while {step}; {free} MiB are free at {folder.parent.parent} now",
            hint="set SEVKIT_CACHE_DIR to a larger disk",
            detail=last,
        )
    return ImageBuildError(
        f"the image was not built: {step} failed", hint=f"{log} has all that was printed", detail=last
    )
