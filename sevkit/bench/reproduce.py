"""The published study, measured again: every row of it beside what was measured here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sevkit.bench import report as reports
from sevkit.bench import suite
from sevkit.bench.analysis import published
from sevkit.bench.analysis.compare import compare
from sevkit.bench.analysis.comparison import Comparison, Rules
from sevkit.bench.campaign.plan import Plan
from sevkit.bench.payload import ReproducedRow
from sevkit.bench.records import Failure, Skipped
from sevkit.bench.report import Report
from sevkit.bench.suite import Profile, Workload
from sevkit.errors import UsageError
from sevkit.vocabulary import Provenance

PROFILES = {False: "paper", True: "paper-small"}  # by whether the small variant is wanted

# Workload, storage (as the study names it), metric.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """One row of the study, and a comparison of this campaign that answers to it, or the reason for there being none.

    ``study`` is the ratio over all jobs or runs, ``article`` the printed one where the article has a table of it.
    """

    key: Key
    family: str
    study: float | None
    article: float | None
    here: Comparison | None
    differs: str
    reason: str

    def as_dict(self) -> ReproducedRow:
        """The row as JSON values."""
        workload, storage, metric = self.key
        return {
            "family": self.family,
            "workload": workload,
            "storage": storage or None,
            "metric": metric,
            "study_ratio": self.study,
            "article_ratio": self.article,
            "here": None if self.here is None else self.here.as_dict(),
            "study_in_interval": self.study_in_interval,
            "differs": self.differs,
            "reason": self.reason,
        }

    @property
    def study_in_interval(self) -> bool | None:
        """Whether the study's ratio lies in the interval measured here; None unless both come from hardware."""
        if self.here is None or self.study is None or self.here.effect is None:
            return None
        if {s.at.provenance for arm in (self.here.base, self.here.other) for s in arm.samples} != {Provenance.HARDWARE}:
            return None
        return self.here.effect.low <= self.study <= self.here.effect.high


def narrowed(profile: Profile, wanted: Sequence[str]) -> tuple[str, ...]:
    """The workloads of a profile that a user names: by name, by the name of the study's row, or as ``@family``.

    With the small variant, ``linux`` means ``linux-small``, and rows that it leaves out can be named too. Raises
    UsageError for what answers to no row of the study.
    """
    known = _answering(profile)
    picked: dict[str, None] = {}
    for name in wanted:
        found = [w.name for w in known.values() if name in {w.name, w.study_row[0], f"@{w.family}"}]
        if not found:
            families = sorted({f"@{w.family}" for w in known.values()})
            raise UsageError(
                f"{name} is no workload of the study's reproduction",
                hint=f"one of {', '.join(known)}, or {', '.join(families)}",
            )
        picked |= dict.fromkeys([name] if name in found else found)
    return tuple(picked) or profile.workloads


def _answering(profile: Profile) -> dict[str, Workload]:
    """The workloads that a reproduction can measure: the profile's, and those of the study that its image can run."""
    small = profile.name == PROFILES[True]
    names = (*profile.workloads, *(suite.profile(PROFILES[False]).workloads if small else ()))
    wanted = suite.chosen(replace(profile, workloads=names, as_published=False), suite.workloads())
    return {w.name: w for w in wanted if not (small and w.image == "study")}


def rows(
    plan: Plan, comparisons: Sequence[Comparison], failures: Sequence[Failure], skipped: Sequence[Skipped]
) -> list[Row]:
    """All rows of the study in the study's order; several comparisons may answer to one row."""
    workloads = {w.name: w for config in plan.configs for w in config.workloads}
    article = reports.article_ratios()
    answers: dict[Key, list[Comparison]] = {}
    for c in comparisons:
        if not c.control and c.series.workload in workloads:
            answers.setdefault(key_of(workloads[c.series.workload], c), []).append(c)
    found = []
    for of_study in compare(published.samples(), Rules(accept_confounds=True)):
        key = (of_study.series.workload, of_study.series.storage, of_study.series.metric)
        measured: Sequence[Comparison | None] = answers.get(key) or [None]
        for here in measured:
            differs = "" if here is None else workloads[here.series.workload].differs
            reason = "" if here is not None else _reason(key, plan, failures, skipped)
            family = of_study.family or "other"
            found.append(Row(key, family, of_study.ratio, article.get(key), here, differs, reason))
    return found


def key_of(workload: Workload, comparison: Comparison) -> Key:
    """The row of the study that a comparison answers to."""
    name, metric = workload.study_row
    return name, comparison.series.storage.removeprefix("virtio-"), metric


def _reason(key: Key, plan: Plan, failures: Sequence[Failure], skipped: Sequence[Skipped]) -> str:
    wanted = (key[0], key[2])
    configs = [c for c in plan.configs if not key[1] or c.storage.removeprefix("virtio-") == key[1]]
    names = {w.name for config in configs for w in config.workloads if w.study_row == wanted}
    if not names:
        whole = suite.profile(PROFILES[plan.profile.name == PROFILES[True]])
        able = next((w.name for w in _answering(whole).values() if w.study_row == wanted), "")
        return f"not in this campaign ({_options(able, key[1], plan)} measures it)" if able else "not in this campaign"
    told = [f"failed: {f.message}" for f in failures if f.workload in names]
    told += [f"left out: {s.reason}" for s in skipped if s.workload in names]
    modes = sorted({str(arm.mode) for arm in plan.arms})
    alone = f"measured in mode {modes[0]} only" if len(modes) == 1 else "not measured yet"
    return told[0] if told else alone


def _options(workload: str, storage: str, plan: Plan) -> str:
    """What makes a campaign like this one measure a workload on a storage."""
    words = [] if any(w.name == workload for c in plan.configs for w in c.workloads) else [f"--workload {workload}"]
    if storage and storage not in {c.storage.removeprefix("virtio-") for c in plan.configs}:
        words.append(f"--sweep storage={storage if storage == 'nvme' else f'virtio-{storage}'}")
    return " ".join(words)


def with_study(report: Report, plan: Plan, found: Sequence[Row]) -> Report:
    """A report on the campaign whose rows show the study's ratios, also where a workload stands in for the study's."""
    reference = dict(report.reference)
    for row in found:
        if row.here is not None and row.study is not None:
            series = row.here.series
            reference[series.workload, series.storage.removeprefix("virtio-"), series.metric] = row.study
    return replace(report, reference=reference, mistakes=(*report.mistakes, *notes(plan)))


def notes(plan: Plan) -> list[str]:
    """In what the workloads are not those of the study, each once."""
    told = [f"{w.name}: {w.differs}" for config in plan.configs for w in config.workloads if w.differs]
    return list(dict.fromkeys(told))
