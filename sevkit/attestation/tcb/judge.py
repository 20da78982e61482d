"""Decide whether a bulletin applies: yes, no or unknown, each with the reason. Pure."""

from dataclasses import dataclass

from sevkit.attestation.payload import BulletinRow
from sevkit.attestation.tcb.known import Known
from sevkit.attestation.tcb.table import WITHOUT_SNP, Bulletin, Condition, bulletins
from sevkit.errors import ExitCode
from sevkit.vocabulary import Mode

YES, NO, UNKNOWN = "yes", "no", "unknown"


@dataclass(frozen=True)
class Judgement:
    """The answer on one bulletin. ``fixed_by`` is the fix; for "no", the fix that was found."""

    bulletin: Bulletin
    applies: str
    why: str
    fixed_by: tuple[str, ...]

    def as_dict(self) -> BulletinRow:
        """The judgement, JSON-ready."""
        entry = self.bulletin
        return {
            "id": entry.id,
            "name": entry.name,
            "cves": list(entry.cves),
            "applies": self.applies,
            "fixed_by": list(self.fixed_by),
            "why": self.why,
            "what": entry.what,
            "severity": entry.severity,
            "how_sure": entry.how_sure,
            "note": entry.note,
            "attacks": list(entry.attacks),
            "sources": list(entry.sources),
        }


def judge_all(known: Known, mode: Mode = Mode.SEV_SNP) -> list[Judgement]:
    """Judge all bulletins, in the table's order."""
    return [judge(entry, known, mode) for entry in bulletins()]


def judge(entry: Bulletin, known: Known, mode: Mode = Mode.SEV_SNP) -> Judgement:
    """Judge one bulletin. What is about SEV-SNP alone does not apply to processors without it."""
    if known.line in WITHOUT_SNP and set(entry.modes) == {Mode.SEV_SNP}:
        return Judgement(entry, NO, f"does not apply: {known.line} has no SEV-SNP", ())
    if mode not in entry.modes:
        return Judgement(entry, NO, f"does not concern {mode} guests", ())
    if known.line is None:
        return Judgement(entry, UNKNOWN, "the processor is not known", ())
    if known.line not in entry.fixed_when:
        reason = f"no source says whether {known.line} is affected"
        if entry.others == NO:
            return Judgement(entry, NO, f"{known.line} is not affected", ())
        return Judgement(entry, UNKNOWN, reason, ())
    conditions = entry.fixed_when[known.line]
    words = tuple(str(item) for item in conditions)
    if not conditions:
        return Judgement(entry, YES, f"{known.line} is affected, and there is no fix", ())
    answers = [_holds(item, known) for item in conditions]
    for item, (holds, why) in zip(conditions, answers, strict=True):
        if holds:
            return Judgement(entry, NO, why, (str(item),))
    open_ones = [why for holds, why in answers if holds is None]
    if open_ones:
        return Judgement(entry, UNKNOWN, "; ".join(open_ones), words)
    return Judgement(entry, YES, "; ".join(why for _, why in answers if why), words)


Answer = tuple[bool | None, str]


def _holds(condition: Condition, known: Known) -> Answer:
    if condition.cannot_tell is not None:
        return None, f"cannot be told from here: {condition.cannot_tell}"
    if condition.tcb is not None:
        return _level(condition, known)
    if condition.mit_bit is not None:
        return _vector(condition.mit_bit, known)
    table, name = (
        (known.platform, condition.platform) if condition.platform is not None else (known.policy, condition.policy)
    )
    where = "PLATFORM_INFO" if condition.platform is not None else "the guest policy"
    value = table.get(name or "")
    if value is None:
        return None, f"{name} of {where} is not known"
    return value is condition.wanted, f"{name} is {'set' if value else 'clear'} in {where}"


def _level(condition: Condition, known: Known) -> Answer:
    """Compare a security version number; one for other models or steppings says nothing about this one."""
    for own, wanted, what in (
        (known.model, condition.models, "model"),
        (known.stepping, condition.steppings, "stepping"),
    ):
        if wanted and own is None:
            return None, f"the {what} is not known, and the {condition.tcb} level depends on it"
        if wanted and own not in wanted:
            return None, f"no {condition.tcb} level is known for {what} {own:#x}"
    levels = known.current_tcb if condition.which == "current" else known.tcb
    name = condition.tcb or ""
    if levels is None or name not in levels:
        return None, f"the {name} SPL is not known"
    have, least, most = levels[name], min(condition.minimum), max(condition.minimum)
    text = f"{name} SPL is {have:#x}"
    if have >= most:
        return True, f"{text}, fixed from {most:#x} on"
    if have < least:
        return False, f"{text}, fixed from {least:#x} on"
    return None, f"{text}, sources disagree: {', '.join(f'{value:#x}' for value in sorted(condition.minimum))}"


def _vector(bit: int, known: Known) -> Answer:
    """A mitigation counts if it was active when the guest was launched and is still active."""
    if known.launch_vector is None or known.current_vector is None:
        return None, f"MIT_VECTOR is not known (bit {bit}): reports have it from version 5 on"
    if (known.launch_vector & known.current_vector) >> bit & 1:
        return True, f"MIT_VECTOR bit {bit} is set"
    return False, f"MIT_VECTOR bit {bit} is clear"


def exit_code(judgements: list[Judgement], ignored: frozenset[str] = frozenset(), *, physical: bool = False) -> int:
    """1 if one applies, 3 if one is unknown, 0 otherwise.

    Ignored bulletins do not count, nor do physical attacks, against which AMD claims no protection.
    """
    counted = {
        item.applies
        for item in judgements
        if not ignored & set(item.bulletin.ids) and (physical or item.bulletin.severity != "physical")
    }
    if YES in counted:
        return ExitCode.NO
    return ExitCode.INCONCLUSIVE if UNKNOWN in counted else ExitCode.DONE
