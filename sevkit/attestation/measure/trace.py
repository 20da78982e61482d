"""Each step of a launch digest, to find the first difference between two. Pure."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sevkit.attestation.payload import TraceLine
from sevkit.model.digest import LaunchInputs, check, legacy_pieces, snp_runs, start_of
from sevkit.model.measure import PageRun, running
from sevkit.vocabulary import Mode


class Line(NamedTuple):
    """A step: description, kind of page, guest address, size in bytes, hash of the contents, the digest after it."""

    what: str
    kind: str
    gpa: int | None
    size: int
    contents: str
    digest: str

    def as_dict(self) -> TraceLine:
        """The step, JSON-ready."""
        return {
            "what": self.what,
            "kind": self.kind,
            "gpa": self.gpa,
            "size": self.size,
            "contents": self.contents,
            "digest": self.digest,
        }


def trace(inputs: LaunchInputs) -> Iterator[Line]:
    """The steps of a launch digest in order; the last one's digest is the launch digest."""
    check(inputs)
    if inputs.mode is Mode.SEV_SNP:
        yield from trace_runs(start_of(inputs), snp_runs(inputs))
        return
    digest = hashlib.sha256()
    for what, data in legacy_pieces(inputs):
        digest.update(data)
        yield Line(what, "data", None, len(data), hashlib.sha256(data).hexdigest(), digest.hexdigest())


def trace_runs(value: bytes, runs: Iterable[PageRun]) -> Iterator[Line]:
    """One line per page."""
    for run in runs:
        gpa = run.gpa
        for contents, after in zip(run.contents, running(value, run), strict=True):
            value = after
            yield Line(run.what, run.kind.name, gpa, 4096, contents.hex(), after.hex())
            gpa += run.stride
