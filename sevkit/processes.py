"""Running other programs: the one place that starts processes.

Every child dies with us (PR_SET_PDEATHSIG), every wait has a deadline, nothing goes through a shell, and the command
lines can be shown as text that can be pasted.
"""

import contextlib
import ctypes
import os
import select
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sevkit.errors import DeadlineError, MissingToolError, SevkitError
from sevkit.paths import write_private
from sevkit.procfs import is_zombie, process_start_time

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

# Seconds in which the kernel takes a killed process apart: it cannot refuse, but a VMM's memory and a busy host cost.
_END_AFTER_KILL = 60.0

# Called with each command line before it runs: `--debug` sets it to print.
observer: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Completed:
    """What a finished program left: exit status (negative: killed by that signal) and its two streams, as bytes."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        """Standard error as text, without white space around it."""
        return self.stderr.decode(errors="replace").strip()


def pasteable(argv: Sequence[str]) -> str:
    """The command line as one line of shell that can be pasted."""
    return shlex.join(argv)


def find_tool(name: str, *, package: str | None = None) -> str:
    """The path of a program on PATH; raises MissingToolError with the package to install."""
    path = shutil.which(name)
    if path is None:
        raise MissingToolError(f"{name} is not installed", hint=f"apt-get install {package or name}")
    return path


def have_tool(name: str) -> bool:
    """Whether a program of that name is on PATH."""
    return shutil.which(name) is not None


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes the program: ask the kernel to be killed when ``parent`` ends."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel was asked
            os._exit(1)

    return prepare


def _leave_mark(mark: Path) -> Callable[[], None]:
    """What a detached child does before it becomes the program: write down who it is, so that it can be found."""

    def prepare() -> None:
        pid = os.getpid()
        write_private(mark, f"{pid} {process_start_time(pid)}")

    return prepare


def _cannot_run(program: str, error: OSError) -> MissingToolError:
    if isinstance(error, PermissionError):
        return MissingToolError(f"cannot run {program}: permission denied", hint=f"check the mode of {program}")
    return MissingToolError(f"cannot run {program}: not found", hint="is it installed and on PATH?")


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: bytes | None = None,
    check: type[SevkitError] | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end, within ``timeout`` seconds.

    With ``check`` a non-zero exit raises that error, with the program's own words as detail.
    """
    _observe(argv)
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            cwd=cwd,
            env=env,
            check=False,
            pass_fds=tuple(pass_fds),
            preexec_fn=_die_with(os.getpid()),
        )
    except (FileNotFoundError, PermissionError) as error:
        raise _cannot_run(argv[0], error) from error
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(f"{argv[0]} did not finish within {timeout:g} s") from error
    completed = Completed(tuple(argv), done.returncode, done.stdout, done.stderr)
    if check is not None and completed.status != 0:
        raise check(f"{Path(argv[0]).name} failed with status {completed.status}", detail=completed.error_text)
    return completed


def start(  # noqa: PLR0913 - as many as a process has streams and surroundings
    argv: Sequence[str],
    *,
    stdout: IO[bytes] | int = subprocess.DEVNULL,
    stderr: IO[bytes] | int = subprocess.DEVNULL,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    detach: bool = False,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    mark: Path | None = None,
) -> "subprocess.Popen[bytes]":
    """Start a program and return at once. It dies with us, unless ``detach`` gives it a session of its own.

    A detached program leaves its PID and start time in ``mark`` before its first instruction runs.
    """
    prepare = _leave_mark(mark) if detach and mark is not None else None
    _observe(argv)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(pass_fds),
            start_new_session=detach,
            preexec_fn=prepare if detach else _die_with(os.getpid()),
            env=env,
            cwd=cwd,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise _cannot_run(argv[0], error) from error


def stop(process: "subprocess.Popen[bytes]", *, grace: float = 3.0) -> int:
    """End a program that we started: ask, wait ``grace`` seconds, then kill. Returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_AFTER_KILL)
    return process.returncode


def end(pid: int, start_time: int, *, grace: float = 3.0) -> None:
    """End a process that is not our child: ask, wait ``grace`` seconds, kill.

    The start time is compared after the descriptor is open, so that a PID used again is never taken for the process.
    """
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process_start_time(pid) != start_time or is_zombie(pid):
                    return
                signal.pidfd_send_signal(descriptor, number)
                if select.select([descriptor], [], [], grace)[0]:
                    return
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def running(argv: Sequence[str], **options: object) -> "Iterator[subprocess.Popen[bytes]]":
    """A program that runs as long as the block does."""
    process = start(argv, **options)  # type: ignore[arg-type]
    try:
        yield process
    finally:
        stop(process)


def _observe(argv: Sequence[str]) -> None:
    if observer is not None:
        observer(pasteable(argv))


def environment(**changes: str) -> dict[str, str]:
    """The environment of this process with changes."""
    return {**os.environ, **changes}
