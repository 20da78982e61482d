"""What `sevkit probe` prints as ``data``, as types; `sevkit schema probe` makes a JSON Schema of them."""

from typing import Any, Literal, NotRequired, TypedDict

Verdict = str  # ready, not_ready or unknown


class Used(TypedDict):
    """A file of a bundle that contained facts, and its kind."""

    file: str
    what: str


class Source(TypedDict):
    """The source of the facts; ``recorded`` is their source at the time when they were saved.

    ``used`` and ``contradictions``: of a bundle of files.
    """

    kind: str
    recorded: str
    host: str | None
    taken: float | str | None
    cpuid: str | None
    used: NotRequired[list[Used]]
    contradictions: NotRequired[list[str]]


class Cpu(TypedDict):
    """What the processor reports about itself."""

    vendor: str | None
    brand: str | None
    family: int | None
    model: int | None
    stepping: int | None
    generation: str | None
    max_leaf: int | None
    max_extended_leaf: int | None
    hypervisor: str | None
    hypervisor_bit: bool | None


class Asids(TypedDict):
    """How many encrypted guests fit, derived from the leaf."""

    sev_asids: int | None
    sev_asid_range: list[int] | None
    sev_es_snp_asids: int | None
    sev_es_snp_asid_range: list[int] | None


class Differing(TypedDict):
    """A field that is not the same on all CPUs."""

    field: str
    values: list[dict[str, Any]]


class Leaf(TypedDict):
    """CPUID leaf 0x8000001F. The fields are described in docs/probe.md."""

    status: str | None
    reason: str
    raw: dict[str, int] | None
    fields: dict[str, Any] | None
    unknown_bits: dict[str, Any] | None
    derived: Asids | None
    cpus_read: list[int]
    cpus_unreadable: list[Any]
    differences: list[Differing]


class GuestState(TypedDict):
    """Whether this is a guest, and its protection; ``active`` is null for a mode whose state is unknown.

    ``emulated``: QEMU's TCG executes it, so that a mode that is active is the emulator's: no hardware encrypts.
    """

    in_guest: bool | None
    hypervisor: str | None
    emulated: bool
    active: dict[str, bool | None]
    vmpl: int | None
    evidence: list[dict[str, str]]


class Readiness(TypedDict):
    """The verdict on a mode, with the checks that prevent it."""

    verdict: Verdict
    blocking: list[str]
    unknown: list[str]


class CheckRow(TypedDict):
    """One check and its outcome."""

    id: str
    category: str
    generation: str
    modes: list[str]
    weight: str
    status: str
    message: str
    description: str
    reads: str
    hint: str
    depends_on: list[str]


# Whether the mode of --require can be used: "as" a host that runs such guests, or as such a guest.
Required = TypedDict(
    "Required",
    {
        "mode": str,
        "met": bool,
        "as": Literal["host", "guest"],
        "verdict": Verdict,
        "blocking": list[str],
        "unknown": list[str],
    },
)


class Report(TypedDict):
    """A host."""

    source: Source
    cpu: Cpu
    leaf: Leaf
    guest: GuestState
    kernel_log: dict[str, Any]
    readiness: dict[str, Readiness]
    checks: list[CheckRow]
    required: NotRequired[Required]


class LogSource(TypedDict):
    """The source of a judgement: a saved kernel log."""

    kind: Literal["log"]
    file: str


class LogReport(TypedDict):
    """The judgement on a saved kernel log alone."""

    source: LogSource
    kernel_log: dict[str, Any]


class HostRow(TypedDict):
    """One host of a fleet; if it did not answer, ``error`` gives the reason and the rest is null."""

    host: str
    status: Literal["ok", "error"]
    error: str | None
    cpu: Cpu | None
    leaf: dict[str, Any] | None
    guest: GuestState | None
    readiness: dict[str, Readiness] | None
    checks: dict[str, str] | None


class Odd(TypedDict):
    """A host and its value."""

    host: str
    value: str


class StandsOut(TypedDict):
    """A property in which some hosts differ; ``common`` is the majority's value, if there is a majority."""

    property: str
    common: str | None
    hosts: list[Odd]


class Fleet(TypedDict):
    """Several hosts."""

    hosts: list[HostRow]
    stands_out: list[StandsOut]


class Difference(TypedDict):
    """Two hosts side by side."""

    a: dict[str, Any]
    b: dict[str, Any]
    verdicts: list[dict[str, Any]]
    cpu: list[dict[str, Any]]
    leaf: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    readings: list[dict[str, Any]]
