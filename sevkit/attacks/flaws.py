"""Flaws of a platform, by the bulletin that fixes them: what they let the host past, for a matrix of an unpatched part.

A flaw of the RMP lets the host forge an entry before an access and restore it afterwards, so no check of the table
stops the host. A flaw that gives away chip keys makes the key of every version the host's.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sevkit.attacks.mitigations import MEASURES, Mitigation
from sevkit.errors import UsageError
from sevkit.model.rmp_checks import GUEST_PRIVATE, GUEST_SHARED_WRITE, HOST_WRITE

# The check of tcb-rollback: a report that claims a version is signed by that version's chip key.
CHIP_KEY = "versioned-chip-key"
_RMP = frozenset(check.name for check in (*HOST_WRITE, *GUEST_PRIVATE, *GUEST_SHARED_WRITE))


@dataclass(frozen=True)
class Flaw:
    """A flaw: its bulletin, its name, what it gives to the host, and the checks that do not stop the host any more."""

    bulletin: str
    name: str
    gives: str
    passes: frozenset[str] = frozenset()


_RMP_WRITES = "entries of the RMP: forged before an access, restored after it"
_CHIP_KEYS = "the chip keys of all versions"
_KNOWN = (
    Flaw("AMD-SB-3020", "RMPocalypse", _RMP_WRITES, _RMP),
    Flaw("AMD-SB-3034", "Fabricked", _RMP_WRITES, _RMP),
    Flaw("AMD-SB-3030", "BreakFAST", _CHIP_KEYS, frozenset({CHIP_KEY})),
    Flaw("AMD-SB-3045", "MilanLaunchy and BadFuse", _CHIP_KEYS, frozenset({CHIP_KEY})),
)


def known() -> dict[str, Flaw]:
    """All flaws by bulletin: those above, and one for each other bulletin that a mitigation names."""
    found = {flaw.bulletin: flaw for flaw in _KNOWN}
    for mitigation, measure in MEASURES.items():
        for bulletin in measure.bulletins:
            found.setdefault(bulletin, Flaw(bulletin, str(mitigation), f"a part or guest without {mitigation}"))
    return dict(sorted(found.items()))


def parse(text: str | None) -> tuple[Flaw, ...]:
    """The flaws that a list of bulletins or names describes; raises UsageError with those there are."""
    by_word = {word.lower(): flaw for flaw in known().values() for word in (flaw.bulletin, flaw.name)}
    words = [word.strip().lower() for word in text.split(",")] if text is not None else []
    for word in words:
        if word not in by_word:
            raise UsageError(f"no flaw {word!r} has an experiment", hint=f"known: {', '.join(known())}")
    return tuple(dict.fromkeys(by_word[word] for word in words))


def passed(flaws: Iterable[Flaw]) -> frozenset[str]:
    """The names of the checks that do not stop the host on a platform with these flaws."""
    return frozenset().union(*(flaw.passes for flaw in flaws))


def mitigations(flaws: Sequence[Flaw]) -> frozenset[Mitigation]:
    """The mitigations that a platform with these flaws has: none, or all but those that the bulletins brought.

    A part with a flaw of the RMP or of its keys is taken as it shipped: its other mitigations rest on these two.
    """
    if passed(flaws):
        return frozenset()
    missing = {flaw.bulletin for flaw in flaws}
    return frozenset(each for each in Mitigation if missing.isdisjoint(MEASURES[each].bulletins))
