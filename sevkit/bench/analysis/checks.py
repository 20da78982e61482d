"""What stands between two sets of samples and a verdict: confounds, provenance, order, drift, outliers, first runs."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

from sevkit.bench import facts
from sevkit.bench.analysis import load, stats
from sevkit.bench.analysis.comparison import Arm
from sevkit.bench.model import Boot, Sample, SlotId
from sevkit.vocabulary import Provenance

HOST_BUSY = "the host was busy"

_APART = np.log(1e100)
# What the user chooses, so that rounds on several hosts have it in common.
SETTINGS = ("memory", "guest CPUs", "cache", "image", "accel", facts.WORK_SCALE)

NO_VARIATION = "no variation at all between boots, as no measurement has: copied or rounded values"


def confounds(base: Arm, other: Arm, *, across: bool = False, ignore: Collection[str] = ()) -> list[str]:
    """What may differ between two arms besides the mode: declared by the guests, or seen in the facts of their boots.

    A fact that was not recorded is a confound, not a pass, also when no boot has it (see ``facts.required``). Boots in
    blocks are compared block by block, so that several hosts may take part; other boots must all have the same value
    of a fact. ``across``: the two are of different configurations of one campaign, compared round by round, and
    meant to differ in the facts ``ignore``.
    """
    first, second = base.boots, other.boots
    found = [] if base.mode == other.mode else _declared(first, second)
    keys = sorted({key for at in (*first, *second) for key in at.facts} - set(ignore))
    if not keys:
        return [*found, "confounded: nothing was recorded about the guests (CPU, memory, kernel, accelerator)"]
    keys = sorted({*keys, *(key for at in (*first, *second) for key in facts.required(at))} - set(ignore))
    paired = _paired(first, second, across=across)
    if paired is not None and not paired:
        return [*found, "confounded: no round has both, so that nothing says what else differs"]
    for key in keys:
        words = _apart(key, first, second) if paired is None else _apart_in_blocks(key, paired)
        if words:
            found.append(f"confounded: {key} {words}")
    return found + busy((base, other))


def _paired(first: Sequence[Boot], second: Sequence[Boot], *, across: bool) -> list[tuple[Boot, Boot]] | None:
    """The boots of two arms that are of one block (``across``: of one round); None where there are no blocks."""
    blocks: dict[tuple[int, ...], list[Boot]] = {}
    for at in first:
        slot = SlotId.parse(at.identity)
        if slot is None:
            return None
        blocks.setdefault(_block(slot, across), []).append(at)
    pairs = []
    for at in second:
        slot = SlotId.parse(at.identity)
        if slot is None:
            return None
        pairs += [(mine, at) for mine in blocks.get(_block(slot, across), ())]
    return pairs


def _block(slot: SlotId, across: bool) -> tuple[int, ...]:
    return (slot.source, slot.boot) if across else slot.block


def _apart_in_blocks(key: str, pairs: Sequence[tuple[Boot, Boot]]) -> str:
    """What is wrong with a fact of two arms, block by block; empty when it is the same in each block."""
    values = [(facts.known(one, key), facts.known(two, key)) for one, two in pairs]
    if unknown := sum(None in pair for pair in values):
        return f"is not known in {unknown} of {len(values)} rounds"
    unlike = [(str(one), str(two)) for one, two in values if one != two]
    if not unlike:
        return ""
    (one, two), _ = Counter(unlike).most_common(1)[0]
    where = "" if len(unlike) == len(values) else f" in {len(unlike)} of {len(values)} rounds"
    return f"differs{where} ({one} against {two})"


def _apart(key: str, first: Sequence[Boot], second: Sequence[Boot]) -> str:
    """What is wrong with a fact of two arms; empty when it is one value in all boots."""
    counted = [Counter(facts.known(at, key) for at in boots) for boots in (first, second)]
    if any(None in counts for counts in counted):
        missing = [f"{counts[None]} of {counts.total()}" for counts in counted]
        return f"is not known in {missing[0]} and {missing[1]} boots"
    values = [{str(value): count for value, count in counts.items()} for counts in counted]
    if len(values[0]) == len(values[1]) == 1:
        if values[0].keys() == values[1].keys():
            return ""
        return f"differs ({_shares(values[0])} against {_shares(values[1])})"
    return f"varies between boots ({_shares(values[0])} against {_shares(values[1])})"


def _shares(values: Mapping[str, int]) -> str:
    total = sum(values.values())
    if len(values) == 1:
        return next(iter(values))
    shown = sorted(values.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{value} in {count} of {total}" for value, count in shown)


def busy(arms: Sequence[Arm]) -> list[str]:
    """Whether other programs kept the host busy while these arms were measured."""
    return told_busy([value for arm in arms for value in arm.loads.values()])


def told_busy(loads: Sequence[float]) -> list[str]:
    """What is said of the loads of some boots, if one was too high."""
    high = [value for value in loads if value > load.BUSY]
    if not high:
        return []
    return [f"{HOST_BUSY}: others' load of {max(high):.1f} per CPU, in {len(high)} of {len(loads)} boots"]


def doubts(boots: Sequence[Boot]) -> list[str]:
    """Why no verdict may rest on these boots, whatever else the user accepts."""
    found = {at.standing.doubt for at in boots if at.standing.doubt}
    if any(at.provenance is Provenance.HARDWARE and at.facts.get("accel") == "tcg" for at in boots):
        found.add("guests under TCG are no results of hardware")
    return sorted(found)


def caveats(arms: Sequence[Arm]) -> list[str]:
    """What forbids a verdict unless the user accepts it, besides differences between the arms."""
    boots = [at for arm in arms for at in arm.boots]
    found = dict.fromkeys(at.standing.caveat for at in boots if at.standing.caveat)
    for arm in arms:
        workload = arm.samples[0].workload
        if lost := max(at.standing.lost.get(workload, 0) for at in arm.boots):
            # Those that failed may be those that took too long: the rest would flatter the mode.
            found[f"{workload} failed in {lost} boots of {arm.name}: those that ended are no fair sample"] = None
        found |= dict.fromkeys(_two_configurations(arm))
    silent = [at for at in boots if at.facts and SlotId.parse(at.identity) is None]
    silent = [at for at in silent if at.provenance is not Provenance.MOCK and not set(facts.OF_GUESTS) <= set(at.facts)]
    if silent:
        what = ", ".join(key for key in facts.OF_GUESTS if any(key not in at.facts for at in silent))
        found[f"imported files do not say in what guests they were measured ({what})"] = None
    return list(found)


def no_ratio(arms: Sequence[Arm]) -> str | None:
    """Why a ratio of the values has no meaning, if so."""
    for arm in arms:
        if (arm.values <= 0).any():
            return f"{arm.name} has values that are zero or below: a ratio has no meaning"
    ends = [np.log([arm.values.min(), arm.values.max()]) for arm in arms]
    if np.ptp(ends) > _APART:
        return "values that are more than 1e100 times apart: they are no measurements of one thing"
    return None


def _two_configurations(arm: Arm) -> Iterator[str]:
    """The settings in which the boots of an arm differ: their mean is about neither."""
    for key in SETTINGS:
        counts = Counter(value for at in arm.boots if (value := at.facts.get(key)) is not None)
        if len(counts) > 1:
            yield f"{arm.name} was measured in several configurations: {key} is {_shares(counts)}"


def mislabelled(arm: Arm) -> str | None:
    """Whether samples of one boot claim to be of several: repetitions that are none."""
    claims = Counter(identity for identity, boot in arm.claims if identity and boot is not None)
    for identity, count in claims.items():
        if count > 1:
            return f"boot {identity} stands for {count} boots: its samples are no independent repetitions"
    return None


def _declared(first: Sequence[Boot], second: Sequence[Boot]) -> list[str]:
    return [f"confounded: {text}" for text in sorted({c for at in (*first, *second) for c in at.confounds})]


def mixed_provenance(boots: Sequence[Boot]) -> str | None:
    """Why boots may not be compared without being asked to, if their provenance differs."""
    kinds = {str(at.provenance) for at in boots}
    return None if len(kinds) == 1 else f"mixed provenance: {' and '.join(sorted(kinds))}"


def warnings(base: Arm, other: Arm) -> list[str]:
    """What a reader should know beside the interval."""
    found = []
    knows_boots = base.knows_boots and other.knows_boots
    if not knows_boots and min(len(base.samples), len(other.samples)) > 1:
        found.append("boots are not known: the interval covers the variation between runs only")
    for arm in (base, other):
        found += _first_runs(arm) + _outliers(arm)
    found += _inherent(base, other) + order(base.samples, other.samples)
    if (trend := drifts(base, other)) is not None:
        found.append(trend)
    if knows_boots and _uneven(base, other):
        found.append("boots of different numbers of samples: each boot counts the same")
    return found


def _inherent(base: Arm, other: Arm) -> list[str]:
    """Differences that a mode cannot be had without: part of its cost, and worth knowing."""
    told = {
        f"belongs to the mode: {text}"
        for at in (*base.boots, *other.boots)
        for text in at.environment.get("belongs to the mode", ())
    }
    return sorted(told)


def _first_runs(arm: Arm) -> list[str]:
    name, values = arm.name, arm.values
    change = stats.first_run(values)
    if change is not None:
        return [
            f"the first run of {name} is {_percent(change)} against the others: cold caches, or a leftover of set-up?"
        ]
    if not arm.knows_boots or not (values > 0).all():
        return []
    change = stats.first_in_boot([values[arm.labels == boot] for boot in np.unique(arm.labels)])
    if change is None:
        return []
    return [f"the first run after each boot of {name} is {_percent(change)} against the others: more warm-up is needed"]


def _outliers(arm: Arm) -> list[str]:
    found = stats.outliers(arm.values)
    if not found:
        return []
    listed = ", ".join(f"run {index + 1} (z {score:+.0f})" for index, score in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"{arm.name} has outliers: {listed}{more}; they are kept"]


def order(base: Sequence[Sample], other: Sequence[Sample]) -> list[str]:
    """Whether all runs of one arm came before all of the other, where the wall clock is known."""
    times = [s.time for s in base], [s.time for s in other]
    if min(map(len, times)) < 2 or not (all(times[0]) and all(times[1])):
        return []
    first, second = (0, 1) if times[0][0] <= times[1][0] else (1, 0)
    if max(times[first]) < min(times[second]):
        names = [(base, other)[side][0].arm_name for side in (first, second)]
        return [f"not interleaved: all runs of {names[0]} came before all of {names[1]}"]
    return []


def drifts(base: Arm, other: Arm, *, alpha: float = 0.001) -> str | None:
    """A trend over the order of measurement, in what is left when each arm's own level is taken off."""
    if min(len(base.samples), len(other.samples)) < 3:
        return None
    logs, places = [], []
    for arm in (base, other):
        if not (arm.values > 0).all():
            return None
        log = np.log(arm.values)
        logs.append(log - log.mean())
        places.append(np.array([s.order for s in arm.samples], dtype=np.float64))
    trend = stats.drift(np.concatenate(logs), np.concatenate(places))
    if trend is None or trend.p_value >= alpha or abs(trend.change) < 0.01:
        return None
    return f"drift: values change by {_percent(trend.change)} from the first to the last run, whatever the mode"


def _uneven(base: Arm, other: Arm) -> bool:
    sizes = {count for arm in (base, other) for count in np.unique(arm.labels, return_counts=True)[1]}
    return len(sizes) > 1


def _percent(change: float) -> str:
    return f"{change:+.0%}" if abs(change) >= 0.1 else f"{change:+.1%}"
