"""`sevkit bench lint`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from sevkit.bench.payload import FindingRow, Lint, LintRules
from sevkit.cli.bench.common import DIRECTORY
from sevkit.cli.output import colour, reporting
from sevkit.errors import ExitCode
from sevkit.result import Result


@click.command("lint")
@click.argument("directory", type=DIRECTORY, required=False)
@click.option("--rules", is_flag=True, help="List the rules.")
@reporting
def command(directory: Path | None, rules: bool) -> Result[Lint] | Result[LintRules]:
    """Say what is wrong with how the results in DIRECTORY were measured.

    Reads fio's JSON, the published study's tables, the scripts beside them, and sevkit's own results. Exit status 1
    when there is anything worse than a note.
    """
    from sevkit.bench.lint.answer import lint
    from sevkit.bench.lint.rules import RULES

    if rules:
        known: LintRules = {"rules": RULES}
        return Result("bench lint", known, human=_print_rules)
    if directory is None:
        raise click.UsageError("Missing argument 'DIRECTORY'.")
    report = lint(directory)
    data: Lint = {
        "files": report.files,
        "counts": report.counts(),
        "findings": [finding.as_dict() for finding in report.findings],
    }
    code = ExitCode.DONE if report.clean else ExitCode.NO
    return Result("bench lint", data, exit_code=code, human=_print)


def _print_rules(data: LintRules) -> Iterator[str]:
    width = max(len(rule) for rule in data["rules"])
    for rule, text in data["rules"].items():
        yield f"{rule:{width}}  {text}"


def _print(data: Lint) -> Iterator[str]:
    bold, cyan, plain = ("\x1b[1m", "\x1b[36m", "\x1b[0m") if colour(sys.stdout) else ("", "", "")
    shades = {"error": "\x1b[31m", "warning": "\x1b[33m", "note": "\x1b[36m"} if plain else {}
    shown: dict[tuple[str, str], list[FindingRow]] = {}
    for finding in data["findings"]:
        shown.setdefault((finding["severity"], finding["rule"]), []).append(finding)
    for (severity, rule), findings in shown.items():
        first = findings[0]
        yield f"{bold}{shades.get(severity, '')}{severity}{plain} {rule} ({len(findings)})"
        for finding in findings[:3]:
            yield f"  {finding['file']}: {finding['message']}"
        if len(findings) > 3:
            yield f"  … and {len(findings) - 3} more"
        yield f"  {cyan}change:{plain} {first['fix']}"
    counts = ", ".join(f"{count} {severity}s" for severity, count in data["counts"].items())
    yield f"{data['files']} files: {counts}"
