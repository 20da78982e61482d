"""The linter's rules, and what a finding is.

A rule checks one file (``fio``, ``text``) or the whole set (``sets``, ``own``); all are listed in ``RULES``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sevkit.bench.payload import FindingRow

if TYPE_CHECKING:
    pass


# The remedy for results of other programs; `bench run` has an option for it.
REPEAT = "run each mode at least 5 times, each in a boot of its own"


class Severity(StrEnum):
    """``error``: the number does not mean what it says; ``warning``: it may not; ``note``: worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One problem: where, what, the evidence, and the remedy."""

    rule: str
    severity: Severity
    file: str
    message: str
    fix: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> FindingRow:
        """The finding as JSON values."""
        return {
            "rule": self.rule,
            "severity": str(self.severity),
            "file": self.file,
            "message": self.message,
            "evidence": dict(self.evidence),
            "fix": self.fix,
        }


# rule -> its description: the list that `bench lint --rules` and docs/bench.md show.
RULES: dict[str, str] = {
    "engine-without-depth": "a queue depth was asked of an engine that has none (psync is fio's default)",
    "queue-depth": "the effective queue depth (Little's law: IOPS x latency) is far below the one asked for",
    "short-run": "the run is too short for its number to be stable",
    "not-time-based": "the run ends with its data, not with its time, and jobs end at different moments",
    "no-ramp": "nothing is thrown away at the start of the run",
    "not-mixed": "a mix of reads and writes was asked for, and only one of them happened",
    "jobs-dropped": "several jobs without group_reporting: easily (or provably) only the first one is counted",
    "uneven-jobs": "the jobs of one run ended at very different times, so that the sum of their rates never happened",
    "page-cache": "the page cache of the guest is in the way (direct is not set)",
    "host-cache": "the page cache of the host is in the way, or nobody wrote down whether it is",
    "no-device-io": "the device saw far fewer bytes than fio moved",
    "missing-space": "two options ran into one: a space is missing in the command",
    "job-error": "fio reported an error, or short transfers",
    "failed-runs": "runs that failed were timed: a command that ends at once is no measurement",
    "unfinished-run": "the file ends with a report of a run that went on",
    "ruled-by-tail": "the deviation of the latency is larger than its mean: the mean says little",
    "single-repetition": "one run for each mode: nothing is known of the variation",
    "few-repetitions": "too few runs for an interval that is worth much",
    "missing-arm": "measured in one mode only: there is nothing to compare with",
    "options-differ": "the two modes were measured with different options or versions",
    "not-interleaved": "all runs of one mode came before all of the other",
    "overlap": "two modes were measured at the same time",
    "first-run": "the first run is out of line with the others, in either direction",
    "outlier": "a run is far away from the others",
    "columns": "the header of a table does not fit its rows, or names two columns alike",
    "shell-test": "a shell test that is always true",
    "parallelism": "the number of compile jobs is fixed and has nothing to do with the vCPUs",
    "backing-differs": "the guests' memory is backed differently from mode to mode",
    "damaged": "a file cannot be read, or contradicts itself",
    "unchained": "records are not chained, so that an edit would not show",
    "few-boots": "too few guest boots: boots are the unit that counts",
    "no-control": "no A/A control: the noise floor is not known",
    "control-failed": "the same mode measured twice differs",
    "no-warmup": "no warm-up was recorded",
    "no-percentile": "means of the percentiles of several jobs or directions, which are no percentiles, are left aside",
    "clock-jumped": "the wall clock jumped during the campaign",
    "mixed-provenance": "results of different provenance lie in one directory",
    "short-sample": "the start of the shell is more than 1 % of what is timed",
    "busy-host": "other programs kept the host busy while it measured",
    "confounded": "the arms differ in more than the mode",
    "failed-cells": "some cells of the campaign failed",
    "discarded-boots": "boots were taken again: of one mode only, or of several",
    "rule-changed": "the stopping rule was changed when there were numbers to look at",
    "unfinished": "the campaign was not finished",
    "as-published": "the campaign keeps the study's mistakes on purpose",
}


@dataclass
class Report:
    """The findings, and how much was examined."""

    files: int = 0
    findings: list[Finding] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """The number of findings per severity."""
        counted = Counter(str(f.severity) for f in self.findings)
        return {str(severity): counted.get(str(severity), 0) for severity in Severity}

    def in_order(self) -> "Report":
        """Sort the findings by severity; returns the report itself."""
        rank = {severity: index for index, severity in enumerate(Severity)}
        self.findings.sort(key=lambda f: (rank[f.severity], f.rule, f.file))
        return self

    @property
    def clean(self) -> bool:
        """Whether there is nothing worse than a note."""
        return all(f.severity is Severity.NOTE for f in self.findings)
