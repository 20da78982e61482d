"""How commands end: one place that turns results and errors into output and exit status."""

import errno
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import click

from sevkit.errors import ExitCode, NoSpaceError, NotPermittedError, SevkitError, UsageError
from sevkit.result import Result, failure


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, before it has been parsed: usage errors answer in JSON too."""
    own = list(argv)
    if "--" in own:  # what follows belongs to a command in a guest
        own = own[: own.index("--")]
    return "--json" in own or "--format=json" in own or ("--format", "json") in itertools.pairwise(own)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json`` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print only the result envelope, as JSON.")(function)


def finish(result: Result, *, as_json: bool, human: Callable[[Any], None] | None = None) -> None:
    """Print a result and end the command with its exit code.

    ``human`` prints ``result.data`` for people; it is called only without ``--json`` and when there is data.
    """
    if as_json:
        sys.stdout.write(result.to_json())
    else:
        if human is not None and result.data is not None:
            human(result.data)
        for error in result.errors:
            print_error(error)
    sys.stdout.flush()
    raise SystemExit(result.exit_code)


def print_error(error: SevkitError) -> None:
    """Write ``error:`` and ``hint:`` to stderr, with the words of another program in between."""
    stream = sys.stderr
    red, cyan, plain = ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") if colour(stream) else ("", "", "")
    stream.write(f"{red}error:{plain} {error.message}\n")
    for line in (error.detail or "").strip().splitlines()[-20:]:
        stream.write(f"  | {line}\n")
    if error.hint:
        stream.write(f"{cyan}hint:{plain} {error.hint}\n")


def colour(stream: Any) -> bool:
    """Whether to colour: only on a terminal, and never under NO_COLOR."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


def run_root(root: click.Command, argv: list[str]) -> int:
    """Run the command line; returns the exit status and never lets an exception out, except under --debug."""
    status = _run(root, argv)
    try:
        sys.stdout.flush()
    except OSError as error:
        _lose_stdout()
        if not isinstance(error, BrokenPipeError):
            print_error(_refused(error))
            return status or ExitCode.ENVIRONMENT
    return status


def _run(root: click.Command, argv: list[str]) -> int:
    try:
        outcome = root.main(args=argv, prog_name="sevkit", standalone_mode=False)
    except SystemExit as done:
        outcome = done.code
    except BaseException as error:  # noqa: BLE001 - even a defect answers in the asked-for form
        return failed(argv, error)
    return outcome if isinstance(outcome, int) else 0


def failed(argv: Sequence[str], error: BaseException) -> int:
    """Tell of what ended a command, in the form that its line asks for; returns the exit status."""
    if isinstance(error, BrokenPipeError):
        # The reader went away (`| head`): that is not our failure, and there is nobody left to tell.
        _lose_stdout()
        return 0
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message())
        return ExitCode.USAGE
    return _fail(argv, _as_ours(error))


def _as_ours(error: BaseException) -> SevkitError:
    if isinstance(error, SevkitError):
        return error
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "sevkit"
        return UsageError(error.format_message(), hint=f"see `{path} --help`")
    if isinstance(error, click.ClickException):
        return UsageError(error.format_message())
    if isinstance(error, (KeyboardInterrupt, click.Abort, EOFError)):
        return _interrupted()
    return _defect(error)


def _fail(argv: Sequence[str], error: SevkitError) -> int:
    if "--debug" in argv:
        traceback.print_exc()
    if wants_json(argv):
        try:
            sys.stdout.write(failure(command_name(argv), error).to_json())
            sys.stdout.flush()
        except OSError:  # standard output itself is what failed
            _lose_stdout()
            print_error(error)
    else:
        print_error(error)
    return error.exit_code


def _lose_stdout() -> None:
    """Nobody can be told anything there any more: let the rest of it, and the interpreter's last flush, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _interrupted() -> SevkitError:
    error = SevkitError("interrupted", hint="what was started has been stopped and removed")
    error.exit_code = ExitCode.INTERRUPTED
    return error


def _defect(error: BaseException) -> SevkitError:
    if isinstance(error, OSError):
        return _refused(error)
    if isinstance(error, MemoryError):
        return NoSpaceError("out of memory", hint="give the guest less --memory, or run fewer at once")
    return SevkitError(
        f"sevkit itself failed: {type(error).__name__}: {error}",
        hint="this is a defect: run again with `sevkit --debug …` and report the traceback",
    )


def _refused(error: OSError) -> SevkitError:
    """What the operating system refused, as the cause that it is."""
    words = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoSpaceError(words, hint="free some space, or set TMPDIR, SEVKIT_STATE_DIR, SEVKIT_CACHE_DIR elsewhere")
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN):
        return NoSpaceError(words, hint="`ulimit -a` shows this user's limits; or run fewer at once")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return NotPermittedError(words, hint="`sevkit doctor` says what this user may do")
    return SevkitError(words)


def command_name(argv: Sequence[str]) -> str:
    """``probe`` or ``attack run`` from a command line: the words before the first option, two at most."""
    words: list[str] = []
    for word in argv:
        if word.startswith("-"):
            if words:
                break
            continue
        words.append(word)
    single = {"probe", "scan", "doctor"}
    alone = words and words[0] in single and words[1:2] != ["diff"]
    return " ".join(words[:1] if alone else words[:2])
