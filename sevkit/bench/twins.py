"""Results that are given twice: the same measurements are no repetition of themselves."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from sevkit.bench.model import Boot, Sample
from sevkit.errors import UsageError
from sevkit.vocabulary import Provenance

# What a workload does, and what its figure means; the rest of its entry is about estimates and texts.
_WORK = ("command", "prepare", "before", "sources", "parse", "pattern", "amount", "metric", "unit", "direction")


# Digits of a value that two runs of one program do not share by chance, after the first ones, which they do.
_SHARED_DIGITS = 3
_TELLING_DIGITS = 8


def figures(samples: Sequence[Sample]) -> frozenset[tuple[object, ...]]:
    """What a file or boot measured, without what people call it: names and modes can be changed."""
    return frozenset((s.metric.name, s.metric.unit, s.value, s.time) for s in samples)


def by_boot(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """The samples of each boot or run, by its identity."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.at.identity, []).append(sample)
    return found


def unique(samples: Sequence[Sample]) -> bool:
    """Whether no other run can have given the same figures: they have a time, or enough digits together."""
    if any(s.time for s in samples):
        return True
    own = sum(max(0, _digits(s.value) - _SHARED_DIGITS) for s in {s.value: s for s in samples}.values())
    return own >= _TELLING_DIGITS


def _digits(value: float) -> int:
    mantissa = repr(value).lower().partition("e")[0]
    return len(mantissa.replace(".", "").strip("-0"))


def check(results: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse results that share measurements; raises UsageError, naming the two."""
    if len(results) < 2:
        return
    prints = {name: _prints(samples) for name, samples in results.items()}
    whole = {name: _whole(samples) for name, samples in results.items()}
    for first, second in combinations(prints, 2):
        smaller, larger = sorted((prints[first], prints[second]), key=len)
        common = smaller & larger
        # Values without a time, as other programs print them, may coincide: then all must be the same.
        timed = any(time for *_, time in common)
        if timed or (common and common == smaller) or whole[first] & whole[second]:
            raise UsageError(
                f"{first} and {second} hold the same measurements",
                hint="give each once: a copy is no repetition, and no other host",
            )


def check_works(headers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse results in which one name stands for two workloads (another command, unit, length); raises UsageError."""
    seen: dict[str, tuple[str, object]] = {}
    for name, header in headers.items():
        for workload, what in _works(header.get("plan")):
            first, known = seen.setdefault(workload, (name, what))
            if known != what:
                raise UsageError(
                    f"the workload {workload} is not the same in {first} and in {name}",
                    hint="measure both with one version of sevkit, one suite and the same --seconds",
                )


def _works(plan: Any) -> Iterator[tuple[str, object]]:
    """What each workload of a plan does; a plan of another shape says nothing."""
    if not isinstance(plan, Mapping) or not isinstance(plan.get("workloads"), Mapping):
        return
    profile = plan.get("profile")
    seconds = profile.get("seconds") if isinstance(profile, Mapping) else None
    for workload, entry in plan["workloads"].items():
        what = {key: entry.get(key) for key in _WORK} if isinstance(entry, Mapping) else {}
        yield str(workload), what | ({"seconds": seconds} if "SECONDS" in str(what.get("command")) else {})


def check_hosts(results: Mapping[str, Iterable[Boot]]) -> None:
    """Refuse results of one host as those of two; raises UsageError, naming them. The mock's hosts are invented."""
    seen: dict[str, str] = {}
    for name, boots in results.items():
        real = (boot for boot in boots if boot.provenance is not Provenance.MOCK)
        for host in sorted({boot.facts.get("host", "") for boot in real} - {""}):
            if seen.setdefault(host, name) != name:
                raise UsageError(
                    f"{seen[host]} and {name} are both of the host {host}: the summary is over hosts",
                    hint="`sevkit bench compare` takes several campaigns of one host",
                )


def _prints(samples: Sequence[Sample]) -> set[tuple[object, ...]]:
    """What tells a measurement from all others, whatever directory it is in."""
    return {(s.workload, s.storage, s.metric.name, s.value, s.time) for s in samples}


def _whole(samples: Sequence[Sample]) -> set[frozenset[tuple[object, ...]]]:
    """The figures of each boot or file that no other can have given."""
    return {figures(found) for found in by_boot(samples).values() if unique(found)}
