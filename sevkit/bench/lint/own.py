"""Rules for sevkit's own results directories."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sevkit.bench import results, store
from sevkit.bench.analysis import checks, load
from sevkit.bench.analysis.compare import arms_of, compared
from sevkit.bench.analysis.comparison import FEWEST_BOOTS, Arm, Comparison, Rules, Ruling, Table
from sevkit.bench.factors import CONDITION
from sevkit.bench.lint.rules import REPEAT, Finding, Report, Severity
from sevkit.bench.model import Sample, SlotId
from sevkit.bench.records import ClockJump, Discarded, Failure, StoppingRule

_SHELL_SHARE = 0.01


def check(folder: Path, report: Report) -> None:
    """Add all findings on a results directory."""
    campaign = results.read(folder)
    table = arms_of(campaign.samples)
    check_loaded(campaign, compared(table, Rules()), table, report)


def check_loaded(campaign: store.Campaign, comparisons: Sequence[Comparison], table: Table, report: Report) -> None:
    """Add all findings on a results directory that has been read and compared; ``table`` has its primary metrics."""
    report.files += 2
    for text in campaign.damage:
        report.findings.append(Finding("damaged", Severity.ERROR, store.RECORDS, text, "the other lines are used"))
    for text in campaign.notes:
        fix = "measure again: --output-format=json+ has what percentiles of several jobs or directions need"
        report.findings.append(Finding("no-percentile", Severity.NOTE, store.RECORDS, text, fix))
    report.findings += _campaign(campaign)
    kinds = sorted({str(s.at.provenance) for s in campaign.samples})
    if len(kinds) > 1:
        message = f"results of provenance {' and '.join(kinds)}"
        fix = "keep them in directories of their own"
        report.findings.append(Finding("mixed-provenance", Severity.WARNING, store.RECORDS, message, fix))
    for series, arms in table.items():
        title = f"{series.workload} on {series.storage}" if series.storage else series.workload
        imported = campaign.header.get("origin") == "import"
        report.findings += _series(title, list(arms.values()), imported=imported)
        # A/A controls are measured in the reference guest, and stand for the factors that are switched in it.
        switched = CONDITION in dict(series.conditions)
        if len({arm.mode for arm in arms.values()}) == len(arms) and not (imported or switched):
            boots = _boots(arms.values())
            report.findings.append(Finding("no-control", Severity.WARNING, title, "no A/A control", "--control", boots))
    report.findings += _warmups(campaign)
    report.findings += _short(campaign.samples)
    if changed := campaign.changed_raw:
        message = f"{len(changed)} raw outputs are missing or were changed after they were recorded, first {changed[0]}"
        report.findings.append(Finding("damaged", Severity.ERROR, store.RAW, message, "measure again"))
    report.findings += _busy(campaign, table)
    report.findings += _controls(comparisons)


def _busy(campaign: store.Campaign, table: Table) -> Iterator[Finding]:
    """The boots in which some row was measured under load, and these rows."""
    loads: dict[str, float] = {}
    rows: dict[str, float] = {}
    for series, arms in table.items():
        for arm in arms.values():
            for identity, value in arm.loads.items():
                loads[identity] = max(value, loads.get(identity, 0.0))
                if value > load.BUSY:
                    rows[series.workload] = max(round(value, 2), rows.get(series.workload, 0.0))
    loads = {identity: load.of_boot(at) for identity, at in campaign.boots.items()} | loads
    for text in checks.told_busy(list(loads.values())):
        fix = "measure on a quiet host, one campaign at a time"
        message = f"{text}, while it measured {', '.join(sorted(rows))}" if rows else text
        yield Finding("busy-host", Severity.WARNING, store.RECORDS, message, fix, {"load": rows})


def _campaign(campaign: store.Campaign) -> Iterator[Finding]:
    if clocks := campaign.of_kind(ClockJump):
        message = f"the wall clock jumped {len(clocks)} times, first by {clocks[0].seconds:+.1f} s"
        fix = "durations are not affected (monotonic clock); mind the time stamps"
        yield Finding("clock-jumped", Severity.NOTE, store.RECORDS, message, fix, {"jumps": len(clocks)})
    failures = campaign.of_kind(Failure)
    if failures:
        first = failures[0]
        message = f"{len(failures)} cells failed, first {first.cell}: {first.message}"
        yield Finding("failed-cells", Severity.WARNING, store.RECORDS, message, "see the failure records", {})
    if not campaign.header.get("chained"):
        message = "records are not chained: an edit would not show"
        yield Finding(
            "unchained", Severity.WARNING, store.HEADER, message, "measure again; sevkit chains what it writes"
        )
    yield from _chosen(campaign)
    planned = campaign.header.get("origin") == "run"
    if planned and not results.ended(campaign):
        fix = "give the same `bench run` again: it goes on where it stopped"
        yield Finding("unfinished", Severity.WARNING, store.HEADER, "the campaign has not ended", fix)
    if campaign.header.get("as_published"):
        fix = "only compare with the published numbers"
        yield Finding("as-published", Severity.ERROR, store.HEADER, "measured with --as-published", fix)


def _chosen(campaign: store.Campaign) -> Iterator[Finding]:
    """What was measured again, or longer than planned: whoever chooses may have seen the numbers."""
    if taken := campaign.of_kind(Discarded):
        slots = [SlotId.parse(event.slot) for event in taken]
        counts = dict(Counter(slot.arm for slot in slots if slot is not None))
        arms = ", ".join(f"{count} of {arm}" for arm, count in sorted(counts.items()))
        message = f"boots were discarded before they measured, and taken again: {arms}"
        severity = Severity.NOTE if len(counts) > 1 else Severity.WARNING
        fix = "find out why boots of one mode come up unlike the others"
        yield Finding("discarded-boots", severity, store.RECORDS, f"{message} ({taken[0].reason})", fix, counts)
    if rules := campaign.of_kind(StoppingRule)[1:]:
        rounds = [rule.rounds for rule in rules]
        message = f"the stopping rule was changed after {', '.join(map(str, rounds))} rounds"
        fix = "choose --most-boots, --target and --budget before the first boot; p values pay for each look"
        yield Finding("rule-changed", Severity.NOTE, store.RECORDS, message, fix, {"rounds": rounds})


def _boots(arms: Iterable[Arm]) -> dict[str, int]:
    return {arm.name: len(set(arm.labels.tolist())) for arm in arms}


def _series(title: str, arms: list[Arm], *, imported: bool) -> Iterator[Finding]:
    boots = _boots(arms)
    fewest = min(boots.values())
    again = REPEAT if imported else "--boots 5"
    if fewest == 1:
        rule = "single-repetition" if imported else "few-boots"
        message = f"one {'run' if imported else 'boot'}: no interval can be given"
        yield Finding(rule, Severity.ERROR, title, message, again, boots)
    elif fewest < FEWEST_BOOTS:
        message = f"{fewest} boots in one mode, a verdict needs {FEWEST_BOOTS}"
        yield Finding("few-boots", Severity.WARNING, title, message, again, boots)
    for other in arms[1:]:
        for text in checks.confounds(arms[0], other):
            if text.startswith(checks.HOST_BUSY):
                continue
            fix = "make the arms alike in all but the mode"
            yield Finding("confounded", Severity.WARNING, title, f"{other.name}: {text}", fix)
        for text in checks.order(arms[0].samples, other.samples):
            yield Finding("not-interleaved", Severity.WARNING, title, text, "sevkit bench run interleaves")


def _short(samples: list[Sample]) -> Iterator[Finding]:
    """Timed samples in which the start of the shell takes more than 1 % of the time."""
    shares: dict[str, list[float]] = {}
    for sample in samples:
        idle = sample.at.environment.get("command seconds")
        if sample.metric.name == "time" and isinstance(idle, int | float) and sample.family != "boot":
            shares.setdefault(sample.workload, []).append(idle / sample.value if sample.value > 0 else 0.0)
    for workload, found in sorted(shares.items()):
        share = sorted(found)[len(found) // 2]
        if share > _SHELL_SHARE:
            message = f"{share:.1%} of each sample is the start of the shell"
            fix = "give the workload more to do"
            yield Finding("short-sample", Severity.NOTE, workload, message, fix, {"share": share})


def _warmups(campaign: store.Campaign) -> Iterator[Finding]:
    measured = {s.workload for s in campaign.samples if s.at.provenance != "published" and s.family != "boot"}
    warmed = {s.workload for s in campaign.samples if s.warmup}
    planned = campaign.header.get("plan")
    entries = planned.get("workloads") if isinstance(planned, dict) else None
    if isinstance(entries, dict):
        warmed |= {name for name, entry in entries.items() if isinstance(entry, dict) and entry.get("warms_itself")}
    for workload in sorted(measured - warmed):
        yield Finding("no-warmup", Severity.NOTE, workload, "no warm-up was recorded", "warmups = 1")


def _controls(comparisons: Sequence[Comparison]) -> Iterator[Finding]:
    for comparison in comparisons:
        if comparison.control and comparison.outcome is Ruling.UNEQUAL:
            fix = "find what else changes between boots before believing any ratio"
            yield Finding("control-failed", Severity.ERROR, comparison.series.workload, comparison.reason, fix)
