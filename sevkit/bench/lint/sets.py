"""Rules that look at all results of a directory together: repetitions, order, arms, tables against raw files."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from sevkit.bench import names
from sevkit.bench.analysis import checks, stats
from sevkit.bench.analysis.compare import arms_of
from sevkit.bench.analysis.comparison import FEWEST_BOOTS, Arm, Rules, Series
from sevkit.bench.imports import documents, fio, fio_text, json_results, terse
from sevkit.bench.imports import files as imports
from sevkit.bench.lint import fio as lint_fio
from sevkit.bench.lint.rules import REPEAT, Finding, Report, Severity
from sevkit.bench.model import Sample
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode

FEW = 5


@dataclass
class Loaded:
    """The content of a directory of other programs' results."""

    folder: Path
    runs: dict[str, fio.FioRun] = field(default_factory=dict)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    imported: imports.Imported = field(default_factory=imports.Imported)

    @property
    def usable(self) -> bool:
        """Whether there is anything to check."""
        return bool(self.runs or self.tables or self.imported.samples)

    @property
    def has_guests(self) -> bool:
        """Whether fio ran in guests: results with a mode and a storage in their names."""
        return any(names.from_path(PurePath(name)).mode is not None for name in self.runs)

    def read(self, report: Report) -> None:
        """Read the directory; an unreadable file becomes a finding."""
        for path in imports.result_files(self.folder):
            name = str(path.relative_to(self.folder))
            report.files += 1
            try:
                report.findings += self._read_one(path, name)
            except imports.NoResultsError:
                continue
            except BadInputError as error:
                fix = "measure again, or remove the file"
                report.findings.append(Finding("damaged", Severity.ERROR, name, error.message, fix))
        try:
            self.imported = imports.read_folder(self.folder, imports.Given())
        except BadInputError:
            self.imported = imports.Imported()

    def _read_one(self, path: Path, name: str) -> list[Finding]:
        text = documents.read_text(path)
        if terse.looks_like(text):
            self.runs[name] = terse.parse(text, path)
        elif fio_text.looks_like(text):
            self._keep(name, fio_text.parse(text, path))
        elif imports.suffix_of(path) == ".csv":
            self.tables[name] = [line for line in csv.reader(text.splitlines()) if line]
        elif imports.suffix_of(path) == ".json" or '"fio version"' in text:
            ended = fio.ended(documents.split(text, path), path)
            document = ended[-1]
            if fio.looks_like_fio(document):
                self._keep(name, [fio.parse(each, path) for each in ended])
            elif json_results.is_hyperfine(document):
                return [_failed(name, *row) for row in json_results.failed_runs(document)]
        return []

    def _keep(self, name: str, runs: Sequence[fio.FioRun]) -> None:
        for number, run in enumerate(runs, 1):
            self.runs[name if len(runs) == 1 else f"{name} run {number}"] = run


def _failed(name: str, command: str, bad: int, runs: int, code: int) -> Finding:
    message = f"{bad} of {runs} runs of {command[:80]!r} failed (exit code {code})"
    fix = "mend the command, and measure without --ignore-failure"
    evidence = {"command": command, "failed": bad, "runs": runs, "exit_code": code}
    return Finding("failed-runs", Severity.ERROR, name, message, fix, evidence)


def check(loaded: Loaded, report: Report) -> None:
    """Add all findings on a directory."""
    for name, run in loaded.runs.items():
        report.findings += lint_fio.check(run, name)
    for name, lines in loaded.tables.items():
        report.findings += _columns(name, lines)
        report.findings += _dropped(name, lines, loaded)
    samples = loaded.imported.samples
    for series, arms in arms_of(_primary_only(samples)).items():
        report.findings += _arms(series, list(arms.values()))
    report.findings += _overlaps(loaded)


def _primary_only(samples: list[Sample]) -> list[Sample]:
    return [replace(s, conditions=()) for s in samples if s.metric.primary]


def _columns(name: str, lines: list[list[str]]) -> Iterator[Finding]:
    header = [cell.strip() for cell in lines[0]] if lines else []
    alike = Counter(cell.lower().removesuffix("s") for cell in header)
    if doubled := [cell for cell in header if alike[cell.lower().removesuffix("s")] > 1]:
        message = f"columns named alike: {', '.join(doubled)}: which is which?"
        evidence: dict[str, object] = {"header": header}
        yield Finding("columns", Severity.ERROR, name, message, "name the columns after what is in them", evidence)
    odd = next((n for n, line in enumerate(lines[1:], 2) if len(line) != len(header)), None)
    if odd is None:
        return
    wide = len(lines[odd - 1])
    message = f"the header has {len(header)} columns, line {odd} has {wide}: the names are shifted against the values"
    evidence = {"header": header, "line": odd, "columns": wide}
    yield Finding("columns", Severity.ERROR, name, message, "correct the header", evidence)


