"""Run other programs: only this module starts processes.

The kernel kills every child when we end (PR_SET_PDEATHSIG), every wait has a deadline, no command goes through a shell,
and a command line can be shown as text to paste into a shell.
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

# Seconds for the kernel to clean up a killed process: this always succeeds, but takes time for a VMM on a busy host.
_END_AFTER_KILL = 60.0

# Called with each command line before it runs: `--debug` sets it to print.
observer: Callable[[str], None] | None = None


@dataclass(frozen=True)
class Completed:
    """The result of a finished program: exit status (-N: killed by signal N), standard output and error as bytes."""

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
    """The command line as one line to paste into a shell."""
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
    """Runs in the child before exec: ask the kernel to kill this process when ``parent`` ends."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # the parent ended before the request took effect
            os._exit(1)

    return prepare


def _leave_mark(mark: Path) -> Callable[[], None]:
    """Runs in a detached child before exec: write its PID and start time to a file, so that it can be found."""

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

    With ``check``, a non-zero exit status raises that error, with the program's output as detail.
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
    """Start a program and return at once. It is killed when we end, unless ``detach`` gives it a session of its own.

    A detached program has its PID and start time written to ``mark`` before its first instruction runs.
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
    """End a program that we started: SIGTERM, wait ``grace`` seconds, then SIGKILL. Returns its exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_END_AFTER_KILL)
    return process.returncode


def end(pid: int, start_time: int, *, grace: float = 3.0) -> None:
    """End a process that is not our child: SIGTERM, wait ``grace`` seconds, then SIGKILL.

    First a pidfd is opened, and then the start time compared: so a process that reuses the PID is never killed.
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
    """A program that runs while the block runs."""
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
