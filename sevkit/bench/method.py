"""How a campaign was measured, in sentences: what a referee asks first, and a table of ratios does not say."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sevkit.bench.model import Boot, SlotId
from sevkit.bench.records import Discarded, Failure, SkippedFile, SlotEnd, Stop, StoppingRule
from sevkit.bench.store import Campaign
from sevkit.vocabulary import Provenance

REASONS = {
    "narrow": "every interval is narrow enough",
    "budget": "the budget has no room for more",
    "boots": "all boots are done",
}


def told(campaign: Campaign) -> tuple[str, ...]:
    """How the results of a directory were measured, a fact per sentence."""
    if campaign.header.get("origin") == "run":
        return tuple(_measured(campaign))
    files = campaign.header.get("files")
    if not isinstance(files, list):
        return ()
    left = len({event.file for event in campaign.of_kind(SkippedFile)})
    what = f"Taken from {len(files)} files of other programs" + (f"; figures of {left} were left out." if left else ".")
    return (f"{what} In what order they were measured, after which warm-up, and what was discarded, they do not say.",)


def _measured(campaign: Campaign) -> Iterator[str]:
    plan = _mapping(campaign.header.get("plan"))
    profile = _mapping(plan.get("profile"))
    arms = [str(arm) for arm in plan.get("arms") or ()]
    seed = campaign.header.get("seed", "?")
    yield (
        f"Each round boots {', '.join(arms)} once, one after the other. Rounds go forwards and backwards in turn, and "
        "every second pair begins one arm later: the order of boots is balanced against drift, not random. The order "
        f"of workloads is shuffled by the seed {seed}, for each round anew, and is the same in all its boots."
    )
    yield from _samples(campaign, profile, _mapping(plan.get("workloads")))
    yield from _places(list(campaign.boots.values()), str(campaign.header.get("where", "")))
    yield from _ending(campaign)
    yield from _lost(campaign)
    missing = _mapping(campaign.header.get("missing_modes"))
    yield from (f"{mode} was not measured: {reason}." for mode, reason in missing.items())


def _samples(campaign: Campaign, profile: Mapping[str, Any], workloads: Mapping[str, Any]) -> Iterator[str]:
    warm = sum(sample.warmup for sample in campaign.samples)
    own = sorted(name for name, entry in workloads.items() if _mapping(entry).get("warms_itself"))
    most = profile.get("iterations", "?")
    text = f"Samples of a workload per boot: {most}, after {profile.get('warmups', '?')} as warm-up."
    text += f" The {warm} warm-ups are kept in the records, and in no figure." if warm else " No warm-up was recorded."
    yield text + (f" These warm themselves, before their clock starts: {', '.join(own)}." if own else "")


def _places(boots: list[Boot], where: str) -> Iterator[str]:
    kinds = {at.provenance for at in boots}
    if kinds == {Provenance.MOCK}:
        yield "Nothing was measured: the mock invented all values from the seed."
        return
    if where == "host":
        yield "Measured on the host itself, not in guests: an arm is the same host again."
    accels = Counter(at.facts.get("accel", "unknown") for at in boots)
    if accels.get("tcg"):
        yield (
            f"{accels['tcg']} of {accels.total()} boots ran under TCG: QEMU translated each instruction, and did what "
            "SEV does in software. Ratios are about that program, not about a processor."
        )


def _ending(campaign: Campaign) -> Iterator[str]:
    rules, stops = campaign.of_kind(StoppingRule), campaign.of_kind(Stop)
    if rules:
        first = rules[0]
        text = f"Stopping rule: at most {first.most_boots} rounds, or {first.budget:g} s"
        text += f", or all intervals within {first.target:.1%}"
        later = [str(rule.rounds) for rule in rules[1:]]
        yield text + (f"; changed after {', '.join(later)} rounds." if later else "; never changed.")
    if stops:
        last = stops[-1]
        yield f"Ended after {last.rounds} rounds: {REASONS.get(last.reason, last.reason)}."


def _lost(campaign: Campaign) -> Iterator[str]:
    """Boots and runs that are in no figure: chosen by a rule, and to be judged by the reader."""
    slots = campaign.of_kind(SlotEnd)
    dead = _by_arm(event.slot for event in slots if not event.booted)
    again = _by_arm(event.slot for event in campaign.of_kind(Discarded))
    failed = _by_arm({(f.slot, f.workload): f.slot for f in campaign.of_kind(Failure) if f.workload != "boot"}.values())
    yield (
        f"Boots discarded before they measured: {again or 'none'}. Boots that did not come up: {dead or 'none'}. "
        f"Runs that failed: {failed or 'none'}."
    )


def _by_arm(slots: Any) -> str:
    counts = Counter(slot.arm for text in slots if (slot := SlotId.parse(text)) is not None)
    return ", ".join(f"{count} of {arm}" for arm, count in sorted(counts.items()))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
