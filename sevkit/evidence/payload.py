"""The record that reports embed, and what `sevkit report-check` prints as ``data``, as types."""

from typing import Any, Literal, TypedDict


class Host(TypedDict):
    """The machine that a result comes from; null where this user may not read it."""

    name: str
    cpu: str | None
    cpu_signature: str | None
    microcode: str | None
    cpus: int
    bios: str | None
    product: str | None
    kernel: str
    system: str | None


class HashedFile(TypedDict):
    """A file that took part; ``sha256`` is null where it could not be hashed, and ``note`` says why."""

    role: str
    path: str
    bytes: int | None
    sha256: str | None
    note: str | None


class Record(TypedDict):
    """All that is embedded.

    ``result_sha256`` is over ``result`` as canonical JSON, ``page_sha256`` over the page without this record,
    ``record_sha256`` over all of this with an empty ``record_sha256``.
    """

    sevkit: str
    host: Host
    operator: str | None
    ticket: str | None
    files: list[HashedFile]
    result: dict[str, Any]
    result_sha256: str
    page_sha256: str
    record_sha256: str


class Finding(TypedDict):
    """One thing that was checked."""

    what: str
    state: Literal["confirmed", "wrong", "open"]
    detail: str


class Checked(TypedDict):
    """A report that was checked. ``sound`` is false as soon as one thing is wrong."""

    report: str
    sound: bool
    host: Host
    operator: str | None
    ticket: str | None
    findings: list[Finding]
