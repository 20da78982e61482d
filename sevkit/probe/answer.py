"""`sevkit probe` from request to result, without a command line around it."""

from typing import NamedTuple

from sevkit.errors import ExitCode, InconclusiveError, SevkitError
from sevkit.probe.facts import Facts
from sevkit.probe.payload import LogReport, Report, Required
from sevkit.result import Result

MODES = ("nosev", "sme", "sev", "sev-es", "sev-snp")


class RequirementError(SevkitError):
    """A required mode cannot be used; the message names the first check that prevents it."""

    exit_code = ExitCode.NO


class UndecidedError(SevkitError):
    """Whether a required mode can be used could not be decided; the message names the first open check."""

    exit_code = ExitCode.INCONCLUSIVE


class Request(NamedTuple):
    """The user's request: a file to read instead of this machine, a log to judge, where to save, a mode to require."""

    source: str | None = None
    log: str | None = None
    save: str | None = None
    require: str | None = None


def answer(request: Request) -> Result[Report] | Result[LogReport]:
    """Run the request and return its result. Its ``data`` is what `--json` prints."""
    if request.log is not None:
        return judge_log(request.log)
    facts = gather(request.source)
    if request.save is not None:
        from sevkit.probe.facts import save

        save(facts, request.save)
    return judge(facts, request.require)


def gather(source: str | None) -> Facts:
    """Return the requested facts: of this machine, or from a file."""
    if source is None:
        from sevkit.probe.facts import live

        return live()
    from sevkit.probe.sources import read_source

    return read_source(source)


def judge(facts: Facts, require: str | None = None) -> Result[Report]:
    """Return the report on facts, with the exit code that follows from a required mode."""
    from sevkit.probe.report import report

    data = report(facts)
    if require is None:
        return Result("probe", data)
    data["required"] = required(data, require)
    problem = _unmet(data, data["required"])
    return Result("probe", data, problem.exit_code if problem else ExitCode.DONE, [problem] if problem else [])


def required(data: Report, mode: str) -> Required:
    """Whether a mode can be used here: as a host that can run such guests, or as such a guest."""
    if mode == "nosev":
        return {"mode": mode, "met": True, "as": "host", "verdict": "ready", "blocking": [], "unknown": []}
    if data["guest"]["active"].get(mode):
        met = not data["guest"]["emulated"]
        said = "ready" if met else "not_ready"
        return {"mode": mode, "met": met, "as": "guest", "verdict": said, "blocking": [], "unknown": []}
    verdict = data["readiness"][mode]
    return {"mode": mode, "met": verdict["verdict"] == "ready", "as": "host", **verdict}


def _unmet(data: Report, need: Required) -> SevkitError | None:
    if need["met"]:
        return None
    if need["as"] == "guest":
        words = f"{need['mode']} is active in this guest, but QEMU emulates it (TCG): no hardware encrypts its memory"
        return RequirementError(words, hint="run the guest under KVM on a host with SEV")
    blocking = need["blocking"] or need["unknown"]
    first = next(row for row in data["checks"] if row["id"] == blocking[0])
    others = f"; also {', '.join(blocking[1:])}" if blocking[1:] else ""
    if need["blocking"]:
        return RequirementError(
            f"{need['mode']} cannot be used: {first['id']}: {first['message']}{others}", hint=first["hint"]
        )
    return UndecidedError(
        f"whether {need['mode']} can be used is not known: {first['id']}: {first['message']}{others}",
        hint=first["hint"],
    )


def judge_log(path: str) -> Result[LogReport]:
    """Judge a saved kernel log alone."""
    from sevkit.probe.klog import judge as judge_lines
    from sevkit.probe.klog import read_log
    from sevkit.textfile import read_bytes

    data, name = read_bytes(path)
    verdict = judge_lines(read_log(data, name), name=name)
    errors: list[SevkitError] = []
    if not verdict["evidence"]:
        errors.append(
            InconclusiveError(
                f"{name}: {verdict['notes'][-1]}", hint="give the whole log of the kernel: `dmesg > FILE`"
            )
        )
    return Result(
        "probe",
        {"source": {"kind": "log", "file": name}, "kernel_log": verdict},
        errors[0].exit_code if errors else ExitCode.DONE,
        errors,
    )
