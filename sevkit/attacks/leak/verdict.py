"""Derive the verdict of a leak experiment from its observations. Pure. Without enough evidence: inconclusive."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sevkit.vocabulary import Evidence, Mode, Verdict

# Which evidence supports "protected". SEV and SEV-ES encrypt in place, so private memory must appear as ciphertext.
# Under SNP the VMM does not map private pages (guest_memfd) or, with older kernels, maps their ciphertext.
_EXPLAINED: Mapping[Mode, frozenset[Evidence]] = {
    Mode.NOSEV: frozenset(),
    Mode.SEV: frozenset({Evidence.CIPHERTEXT}),
    Mode.SEV_ES: frozenset({Evidence.CIPHERTEXT}),
    Mode.SEV_SNP: frozenset({Evidence.HOLE, Evidence.ZERO, Evidence.CIPHERTEXT}),
}
# Pages shared with the host by design (bounce buffers, console) are readable in every mode. Linux makes 6 % of RAM
# shared for bounce buffers, 64 MiB at least (mem_encrypt.c: sev_setup_arch); most of that stays zero.
MOST_SHARED = 1 / 3  # of the pages that hold anything
# Under SNP not all pages with content are in the capture, so the guest reports how many it uses. If it does not:
MOST_SHARED_PAGES = 4096  # 16 MiB, less than a plain kernel alone uses
LEAST_SEEN = 1 / 2  # of the pages that the guest uses: under SEV each of them, even of zeros, is ciphertext


@dataclass(frozen=True)
class Controls:
    """The controls of a run; True means passed.

    ``positive``: the markers were found, in guest memory that is shared by design and in the VMM itself.
    ``negative``: a value that was never planted was not found. ``secret_alive``: the guest had the secret to the end.
    """

    positive: bool
    negative: bool
    secret_alive: bool


@dataclass(frozen=True)
class Seen:
    """The observations: where the secret was found, whether the search finished, and the classes of guest RAM pages.

    ``missing_bytes``: guest RAM that should have been searched but was not. ``pages``: guest RAM pages by class.
    ``secret_pages``: the same for the pages that hold a secret according to the guest. ``used_pages``: how many pages
    the guest says it uses (0: not known). ``second_look``: how often the secret was found in the process itself when it
    was searched once more. ``moved``: why data may have moved during both searches. ``parts``: how often a part of a
    secret stands where a page begins or ends, so that the rest may be in another page.
    """

    secret_hits: int
    finished: bool
    missing_bytes: int
    pages: Mapping[str, int]
    secret_pages: Mapping[str, int] = field(default_factory=dict)
    used_pages: int = 0
    second_look: int = 0
    parts: int = 0
    moved: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """A verdict, its evidence, and the reasons for it in words."""

    verdict: Verdict
    evidence: Evidence | None
    reasons: tuple[str, ...]


def decide(mode: Mode, seen: Seen, controls: Controls) -> Decision:
    """Leaked, protected or inconclusive. Unfinished searches, missing memory and failed controls are inconclusive."""
    doubts = _doubts(seen, controls)
    evidence = Evidence.PLAINTEXT if seen.secret_hits else look(mode, seen)
    if not seen.secret_hits:
        doubts += _unexplained(mode, seen, evidence)
    if doubts:
        return Decision(Verdict.INCONCLUSIVE, evidence, tuple(doubts))
    if seen.secret_hits:
        return Decision(Verdict.LEAKED, evidence, (f"the secret stands in the capture {seen.secret_hits} times",))
    return Decision(Verdict.PROTECTED, evidence, (f"the secret is not in the capture; guest RAM there is {evidence}",))


def _doubts(seen: Seen, controls: Controls) -> list[str]:
    doubts = []
    if not seen.finished:
        doubts.append("the search did not finish")
    if seen.missing_bytes:
        doubts.append(f"{-(-seen.missing_bytes >> 10)} KiB of guest RAM were not searched")
    if not controls.positive:
        doubts.append("positive control failed: what must be in the capture was not found")
    if not controls.negative:
        doubts.append("negative control failed: a value that was never planted was found")
    if not controls.secret_alive:
        doubts.append("the guest no longer held the secret after the capture")
    return doubts


def _unexplained(mode: Mode, seen: Seen, evidence: Evidence | None) -> list[str]:
    """Reasons why "not found" does not prove protection: guest RAM does not look as it does under this mode."""
    explained = _EXPLAINED[mode]
    found = []
    if seen.second_look:
        found.append(f"the secret is in the process {seen.second_look} times, but not in the capture")
    if seen.parts:
        found.append(f"a part of a secret stands at the border of a page, {seen.parts} times")
    found += seen.moved
    for word, count in seen.secret_pages.items():
        if count and word not in explained:
            found.append(f"{count} pages that hold a secret, by the guest's word, are {word} in the capture")
    if not explained:
        found.append(f"the secret was not found, but mode {mode} hides nothing: the search must have missed it")
    elif evidence is None or evidence is Evidence.PLAINTEXT:
        found.append("the secret was not found, but guest RAM is readable: it may have been searched for wrongly")
    elif evidence not in explained:
        found.append(f"the secret was not found, but guest RAM is {evidence}: mode {mode} shows ciphertext")
    return found


def fits(mode: Mode, pages: Mapping[str, int]) -> tuple[Evidence | None, bool]:
    """What pages look like, and whether that fits the mode. It is no verdict: that needs a secret and controls."""
    found = look(mode, Seen(0, finished=True, missing_bytes=0, pages=pages))
    return found, found in (_EXPLAINED[mode] or {Evidence.PLAINTEXT})


def look(mode: Mode, seen: Seen) -> Evidence | None:
    """The class of private guest RAM, if one class is clear.

    Shares are relative to the pages that are not empty, so that they do not depend on the size of guest RAM.
    """
    ciphertext, plaintext = seen.pages.get("ciphertext", 0), seen.pages.get("plaintext", 0)
    populated = ciphertext + plaintext
    if populated and plaintext <= populated * MOST_SHARED and ciphertext >= seen.used_pages * LEAST_SEEN:
        return Evidence.CIPHERTEXT
    used = seen.used_pages or sum(seen.pages.values())
    explained = used * MOST_SHARED if seen.used_pages else min(MOST_SHARED_PAGES, used * MOST_SHARED)
    if plaintext > (explained if mode is Mode.SEV_SNP else populated * MOST_SHARED):
        return Evidence.PLAINTEXT
    if not any(seen.pages.values()):
        return None
    return Evidence.HOLE if seen.pages.get("hole", 0) > seen.pages.get("zero", 0) else Evidence.ZERO
