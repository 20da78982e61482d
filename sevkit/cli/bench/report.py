"""`sevkit bench report`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sevkit.bench.payload import ReportData
from sevkit.cli.bench.common import DIRECTORY, FILE, rule_options, rules_from, write_figures, write_text
from sevkit.cli.output import reporting
from sevkit.errors import UsageError
from sevkit.result import Result


@click.command("report")
@click.argument("results", type=DIRECTORY, required=False)
@click.option("--published", "with_study", is_flag=True, help="The published study, re-analysed, instead of RESULTS.")
@click.option("--html", type=FILE, help="Write the report as one HTML page.")
@click.option("--figures", type=DIRECTORY, help="Write each figure as SVG there, and as PDF where rsvg-convert is.")
@rule_options
@reporting
def command(
    results: Path | None, with_study: bool, html: Path | None, figures: Path | None, **options: Any
) -> Result[ReportData]:
    """Report on RESULTS: summary and table on the terminal, everything with figures in --html FILE."""
    from sevkit.bench import report as reports

    if with_study is (results is not None):
        raise UsageError("give RESULTS or --published", hint="`sevkit bench run --output RESULTS` makes RESULTS")
    rules = rules_from(options)
    report = reports.of_published(rules) if results is None else reports.of_directory(results, rules)
    data = _payload(report, html)
    if html is not None:
        from sevkit.render import bench_html

        write_text(html, bench_html.render(report))

    if figures is not None:
        from sevkit.render import bench_svg

        data["figures"] = write_figures(bench_svg.files(report), figures)
    return Result("bench report", data, human=_print)


def _payload(report: Any, html: Path | None) -> ReportData:
    from sevkit.bench import report as reports

    comparisons = [c.as_dict() for c in report.comparisons]
    for comparison in comparisons:
        comparison["article_ratio" if report.reference_name == "article" else "study_ratio"] = reports.study_ratio(
            report, comparison
        )
    return {
        "title": report.title,
        "provenance": list(report.provenance),
        "summary": list(report.summary),
        "method": list(report.method),
        "comparisons": comparisons,
        "failures": [failure.record() for failure in report.failures],
        "html": None if html is None else str(html),
    }


def _print(data: ReportData) -> Iterator[str]:
    from sevkit.render import bench_tables

    yield f"{data['title']}  (provenance: {', '.join(data['provenance']) or 'none'})"
    for line in data["summary"]:
        yield f"  {line}"
    if data["comparisons"]:
        yield "\n" + bench_tables.text(data["comparisons"])
    yield from (f"measured: {line}" for line in data["method"])
    if data["html"] is not None:
        yield f"report: {data['html']}"
    for name in data.get("figures", ()):
        yield f"figure: {name}"