def _dropped(name: str, lines: list[list[str]], loaded: Loaded) -> Iterator[Finding]:
    """A table that has the figure of a run's first job although the run had several."""
    firsts: dict[float, tuple[str, float]] = {}
    for run_name, run in loaded.runs.items():
        if len(run.jobs) > 1:
            firsts |= {round(s.iops, 3): (run_name, run.total("iops")) for s in run.jobs[0].sides}
    hits = []
    for line in lines[1:]:
        for cell in line:
            try:
                hit = firsts.get(round(float(cell), 3))
            except ValueError:
                continue
            if hit is not None:
                hits.append((float(cell), *hit))
    if hits:
        value, run_name, total = hits[0]
        yield Finding(
            "jobs-dropped",
            Severity.ERROR,
            name,
            f"{value:.0f} is jobs[0] of {run_name}; all its jobs together made {total:.0f} ({len(hits)} such values)",
            "sum over all jobs, or run fio with --group_reporting",
            {"value": value, "all_jobs": total, "run": run_name, "values": len(hits)},
        )


def _title(series: Series) -> str:
    return f"{series.workload} on {series.storage}" if series.storage else series.workload


def _arms(series: Series, arms: Sequence[Arm]) -> Iterator[Finding]:
    title = _title(series)
    counts = {arm.name: len(arm.samples) for arm in arms}
    fewest = min(counts.values())
    if fewest == 1:
        yield Finding("single-repetition", Severity.ERROR, title, "one run: no interval can be given", REPEAT, counts)
    elif fewest < FEW:
        severity = Severity.WARNING if fewest < FEWEST_BOOTS else Severity.NOTE
        yield Finding("few-repetitions", severity, title, f"{fewest} runs in one mode", REPEAT, counts)
    if len(arms) == 1:
        message, baseline = f"measured in mode {arms[0].name} only", Rules().baseline
        others = [str(mode) for mode in Mode if mode is not baseline]
        fix = f"measure the baseline ({baseline}) too"
        if arms[0].mode is baseline:
            fix = f"that is the baseline: measure what to compare with it too ({', '.join(others)})"
        yield Finding("missing-arm", Severity.WARNING, title, message, fix, counts)
    for other in arms[1:]:
        for text in checks.confounds(arms[0], other):
            fix = "measure both modes with the same options and versions"
            yield Finding("options-differ", Severity.ERROR, title, text.removeprefix("confounded: "), fix)
        for text in checks.order(arms[0].samples, other.samples):
            fix = "interleave the modes: A B B A (sevkit bench run does)"
            yield Finding("not-interleaved", Severity.WARNING, title, text.removeprefix("not interleaved: "), fix)
    for arm in arms:
        yield from _runs(title, arm)


def _runs(title: str, arm: Arm) -> Iterator[Finding]:
    values = arm.values
    change = stats.first_run(values)
    name = arm.name
    if change is not None:
        yield Finding(
            "first-run",
            Severity.WARNING,
            title,
            f"the first run of {name} is {change:+.0%} against the others",
            "separate cold and warm caches, and mark warm-ups",
            {"mode": name, "first": float(values[0]), "median_of_others": float(np.median(values[1:]))},
        )
    for index, score in stats.outliers(values):
        message = f"run {index + 1} of {name} is {score:+.0f} MADs from the median"
        evidence = {"mode": name, "run": index + 1, "value": float(values[index]), "median": float(np.median(values))}
        yield Finding("outlier", Severity.NOTE, title, message, "look for its cause; do not drop it silently", evidence)


def _overlaps(loaded: Loaded) -> Iterator[Finding]:
    """Runs of two modes that overlap in time: fio's time stamp is the end, ``elapsed`` the duration."""
    spans = []
    for name, run in loaded.runs.items():
        mode = names.from_path(PurePath(name)).mode
        elapsed = max((job.elapsed for job in run.jobs), default=0.0)
        if mode is not None and run.time and elapsed:
            spans.append((run.time - elapsed, run.time, str(mode), name))
    spans.sort()
    pairs = []
    for index, (_, end, own, name) in enumerate(spans):
        for start, _, another, other in spans[index + 1 :]:
            if start >= end - 1:  # time stamps are whole seconds
                break
            if another != own:
                pairs.append((name, other))
    if pairs:
        first, second = pairs[0]
        yield Finding(
            "overlap",
            Severity.ERROR,
            first,
            f"measured at the same time as {second}, in another mode ({len(pairs)} such pairs): both lose",
            "measure one guest at a time, unless load from neighbours is what you measure",
            {"pairs": len(pairs), "examples": [list(pair) for pair in pairs[:5]]},
        )
