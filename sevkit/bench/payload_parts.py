"""What the commands on attribution and sweep curves print as JSON: the shapes of their ``data``."""

from typing import NotRequired, TypedDict


class Part(TypedDict):
    """One part of a cost. ``times`` multiplies the cost; ``share`` and ``share_interval`` are fractions of the total.

    ``share`` is null where the total was not shown to be a cost. ``verdict`` is that of a comparison: ``worse`` adds.
    """

    name: str
    title: str
    before: str
    after: str
    times: float | None
    interval: list[float] | None
    p_holm: float | None
    verdict: str
    reason: str
    share: float | None
    share_interval: list[float] | None


class Switched(TypedDict):
    """A factor that was switched: ``change`` is what it does to the cost of the mode, ``cost`` the cost with it.

    ``plain`` and ``mode`` are what it does to the baseline and to the mode by themselves (above 1 is worse).
    """

    factor: str
    change: Part
    cost: float | None
    cost_interval: list[float] | None
    plain: float | None
    mode: float | None


class AttributedRow(TypedDict):
    """One row: ``steps`` multiply to ``total``. ``metric`` is null for a mean over several rows."""

    workload: str
    storage: str | None
    metric: str | None
    family: str | None
    conditions: dict[str, str]
    baseline_mode: str
    mode: str
    rounds: int
    provenance: list[str]
    total: Part
    steps: list[Part]
    switches: list[Switched]
    control: Part | None


class Attribution(TypedDict):
    """What the costs of a campaign consist of."""

    provenance: list[str]
    rows: list[AttributedRow]
    figures: NotRequired[list[str]]


class CurvePoint(TypedDict):
    """The cost of a mode at one value of a sweep; above 1 is worse, whatever the metric."""

    value: str
    cost: float | None
    interval: list[float] | None
    rounds: int


class InteractionRow(TypedDict):
    """How the cost changes: ``times`` from the first value to ``value``, or per doubling where ``value`` is null."""

    value: str | None
    times: float | None
    interval: list[float] | None
    p_holm: float | None
    noise_floor: float | None
    verdict: str
    reason: str


class CurveRow(TypedDict):
    """One mode of one row along a sweep. ``course`` is ``changes``, ``level``, ``inconclusive`` or ``refused``."""

    workload: str
    storage: str | None
    metric: str
    family: str | None
    conditions: dict[str, str]
    axis: str
    baseline_mode: str
    mode: str
    provenance: list[str]
    course: str
    points: list[CurvePoint]
    interactions: list[InteractionRow]


class Curves(TypedDict):
    """The curves of a campaign's sweeps."""

    provenance: list[str]
    curves: list[CurveRow]
    figures: NotRequired[list[str]]
