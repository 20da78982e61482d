"""`sevkit bench lint`."""

from pathlib import Path
from typing import Any

import click

from sevkit.cli.bench.common import DIRECTORY
from sevkit.cli.output import finish, json_option
from sevkit.errors import ExitCode
from sevkit.result import Result


@click.command("lint")
@click.argument("directory", type=DIRECTORY, required=False)
@click.option("--rules", is_flag=True, help="List the rules.")
@json_option
def command(directory: Path | None, rules: bool, as_json: bool) -> None:
    """Say what is wrong with how the results in DIRECTORY were measured.

    Reads fio's JSON, the published study's tables, the scripts beside them, and sevkit's own results. Exit status 1
    when there is anything worse than a note.
    """
    from sevkit.bench.lint.rules import RULES, lint

    if rules:
        finish(Result("bench lint", {"rules": RULES}), as_json=as_json, human=_print_rules)
    if directory is None:
        raise click.UsageError("Missing argument 'DIRECTORY'.")
    report = lint(directory)
    data = {
        "files": report.files,
        "counts": report.counts(),
        "findings": [finding.as_dict() for finding in report.findings],
    }
    code = ExitCode.DONE if report.clean else ExitCode.NO
    finish(Result("bench lint", data, exit_code=code), as_json=as_json, human=_print)


def _print_rules(data: dict[str, Any]) -> None:
    width = max(len(rule) for rule in data["rules"])
    for rule, text in data["rules"].items():
        click.echo(f"{rule:{width}}  {text}")


def _print(data: dict[str, Any]) -> None:
    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    shown: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for finding in data["findings"]:
        shown.setdefault((finding["severity"], finding["rule"]), []).append(finding)
    for (severity, rule), findings in shown.items():
        first = findings[0]
        click.echo(f"{click.style(severity, fg=colours[severity], bold=True)} {rule} ({len(findings)})")
        for finding in findings[:3]:
            click.echo(f"  {finding['file']}: {finding['message']}")
        if len(findings) > 3:
            click.echo(f"  … and {len(findings) - 3} more")
        click.echo(f"  {click.style('change:', fg='cyan')} {first['fix']}")
    counts = ", ".join(f"{count} {severity}s" for severity, count in data["counts"].items())
    click.echo(f"{data['files']} files: {counts}")
