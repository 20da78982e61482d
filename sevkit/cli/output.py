"""The only place that prints results and errors of commands, and returns their exit status."""

import errno
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any, TypeVar

from sevkit.errors import ExitCode, NoSpaceError, NotPermittedError, SevkitError, UsageError
from sevkit.result import Payload, Result, failure

_Command = TypeVar("_Command", bound=Callable[..., object])
_JSON = "sevkit.json"


def reporting(function: _Command) -> _Command:
    """Add ``--json`` to a command that returns a Result."""
    import click

    def note(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
        del parameter
        if value:
            ctx.meta[_JSON] = True

    words = "Print only the result envelope, as JSON."
    return click.option("--json", is_flag=True, expose_value=False, callback=note, help=words)(function)


def json_wanted() -> bool:
    """Whether the command that runs was given ``--json`` (or a format that is JSON)."""
    import click

    return bool(click.get_current_context().meta.get(_JSON))


def want_json() -> None:
    """Print the result of the command that runs as JSON: for other ways to ask for it, like ``--format json``."""
    import click

    click.get_current_context().meta[_JSON] = True


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, before it has been parsed: usage errors answer in JSON too."""
    own = list(argv)
    if "--" in own:  # the rest is a command in a guest
        own = own[: own.index("--")]
    return "--json" in own or "--format=json" in own or ("--format", "json") in itertools.pairwise(own)


def show(result: Result[Payload], *, as_json: bool) -> int:
    """Print a result; returns its exit code, also where the reader of standard output has gone (``| head``)."""
    try:
        if as_json:
            sys.stdout.write(result.to_json())
        elif result.human is not None and result.data is not None:
            _write(result.human(result.data))
        sys.stdout.flush()
    except BrokenPipeError:
        lose_stdout()
    for error in () if as_json else result.errors:
        print_error(error)
    if result.then is not None:
        result.then()
    return result.exit_code


def shown(argv: Sequence[str], answer: Callable[[], Result[Any]]) -> int:
    """Ask, and print what is answered as JSON; failures too."""
    try:
        return show(answer(), as_json=True)
    except BaseException as error:  # noqa: BLE001 - even a defect answers in the asked-for form
        return failed(argv, error)


def pass_on(out: bytes, err: bytes, status: int) -> int:
    """Write the streams of another program as they are; returns its exit status."""
    try:
        sys.stdout.buffer.write(out)
        sys.stdout.flush()
    except BrokenPipeError:
        lose_stdout()
    try:
        sys.stderr.buffer.write(err)
        sys.stderr.flush()
    except OSError:
        _lose(sys.stderr)
    return status


def _write(lines: Iterable[str]) -> None:
    from sevkit import cleantext as clean
    from sevkit.render.plain import ASCII, ascii_only

    plain = ascii_only(sys.stdout)
    for each in lines:
        line = clean.coloured(each.translate(ASCII) if plain else each)
        sys.stdout.write(line if line.endswith("\n") else line + "\n")


def print_error(error: SevkitError) -> None:
    """Write ``error:`` and ``hint:`` to stderr, with the words of another program in between."""
    try:
        _write_error(sys.stderr, error)
        sys.stderr.flush()
    except OSError:  # a full disk, or nobody reads: the exit status still says it
        _lose(sys.stderr)


def _write_error(stream: IO[str], error: SevkitError) -> None:
    from sevkit import cleantext as clean

    red, cyan, plain = ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") if colour(stream) else ("", "", "")
    stream.write(f"{red}error:{plain} {clean.text(error.message)}\n")
    for line in (error.detail or "").strip().splitlines()[-20:]:
        stream.write(f"  | {clean.line(line)}\n")
    if error.hint:
        stream.write(f"{cyan}hint:{plain} {clean.text(error.hint)}\n")


def colour(stream: IO[str]) -> bool:
    """Whether to colour: only on a terminal, and never under NO_COLOR."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def failed(argv: Sequence[str], error: BaseException) -> int:
    """Tell of what ended a command, in the form that its line asks for; returns the exit status."""
    ours = as_ours(error)
    if "--debug" in argv:
        import traceback

        traceback.print_exc()
    if wants_json(argv):
        try:
            sys.stdout.write(failure(command_name(argv), ours).to_json())
            sys.stdout.flush()
        except OSError:  # standard output itself failed
            lose_stdout()
            print_error(ours)
    else:
        print_error(ours)
        if isinstance(error, OSError):  # what standard output refused would be tried, and fail, again at the very end
            lose_stdout()
    return ours.exit_code


def as_ours(error: BaseException) -> SevkitError:
    """Any exception as one of sevkit's, with its exit code."""
    if isinstance(error, SevkitError):
        return error
    if isinstance(error, (KeyboardInterrupt, EOFError)):
        return interrupted()
    if isinstance(error, OSError):
        return _refused(error)
    if isinstance(error, MemoryError):
        return NoSpaceError("out of memory", hint="give the guest less --memory, or run fewer at once")
    if isinstance(error, UnicodeEncodeError) and any("\udc80" <= letter <= "\udcff" for letter in error.object):
        return UsageError(f"{os.fsencode(error.object)!r} is not UTF-8", hint="give this name or text in UTF-8")
    return SevkitError(
        f"sevkit itself failed: {type(error).__name__}: {error}",
        hint="this is a defect: run again with `sevkit --debug …` and report the traceback",
    )


def interrupted(hint: str = "what was started has been stopped and removed") -> SevkitError:
    """What Ctrl-C and SIGTERM end a command with."""
    error = SevkitError("interrupted", hint=hint)
    error.exit_code = ExitCode.INTERRUPTED
    return error


def flushed(status: int) -> int:
    """The exit status of a command that returned ``status``, after what it printed has left."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        lose_stdout()
    except OSError as error:
        lose_stdout()
        print_error(_refused(error))
        return status or ExitCode.ENVIRONMENT
    return status


def lose_stdout() -> None:
    """Nobody reads standard output any more: let the rest of it, and the interpreter's last flush, go nowhere."""
    _lose(sys.stdout)


def _lose(stream: IO[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _refused(error: OSError) -> SevkitError:
    """What the operating system refused, as the cause that it is."""
    if error.errno == errno.EBADF and error.filename is None:
        return SevkitError("standard output is closed: the answer cannot be printed", hint="give >FILE or >/dev/null")
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
    single = {"probe", "scan", "top", "doctor", "schema", "completion", "report-check"}
    alone = words and words[0] in single and words[1:2] != ["diff"]
    return " ".join(words[:1] if alone else words[:2])
