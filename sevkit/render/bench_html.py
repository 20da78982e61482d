"""The benchmark report as one self-contained HTML page."""

from collections.abc import Sequence
from typing import Any

from sevkit.bench.payload import ComparisonRow, ReproducedRow
from sevkit.bench.report import Report, forests, study_ratio
from sevkit.render import bench_parts, bench_svg, bench_tables
from sevkit.render.page import page

_PROVENANCE = {
    "hardware": "measured on hardware",
    "emulated": "real guests, emulated CPU (TCG): the costs are not those of hardware",
    "mock": "invented by the mock: no measurement at all",
    "published": "taken from results that others published or gave",
}
_MOST_FINDINGS = 200


def render(report: Report, study: Sequence[ReproducedRow] = ()) -> str:
    """The page as text; ``study`` are the rows of the published study, each with what answers to it."""
    rows = [(bench_tables.study_row(row), "" if row["here"] is None else row["here"]["verdict"]) for row in study]
    return page("bench_report.html.j2", **_values(report), study=rows, study_columns=bench_tables.STUDY_COLUMNS)


def _values(report: Report) -> dict[str, Any]:
    from markupsafe import Markup

    rows = [_row(report, c.as_dict()) for c in report.comparisons]
    figures = [
        {
            "title": f"{figure.family}: {figure.metric.replace('_', ' ')}",
            "direction": str(figure.direction),
            "svg": Markup(bench_svg.chart(figure)),  # noqa: S704 - every text in it went through escape()
        }
        for figure in report.figures
    ]
    return {
        "title": report.title,
        "provenance": [(kind, _PROVENANCE[kind]) for kind in report.provenance],
        "summary": report.summary,
        "method": report.method,
        "forests": [(f.title, Markup(bench_svg.forest(f))) for f in forests(report.effects)],  # noqa: S704 - likewise
        "control_forests": [
            (f.title, Markup(bench_svg.forest(f)))  # noqa: S704 - likewise
            for f in forests(report.controls)
        ],
        "figures": figures,
        "parts": [(title, Markup(svg)) for title, svg in bench_parts.figures(report.parts, ())],  # noqa: S704 - likewise
        "curves": [(title, [Markup(svg) for svg in panels]) for title, panels in bench_parts.panels_of(report.curves)],  # noqa: S704
        "columns": bench_tables.COLUMNS,
        "rows": rows,
        "reference_name": report.reference_name if any(row["published"] != "-" for row in rows) else "",
        "confounds": report.confounds,
        "mistakes": report.mistakes,
        "findings": report.findings[:_MOST_FINDINGS],
        "more_findings": max(0, len(report.findings) - _MOST_FINDINGS),
        "failures": report.failures,
        "environment": {str(k): _plain(v) for k, v in report.environment.items()},
        "modes": sorted({str(arm.mode) for c in report.comparisons for arm in (c.base, c.other)}),
    }


def _row(report: Report, comparison: ComparisonRow) -> dict[str, Any]:
    reason = "" if comparison["verdict"] == "equal" else comparison["reason"]
    notes = [text for text in (reason, *comparison["warnings"]) if text]
    return {
        "cells": bench_tables.row(comparison),
        "verdict": comparison["verdict"],
        "boots": f"{comparison['boots'][0]} / {comparison['boots'][1]}",
        "p_holm": "-" if comparison["p_holm"] is None else f"{comparison['p_holm']:.2g}",
        "floor": "-" if comparison["noise_floor"] is None else f"{comparison['noise_floor']:.1%}",
        "smallest": "-" if comparison["smallest_detectable"] is None else f"{comparison['smallest_detectable']:.1%}",
        "published": bench_tables.ratio(study_ratio(report, comparison)),
        "notes": notes,
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return str(value)
