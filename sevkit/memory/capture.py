"""Capture a process with gdb's gcore, as the published experiment does."""

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sevkit import processes, procfs
from sevkit.errors import CaptureError, DeadlineError, NoSpaceError, NotPermittedError, SevkitError
from sevkit.memory.sources.base import SourceGoneError, State, intersect, normalise, region_at
from sevkit.memory.sources.process import LiveMemory
from sevkit.paths import work_dir
from sevkit.procfs import ptrace_hint

# gdb's gcore.c, gcore_copy_callback.
_UNREAD = re.compile(r"Memory read failed for corefile section, \d+ bytes at 0x([0-9a-f]+)")


def command(pid: int, target: Path, *, all_mappings: bool = False) -> list[str]:
    """The gdb command line: the commands of gdb's ``gcore`` script in one process, so that no child survives us.

    With ``all_mappings`` the core filter and MADV_DONTDUMP are ignored, as by ``gcore -a``.
    """
    argv = ["gdb", "--nx", "--batch", "--readnever", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]
    if all_mappings:
        argv += ["-ex", "set use-coredump-filter off", "-ex", "set dump-excluded-mappings on"]
    return [*argv, "-ex", f"attach {pid}", "-ex", f"gcore {target}", "-ex", "detach", "-ex", "quit"]


def capture(pid: int, directory: Path, *, timeout: float = 300.0, all_mappings: bool = False) -> Path:
    """Write a core of ``pid`` below ``directory`` and return its path; the file has mode 0600.

    Raises SourceGoneError, NotPermittedError, NoSpaceError, MissingToolError, DeadlineError or CaptureError; then the
    file is removed.
    """
    processes.find_tool("gdb")
    target = directory / f"core.{pid}"
    _reserve(target, pid)
    try:
        _write(command(pid, target, all_mappings=all_mappings), pid, target, timeout)
        target.chmod(0o600)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return target


@contextlib.contextmanager
def captured(
    pid: int, directory: Path | None = None, *, timeout: float = 300.0, all_mappings: bool = False
) -> Iterator[Path]:
    """A core of ``pid`` while the block runs, at a path that only this process can use.

    The file has no name in ``directory`` (default: the directory for temporary files; O_TMPFILE, open(2)), so that it
    disappears however this process ends. If the file system does not support this, the file is in a private directory.
    Raises the same errors as ``capture``.
    """
    processes.find_tool("gdb")
    _check_alive(pid)
    try:
        descriptor = os.open(directory or tempfile.gettempdir(), os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            raise CaptureError(f"cannot write a core: {error.strerror}") from error
        with work_dir("core") as folder:
            yield capture(pid, Path(folder), timeout=timeout, all_mappings=all_mappings)
        return
    try:
        target = Path(f"/proc/self/fd/{descriptor}")  # gdb inherits the descriptor under the same number
        _write(command(pid, target, all_mappings=all_mappings), pid, target, timeout, (descriptor,))
        yield target
    finally:
        os.close(descriptor)


def _write(argv: list[str], pid: int, target: Path, timeout: float, descriptors: Sequence[int] = ()) -> None:
    try:
        done = processes.run(argv, timeout=timeout, pass_fds=descriptors)
    except DeadlineError as error:
        raise DeadlineError(
            f"gcore of process {pid} did not finish within {timeout:g} s",
            hint="give it more time, or read the process live: `sevkit scan --pid`",
        ) from error
    _judge(pid, target, done)


def _check_alive(pid: int) -> None:
    if not Path(f"/proc/{pid}").exists():
        raise SourceGoneError(f"there is no process {pid}")


def _reserve(target: Path, pid: int) -> None:
    """Create the file with mode 0600 before gdb writes the first secret byte into it."""
    if re.search(r"[\s\"'\\#;|&$`]", str(target)):  # gdb has no way to quote the argument of gcore
        raise CaptureError(f"gdb cannot write to {target}", hint="choose a directory without blanks and quotes")
    _check_alive(pid)
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    except OSError as error:
        raise CaptureError(f"cannot write {target}: {error.strerror}") from error


def _judge(pid: int, target: Path, done: processes.Completed) -> None:
    """Raise the error that gdb's messages mean: its exit status is 0 even if the core is incomplete."""
    words = f"{done.text}\n{done.error_text}"
    error = _cause(pid, words)
    if error is None and (lost := _lost_by_gdb(pid, done.error_text)):
        error = CaptureError(
            f"gdb could not read all memory of process {pid}: {lost} bytes with data are zeros in the core",
            hint="read the process live, without gdb: `--capture live`, or `sevkit scan --pid`",
        )
    if error is None and (done.status != 0 or not target.exists() or target.stat().st_size == 0):
        error = CaptureError(f"gcore wrote no core of process {pid}")
    if error is None and (missing := _missing_bytes(target)):
        error = CaptureError(f"the core of process {pid} was cut short: {missing} bytes are missing at its end")
    if error is not None:
        error.detail = done.error_text
        raise error


def _lost_by_gdb(pid: int, words: str) -> int:
    """The number of bytes with data that gdb could not read, from its warnings; it still exits with status 0.

    gdb writes zeros from the failing address to the end of the mapping. That loses nothing beyond the end of a mapped
    file, and in [vsyscall], which is not memory of the process.
    """
    addresses = [int(address, 16) for address in _UNREAD.findall(words)]
    if not addresses:
        return 0
    with LiveMemory(pid) as live:
        regions = [(address, region_at(live.regions(), address)) for address in addresses]
        zeros = normalise((address, region.end) for address, region in regions if region)
        return sum(part.size for part in intersect(live.stretches(), zeros) if part.state == State.DATA)


def _cause(pid: int, words: str) -> SevkitError | None:
    if "No space left on device" in words or "Disk quota exceeded" in words or "File too large" in words:
        return NoSpaceError(
            f"no space left for the core of process {pid}",
            hint="set TMPDIR to a larger disk, or read the process live, without a file: `--capture live`",
        )
    # If the process has ended but was not reaped yet (zombie), ptrace fails as it does for a process that is not ours.
    if "No such process" in words or procfs.is_zombie(pid) or not Path(f"/proc/{pid}").exists():
        return SourceGoneError(f"process {pid} ended before its core was complete")
    if "Operation not permitted" in words or "Permission denied" in words:
        return NotPermittedError(f"not permitted to attach to process {pid}", hint=ptrace_hint(pid))
    return None


def _missing_bytes(core: Path) -> int:
    """The number of bytes that the core's segments claim beyond the end of the file."""
    from sevkit.memory.sources.elf import parse

    with core.open("rb") as file:
        return parse(file.fileno()).missing_bytes
