"""`sevkit probe` from request to result, without a command line around it."""

from typing import Any, NamedTuple

from sevkit.probe.facts import Facts
from sevkit.result import Result

MODES = ("nosev", "sme", "sev", "sev-es", "sev-snp")


class Request(NamedTuple):
    """What was asked: a file to read instead of this machine, a log to judge, where to save, a mode to require."""

    source: str | None = None
    log: str | None = None
    save: str | None = None
    require: str | None = None


def answer(request: Request) -> Result:
    """Do it. The result's ``data`` is what `--json` prints."""
    facts = gather(request.source)
    if request.save:
        from sevkit.probe.facts import save

        save(facts, request.save)
    return judge(facts, request.require)


def gather(source: str | None) -> Facts:
    """The facts asked for: of this machine, or from a file."""
    if source is None:
        from sevkit.probe.facts import live

        return live()
    from sevkit.probe.sources import read_source

    return read_source(source)


def judge(facts: Facts, require: str | None = None) -> Result:
    """The report on facts, with the exit code that a required mode leads to."""
    from sevkit.probe.report import report

    data: dict[str, Any] = report(facts)
    return Result("probe", data)
