"""The table of bulletins: read from the package's data; each entry is validated."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from sevkit.attestation.report import layout, products
from sevkit.errors import BadInputError
from sevkit.vocabulary import Mode

SEVERITIES = ("critical", "high", "medium", "low", "physical")
WITHOUT_SNP = ("Naples", "Rome")  # SEV and SEV-ES alone
LINES = (*WITHOUT_SNP, *products.Product)


@dataclass(frozen=True)
class Condition:
    """The condition that shows that a fix is present. ``minimum`` has several values if sources disagree."""

    tcb: str | None = None
    minimum: tuple[int, ...] = ()
    which: str = "reported"
    models: tuple[int, ...] = ()
    steppings: tuple[int, ...] = ()
    mit_bit: int | None = None
    platform: str | None = None
    policy: str | None = None
    wanted: bool = True
    cannot_tell: str | None = None

    def __str__(self) -> str:
        if self.tcb is not None:
            levels = " or ".join(f"{value:#x}" for value in self.minimum)
            return f"{self.tcb} SPL {levels}{' (current TCB)' if self.which == 'current' else ''}"
        if self.mit_bit is not None:
            return f"MIT_VECTOR bit {self.mit_bit}"
        if self.cannot_tell is not None:
            return self.cannot_tell
        where = "PLATFORM_INFO" if self.platform else "guest policy"
        return f"{self.platform or self.policy} {'set' if self.wanted else 'clear'} in the {where}"


HOW_SURE = ("confirmed", "authors", "secondary")  # the head of bulletins.toml says what they mean


@dataclass(frozen=True)
class Bulletin:
    """An entry: the affected products, the fixes, the confidence, and the sources."""

    id: str
    name: str
    what: str
    severity: str
    how_sure: str
    sources: tuple[str, ...]
    fixed_when: Mapping[str, tuple[Condition, ...]]
    cves: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = (Mode.SEV_SNP,)
    others: str = "unknown"
    note: str = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """All its names."""
        return (self.id, *self.also, *self.cves)


def strongest_mode(line: str) -> Mode:
    """The strongest mode that processors of a product line have."""
    return Mode.SEV_ES if line in WITHOUT_SNP else Mode.SEV_SNP


@cache
def bulletins() -> tuple[Bulletin, ...]:
    """All entries."""
    text = (resources.files("sevkit.attestation") / "data" / "bulletins.toml").read_text()
    return read(text)


def read(text: str) -> tuple[Bulletin, ...]:
    """Entries of a table in TOML; raises BadInputError for a malformed entry."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"the table of bulletins is damaged: {error}") from error
    found = tuple(_bulletin(entry) for entry in document.get("bulletin", ()))
    names = [name for entry in found for name in (entry.id, *entry.also)]
    if len(set(names)) != len(names):
        raise BadInputError("a bulletin is twice in the table")
    return found


def _bulletin(entry: dict[str, Any]) -> Bulletin:
    try:
        entry = dict(entry)
        conditions = {
            line: tuple(_condition(item) for item in items) for line, items in entry.pop("fixed_when").items()
        }
        lists: dict[str, Any] = {
            key: tuple(entry.pop(key)) for key in ("sources", "cves", "also", "attacks") if key in entry
        }
        modes = tuple(Mode(mode) for mode in entry.pop("modes", ["sev-snp"]))
        bulletin = Bulletin(**entry, **lists, fixed_when=conditions, modes=modes)
    except (KeyError, TypeError, ValueError) as error:
        raise BadInputError(f"bulletin {entry.get('id')}: {error}") from error
    unknown = set(conditions) - set(LINES)
    if unknown or bulletin.severity not in SEVERITIES or bulletin.how_sure not in HOW_SURE:
        raise BadInputError(f"bulletin {bulletin.id}: unknown product, severity or certainty")
    return bulletin


def _condition(item: Mapping[str, Any]) -> Condition:
    known = {"tcb", "min", "which", "model", "stepping", "mit_bit", "platform", "policy", "is", "cannot_tell"}
    if set(item) - known:
        raise ValueError(f"unknown condition {sorted(set(item) - known)}")
    minimum = item.get("min", [])
    condition = Condition(
        tcb=item.get("tcb"),
        minimum=tuple(minimum) if isinstance(minimum, list) else (minimum,),
        which=item.get("which", "reported"),
        models=tuple(item.get("model", ())),
        steppings=tuple(item.get("stepping", ())),
        mit_bit=item.get("mit_bit"),
        platform=item.get("platform"),
        policy=item.get("policy"),
        wanted=item.get("is", True),
        cannot_tell=item.get("cannot_tell"),
    )
    good = (
        (condition.tcb is None or (condition.tcb in products.COMPONENTS and bool(condition.minimum)))
        and (condition.platform is None or condition.platform in layout.PLATFORM_BITS)
        and (condition.policy is None or condition.policy in layout.POLICY_BITS)
    )
    if not good:
        raise ValueError(f"{item} names no component or bit")
    return condition
