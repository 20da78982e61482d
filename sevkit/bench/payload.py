"""What the commands of `sevkit bench` print as ``data``, as types."""

from typing import Any, Literal, NotRequired, TypedDict


class Equivalence(TypedDict):
    """The result of the test that two arms differ by less than ``margin``."""

    margin: float
    p: float | None


class ComparisonRow(TypedDict):
    """Two modes compared on one workload; ``ratio`` is value / baseline_value, ``interval`` its interval.

    ``confidence`` is the interval's: 0.95, or 0.9 where two one-sided tests decided. ``blocks``: paired by block.
    ``smallest_detectable`` is a fraction, ``boots_for_margin`` the boots per mode that would show the margin.
    """

    workload: str
    storage: str | None
    metric: str
    unit: str
    direction: str
    baseline_mode: str
    mode: str
    ratio: float | None
    interval: list[float] | None
    confidence: float | None
    blocks: bool
    verdict: str
    reason: str
    warnings: list[str]
    control: bool
    conditions: dict[str, Any]
    family: str | None
    provenance: list[str]
    baseline_value: float | None
    value: float | None
    boots: list[int]
    samples: list[int]
    p_value: float | None
    p_holm: float | None
    noise_floor: float | None
    equivalence: Equivalence | None
    smallest_detectable: float | None
    boots_for_margin: int | None
    study_ratio: NotRequired[float | None]
    article_ratio: NotRequired[float | None]


class Comparisons(TypedDict):
    """A table of comparisons."""

    comparisons: list[ComparisonRow]
    provenance: list[str]


class ReportData(TypedDict):
    """The report on a campaign; ``method`` says how it was measured, a fact per sentence."""

    title: str
    provenance: list[str]
    summary: list[str]
    method: list[str]
    comparisons: list[ComparisonRow]
    failures: list[dict[str, Any]]
    html: str | None
    figures: NotRequired[list[str]]


class Config(TypedDict):
    """A configuration of the plan."""

    label: str
    workloads: list[str]


class RunPlan(TypedDict):
    """What `bench run --dry-run` would measure: ``order`` has the slots of the minimum number of boots, in order.

    ``kvm``: whether guests run with KVM; null if nobody has tried since this machine booted: then the estimate assumes
    that they do.
    """

    profile: str
    where: str
    arms: list[str]
    missing_modes: dict[str, str]
    configs: list[Config]
    boots: list[int]
    iterations: int
    warmups: int
    budget_seconds: float
    target: float
    kvm: bool | None
    estimated_seconds: float
    order: list[str]


class Skipped(TypedDict):
    """A workload that was left out."""

    workload: str
    reason: str


class Measured(TypedDict):
    """What `bench run` measured."""

    output: str
    stopped: Literal["narrow", "budget", "boots"]
    rounds: int
    samples: int
    warmups: int
    modes: list[str]
    missing_modes: dict[str, str]
    provenance: list[str]
    skipped: list[Skipped]
    unfinished: list[str]
    comparisons: list[ComparisonRow]
    summary: list[str]
    sentences: list[str]


class SourceRow(TypedDict):
    """A source tarball that is not in the cache yet; ``size`` in bytes."""

    file: str
    sha256: str
    size: int


class BuildRow(TypedDict):
    """What an image costs that is not built yet, as measured on two CPUs: MiB, and seconds; without the sources."""

    image: str
    packages_mib: int
    building_mib: int
    kept_mib: int
    seconds: int


class ReproducePlan(RunPlan):
    """What `bench reproduce --dry-run` would do: fetch, build, measure; ``notes`` say what differs from the study.

    ``written_mib`` is the most that the guests of one boot write to their root disks, kept in ``written_to`` meanwhile.
    """

    to_fetch: list[SourceRow]
    to_build: list[str]
    builds: list[BuildRow]
    written_mib: int
    written_to: str
    notes: list[str]


class ReproducedRow(TypedDict):
    """One row of the study beside what was measured here; ``here`` is null, with ``reason``, if nothing was.

    ``study_in_interval`` is null unless the interval comes from hardware. ``differs``: in what the workload differs.
    """

    family: str
    workload: str
    storage: str | None
    metric: str
    study_ratio: float | None
    article_ratio: float | None
    here: ComparisonRow | None
    study_in_interval: bool | None
    differs: str
    reason: str


