"""From what a leak experiment saw to its verdict. Pure; the rules are those of a test that has to earn it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sevkit.vocabulary import Evidence, Verdict


@dataclass(frozen=True)
class Controls:
    """The controls of a run, True when passed.

    ``positive``: what must be found was found, in guest memory that is shared by design and in the VMM itself.
    ``negative``: a value that was never planted was not found. ``secret_alive``: the guest held the secret to the end.
    """

    positive: bool
    negative: bool
    secret_alive: bool


@dataclass(frozen=True)
class Seen:
    """What was seen: places of the secret, whether the search finished, and what guest RAM looks like.

    ``missing_bytes`` is guest RAM that should be in the capture and is not; ``pages`` counts guest RAM pages by class.
    """

    secret_hits: int
    finished: bool
    missing_bytes: int
    pages: Mapping[str, int]


@dataclass(frozen=True)
class Decision:
    """A verdict, the evidence that it names, and the reasons for it in words."""

    verdict: Verdict
    evidence: Evidence | None
    reasons: tuple[str, ...]


def decide(seen: Seen, controls: Controls) -> Decision:
    """Leaked, protected or inconclusive. Whatever is unfinished, missing, or failed a control is inconclusive."""
    doubts = tuple(_doubts(seen, controls))
    evidence = Evidence.PLAINTEXT if seen.secret_hits else _evidence(seen.pages)
    if doubts:
        return Decision(Verdict.INCONCLUSIVE, evidence, doubts)
    if seen.secret_hits:
        return Decision(Verdict.LEAKED, evidence, (f"the secret stands in the capture {seen.secret_hits} times",))
    if evidence is None or evidence is Evidence.PLAINTEXT:
        why = "the secret was not found, but guest RAM is mostly readable: it may have been searched for wrongly"
        return Decision(Verdict.INCONCLUSIVE, evidence, (why,))
    return Decision(Verdict.PROTECTED, evidence, (f"the secret is not in the capture; guest RAM there is {evidence}",))


def _doubts(seen: Seen, controls: Controls) -> list[str]:
    doubts = []
    if not seen.finished:
        doubts.append("the search did not finish")
    if seen.missing_bytes:
        doubts.append(f"{seen.missing_bytes >> 10} KiB of guest RAM are missing from the capture")
    if not controls.positive:
        doubts.append("positive control failed: what must be in the capture was not found")
    if not controls.negative:
        doubts.append("negative control failed: a value that was never planted was found")
    if not controls.secret_alive:
        doubts.append("the guest no longer held the secret after the capture")
    return doubts


def _evidence(pages: Mapping[str, int]) -> Evidence | None:
    """What private guest RAM looks like, when it looks like one thing.

    Pages that are shared by design are readable in every mode: they are few, so the majority of the pages that hold
    anything decides; where hardly any holds anything, RAM is not where the VMM maps it.
    """
    total = sum(pages.values())
    ciphertext, plaintext = pages.get("ciphertext", 0), pages.get("plaintext", 0)
    if ciphertext > plaintext:
        return Evidence.CIPHERTEXT
    if total and plaintext < total / 10:
        return Evidence.HOLE if pages.get("hole", 0) > pages.get("zero", 0) else Evidence.ZERO
    return Evidence.PLAINTEXT if plaintext else None
