"""`sevkit probe --json` without click: the same request, the same answer, in half the time."""

import os
import sys

from sevkit.errors import ExitCode, SevkitError
from sevkit.probe.answer import MODES, Request, answer
from sevkit.result import Result, failure

_VALUED = {"--from": "source", "--log": "log", "--save": "save", "--require": "require"}


def parse(words: list[str]) -> Request | None:
    """The request, or None for a command line that needs the whole parser."""
    asked: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word == "--json":
            continue
        name, equals, value = word.partition("=")
        if name not in _VALUED or _VALUED[name] in asked:
            return None
        value = value if equals else next(rest, "")
        if not value or value.startswith("--"):
            return None
        asked[_VALUED[name]] = value
    if asked.get("require", "sev") not in MODES or ("log" in asked and len(asked) > 1):
        return None
    return Request(**asked)


def quick_probe(words: list[str]) -> int | None:
    """Answer, print the envelope, and return the exit status; None when this is not for us."""
    request = parse(words)
    if request is None:
        return None
    try:
        result = answer(request)
    except SevkitError as error:
        result = failure("probe", error)
    except KeyboardInterrupt:
        result = failure("probe", _interrupted())
    except Exception:  # noqa: BLE001 - a defect: the whole way knows how to report it
        return None
    return _print(result)


def _print(result: Result) -> int | None:
    try:
        sys.stdout.write(result.to_json())
        sys.stdout.flush()
    except BrokenPipeError:  # the reader went away: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError:  # a full disk, say: the whole way knows how to report it
        return None
    return int(result.exit_code)


def _interrupted() -> SevkitError:
    error = SevkitError("interrupted", hint="what was started has been stopped and removed")
    error.exit_code = ExitCode.INTERRUPTED
    return error
