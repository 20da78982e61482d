"""`sevkit bench`: run, import, compare, report and lint benchmarks."""

from typing import ClassVar

import click

from sevkit.cli.lazy import LazyGroup

# command -> (module, one line of help): each is imported only when it is called.
_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run", "Measure: modes interleaved, guest boots as the unit, all raw values kept; resumes when killed."),
    "compare": ("compare", "Ratios with intervals and verdicts, as a table or JSON."),
    "report": ("report", "The whole campaign as one self-contained HTML page."),
    "attribute": (
        "attribute",
        "What each cost consists of: bounce buffers, encryption, factors switched one by one.",
    ),
    "curves": ("curves", "How costs change along a sweep, with a test of whether they do."),
    "exits": ("exits", "Exits to the hypervisor by reason, for each workload and mode."),
    "lint": ("lint", "What is wrong with how results were measured (fio JSON, tables, scripts, own results)."),
    "import": ("imports", "Take over results of fio, hyperfine, pyperf, and the published study's tables."),
    "verify": ("verify", "Parse the kept raw outputs again: do the recorded values follow from them?"),
    "list": ("listing", "The suites, workloads and profiles."),
    "merge": ("merge", "Results of several hosts as one figure per row, and how much hosts differ."),
    "selftest": ("selftest", "Try the statistics on simulated campaigns whose truth is known."),
    "reproduce": ("reproduce", "The published study, measured again in guests, beside its numbers."),
    "published": ("published", "The published study's numbers, and what others published."),
}


class _Group(LazyGroup):
    table: ClassVar = {name: (f"sevkit.cli.bench.{module}", text) for name, (module, text) in _COMMANDS.items()}


@click.command("bench", cls=_Group)
def command() -> None:
    """Measure and compare nosev, sev, sev-es and sev-snp, with confidence intervals and checks of the method."""
