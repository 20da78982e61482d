"""`sevkit guest lint`, independent of the command line."""

from collections.abc import Sequence

from sevkit.hypervisor.lint import command_line, domain, errors, rules
from sevkit.hypervisor.lint.model import Launch
from sevkit.hypervisor.payload import LaunchLint


def lint(texts: Sequence[tuple[str, str]], pids: Sequence[int], log: str, host: rules.Host) -> LaunchLint:
    """Check launches in texts (name and content) and of processes, and explain a log; raises SevkitError."""
    launches = [launch for name, text in texts for launch in read(text, name)]
    launches += [command_line.of_process(pid) for pid in pids]
    findings = [finding for launch in launches for finding in rules.check(launch, host)]
    findings += rules.compare(launches)
    return {
        "launches": [
            {"origin": launch.origin, "mode": "unknown" if launch.unclear else str(launch.mode)} for launch in launches
        ],
        "findings": [finding.as_dict() for finding in findings],
        "errors_explained": [cause._asdict() for cause in errors.explain(log)],
        "c_bit_position": host.c_bit_position,
    }


def read(text: str, name: str) -> list[Launch]:
    """The launches in one text: a domain's XML, a file for -readconfig, or command lines."""
    if text.lstrip().startswith("<"):
        return [domain.launch(text, name)]
    if command_line.is_config(text):
        return [command_line.of_config(text, name)]
    return command_line.launches(text, name)
