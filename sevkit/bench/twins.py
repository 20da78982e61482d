"""Results that are given twice: the same measurements are no repetition of themselves."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from sevkit.bench.model import Boot, Sample
from sevkit.errors import UsageError
from sevkit.vocabulary import Provenance


def check(results: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse results that share measurements; raises UsageError, naming the two."""
    prints = {name: _prints(samples) for name, samples in results.items()}
    for first, second in combinations(prints, 2):
        smaller, larger = sorted((prints[first], prints[second]), key=len)
        common = smaller & larger
        # Values without a time, as other programs print them, may coincide: then all must be the same.
        if any(time for *_, time in common) or (common and common == smaller):
            raise UsageError(
                f"{first} and {second} hold the same measurements",
                hint="give each once: a copy is no repetition, and no other host",
            )


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
    return {(s.workload, s.storage, s.metric.name, s.mode, s.value, s.time) for s in samples}