class Reproduced(Measured):
    """What `bench reproduce` measured, row by row of the study."""

    rows: list[ReproducedRow]
    notes: list[str]
    html: str | None


class LintRules(TypedDict):
    """The rules, with a description of each."""

    rules: dict[str, str]


class FindingRow(TypedDict):
    """One problem in how something was measured."""

    rule: str
    severity: str
    file: str
    message: str
    evidence: dict[str, Any]
    fix: str


class Lint(TypedDict):
    """All findings."""

    files: int
    counts: dict[str, int]
    findings: list[FindingRow]


class SkippedFile(TypedDict):
    """A file that was not imported."""

    file: str
    reason: str


class Imported(TypedDict):
    """Imported results."""

    output: str
    samples: int
    files: list[str]
    skipped: list[SkippedFile]
    workloads: list[str]
    modes: list[str]
    provenance: str


class Counted(TypedDict):
    """How often a hypervisor counted something while a workload ran once: the mean over samples, least and most.

    ``command`` of them belong to the command that starts the workload.
    """

    mean: float
    least: int
    most: int
    command: float


class ExitsRow(TypedDict):
    """What was counted for one workload in one mode; ``seconds`` is the mean duration of a sample."""

    workload: str
    storage: str | None
    conditions: dict[str, str]
    arm: str
    samples: int
    seconds: float
    counts: dict[str, Counted]


class Exits(TypedDict):
    """Exits by reason, and what else hypervisors count."""

    provenance: list[str]
    rows: list[ExitsRow]


class Verified(TypedDict):
    """Whether recorded values follow from what programs printed. ``parsed`` of ``samples`` were parsed again.

    ``timed`` samples are durations that sevkit took itself: they were compared with the record of the clock.
    ``notes`` tell of values that follow from the raw outputs, and are left aside by all other commands.
    """

    verdict: Literal["intact", "changed", "inconclusive"]
    reasons: list[str]
    notes: list[str]
    samples: int
    parsed: int
    timed: int
    raw_files: int
    chained: bool


class ProfileRow(TypedDict):
    """A profile."""

    name: str
    title: str
    workloads: list[str]


class WorkloadRow(TypedDict):
    """A workload."""

    name: str
    family: str
    title: str
    metric: str
    unit: str
    direction: str
    needs: list[str]
    where: list[str]
    image: str | None
    disk: Any


class Listing(TypedDict):
    """Profiles and workloads."""

    profiles: list[ProfileRow]
    workloads: list[WorkloadRow]


class StudyRow(TypedDict):
    """A row of the published study's tables."""

    table: str
    workload: str
    storage: str
    metric: str
    unit: str
    direction: str
    nosev: float
    sev: float
    ratio: float
    ratio_all_jobs: float | None


class Published(TypedDict):
    """The published study, and figures of others."""

    about: dict[str, Any]
    tables: list[StudyRow]
    others: list[dict[str, str]]
    samples: NotRequired[int]
    output: NotRequired[str]


class SelftestShape(TypedDict):
    """The behaviour of the statistics on simulated campaigns with one kind of noise.

    ``coverage``: how often the 95 % interval contained the true value. ``family_wise_error``: how often a campaign
    without any effect had a verdict. ``power``: how often the change printed as detectable was found;
    ``power_printed``: how often it should be.
    """

    shape: str
    boots: int
    rows: int
    trials: int
    coverage: float
    family_wise_error: float
    power: float
    power_printed: float


class Selftest(TypedDict):
    """The statistics, tested on simulated campaigns."""

    trials: int
    seed: int
    shapes: list[SelftestShape]
    outside: list[str]


class MergedRow(TypedDict):
    """One row over several hosts; ``ratio`` is null where fewer than two hosts have a usable comparison.

    ``hosts`` are their ratios. ``between_hosts`` is the standard deviation of the hosts' log ratios, ``share_between``
    the share of the variation that is between hosts, ``expected_range`` the prediction interval for one more host.
    """

    workload: str
    storage: str | None
    metric: str
    direction: str
    mode: str
    conditions: dict[str, Any]
    hosts: dict[str, float]
    left_out: dict[str, str]
    ratio: float | None
    interval: list[float] | None
    between_hosts: float | None
    share_between: float | None
    expected_range: list[float] | None


class Merged(TypedDict):
    """Results of several hosts as one figure per row."""

    provenance: str
    rows: list[MergedRow]
