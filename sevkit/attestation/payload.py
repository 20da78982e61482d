"""What the attestation commands print as ``data`` with --json, as types."""

from typing import Any, NotRequired, TypedDict


class TraceLine(TypedDict):
    """A step of a launch digest; ``gpa`` is null if the mode measures no addresses."""

    what: str
    kind: str
    gpa: int | None
    size: int
    contents: str
    digest: str


class Measurement(TypedDict):
    """A launch digest, and the inputs that it was computed from."""

    launch_digest: str
    mode: str
    vcpus: int
    vcpu_sig: str
    vcpu_type: str | None
    guest_features: str
    vmm: str
    kernel_hashes: bool
    warnings: list[str]
    trace: NotRequired[list[TraceLine]]
    vmsa_files: NotRequired[list[str]]


class IgvmMeasurement(TypedDict):
    """The launch digest of an IGVM file; the ID block's fields are null if the file has none."""

    launch_digest: str
    mode: str
    policy: str | None
    warnings: list[str]
    id_block_digest: str | None
    id_block_matches: bool | None
    trace: NotRequired[list[TraceLine]]


class ChangeRow(TypedDict):
    """An input that was different."""

    input: str
    given: str
    actual: str


class Explanation(TypedDict):
    """Why a digest differs: ``found`` is the smallest change: null if nothing explains it, empty if equal."""

    equal: bool
    expected: str
    launch_digest: str
    found: list[ChangeRow] | None
    others: list[list[ChangeRow]]
    note: str
    tried: int
    complete: bool
    ruled_out: list[str]


class SignedBlock(TypedDict):
    """An ID block and its authentication page in base64, and the digests of the keys in hex."""

    launch_digest: str
    id_block: str
    id_auth: str
    id_key_digest: str
    author_key_digest: str | None


class ShownReport(TypedDict):
    """Every field of a report; nothing was verified."""

    form: str
    certificates: list[str]
    kds_url: str | None
    runtime_data_bound: bool | None
    report: dict[str, Any]


class CheckRow(TypedDict):
    """A check of a report: pass, warning, unknown or fail."""

    check: str
    status: str
    text: str


class Verdict(TypedDict):
    """The verdict on a report: accepted, rejected or inconclusive, with every reason."""

    verdict: str
    reasons: list[str]
    checks: list[CheckRow]
    chain: list[str]
    kds_url: str | None
    report: dict[str, Any]


class VerifiedReport(Verdict):
    """The verdict with the files that were read for it, and what the policy demands nothing of."""

    form: str
    fetched: list[str]
    unreadable: dict[str, str]
    not_demanded: list[str]


class AttestedGuest(Verdict):
    """The verdict on a guest of sevkit's, and whether its digest is the one that its launch should have."""

    guest: str
    provenance: str
    launch_digest: str
    measurement: str
    equal: bool


class BulletinRow(TypedDict):
    """A bulletin: whether it applies (yes, no, unknown), why, the fix, and the source."""

    id: str
    name: str
    cves: list[str]
    applies: str
    fixed_by: list[str]
    why: str
    what: str
    severity: str
    how_sure: str
    note: str
    attacks: list[str]
    sources: list[str]


class BulletinTable(TypedDict):
    """All bulletins for a machine; ``verified`` is false if a report was used without verification."""

    source: str
    product: str | None
    tcb: dict[str, int] | None
    mode: str
    verified: bool | None
    ignored: list[str]
    bulletins: list[BulletinRow]


class VectorRow(TypedDict):
    """A test vector: its file, the expected verdict, and the check that has to fail."""

    name: str
    report: str
    certificates: list[str]
    verdict: str
    check: str | None
    about: str


class VectorSet(TypedDict):
    """Vectors that were written, or the address of the key distribution service that serves them."""

    folder: str
    count: int
    verdicts: dict[str, int]
    url: str | None
