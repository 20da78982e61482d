"""Why a digest differs: find the smallest change of inputs that gives the reported digest. Pure.

The search increases the number of changed inputs: none, one, two, three. It tries all candidates of one number before
it returns, so the result is a smallest change, with all other changes of the same size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from math import prod

from sevkit.attestation.measure import alternatives
from sevkit.attestation.measure.alternatives import MOST_VCPUS, Dimension, Material, Option
from sevkit.attestation.measure.candidates import Candidates
from sevkit.attestation.measure.trace import trace
from sevkit.attestation.payload import ChangeRow, Explanation
from sevkit.errors import UsageError
from sevkit.model.digest import LaunchInputs, check, launch_digest
from sevkit.vocabulary import Mode

_PAIRS = 2
_DEEP = {"guest-features": "guest-features of 16 bits", "vcpu-type": "vcpu-type of known families"}
_OF_SAVE_AREAS = frozenset(_DEEP)
_SHORT = 500  # a wide list of at most this length is combined with one other change
_FEW_VCPUS = 64
SIZES = {Mode.SEV: 32, Mode.SEV_ES: 32, Mode.SEV_SNP: 48}
Progress = Callable[[int, str], None]


@dataclass(frozen=True)
class Change:
    """An input that was different: the given value, and the value that gives the expected digest."""

    input: str
    given: str
    actual: str

    def as_dict(self) -> ChangeRow:
        """The change, JSON-ready."""
        return {"input": self.input, "given": self.given, "actual": self.actual}


@dataclass
class Answer:
    """The result. ``found`` is the first of the smallest changes: None if there is none, empty if digests are equal."""

    expected: bytes
    computed: bytes
    found: list[Change] | None = None
    others: list[list[Change]] = field(default_factory=list)
    note: str = ""
    tried: int = 0
    complete: bool = True
    ruled_out: list[str] = field(default_factory=list)

    def as_dict(self) -> Explanation:
        """The answer, JSON-ready."""
        rows = [[change.as_dict() for change in changes] for changes in (self.found or [], *self.others)]
        return {
            "equal": self.expected == self.computed,
            "expected": self.expected.hex(),
            "launch_digest": self.computed.hex(),
            "found": None if self.found is None else rows[0],
            "others": rows[1:],
            "note": self.note,
            "tried": self.tried,
            "complete": self.complete,
            "ruled_out": self.ruled_out,
        }


@dataclass(frozen=True)
class Limits:
    """Limits of the search: inputs changed at once, number of vCPUs, number of candidates."""

    changes: int = 3
    vcpus: int = MOST_VCPUS
    candidates: int = 5_000_000


def explain(
    inputs: LaunchInputs,
    expected: bytes,
    *,
    material: Material | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> Answer:
    """Search for the change; raises UsageError if no mode has digests of the expected one's size.

    A digest of another size than the mode has is of another mode: that is the first change, then come the others.
    """
    check(inputs)
    limits = limits or Limits()
    if len(expected) != SIZES[inputs.mode]:
        return _of_other_mode(inputs, expected, material, limits, progress)
    answer = Answer(expected, launch_digest(inputs))
    if answer.computed == expected:
        answer.found = []
        return answer
    step = _inside(inputs, expected)
    if step:
        answer.found, answer.note = [Change("steps", "all", step)], step
        return answer
    search = _Search(inputs, answer, material or Material(), limits, progress)
    search.run()
    return answer


def _of_other_mode(
    inputs: LaunchInputs, expected: bytes, material: Material | None, limits: Limits, progress: Progress | None
) -> Answer:
    modes = [mode for mode, size in SIZES.items() if size == len(expected)]
    if not modes:
        hint = "give the digest in hex"
        raise UsageError(f"a launch digest of {inputs.mode} has {SIZES[inputs.mode]} bytes", hint=hint)
    sizes = f"{len(expected)} bytes: a digest of {' or '.join(modes)}, not of {inputs.mode}"
    answer = Answer(expected, launch_digest(inputs), note=sizes)
    rest = replace(limits, changes=max(1, limits.changes - 1))
    ways: list[list[Change]] = []
    for mode in modes:
        part = explain(replace(inputs, mode=mode), expected, material=material, limits=rest, progress=progress)
        found = [part.found, *part.others] if part.found is not None else []
        first = Change("mode", inputs.mode, mode)
        ways += [[first, *changes] for changes in found if all(item.input != "mode" for item in changes)]
        answer.tried += part.tried
        answer.complete &= part.complete
        answer.ruled_out += [f"{mode}: {line}" for line in part.ruled_out]
    ways.sort(key=len)
    if ways:
        answer.found, *answer.others = [way for way in ways if len(way) == len(ways[0])]
    return answer


def _inside(inputs: LaunchInputs, expected: bytes) -> str | None:
    """Whether the expected digest is an intermediate one: then the later parts were not measured.

    Not for fewer save areas: these are fewer vCPUs, which the search finds, as it does SEV-ES without any, and SEV.
    """
    if inputs.mode is not Mode.SEV_SNP:
        return None
    for number, line in enumerate(trace(inputs)):
        if bytes.fromhex(line.digest) == expected and not line.what.startswith("vmsa"):
            return f"only up to step {number} ({line.what}): what follows was not measured"
    return None


def _silent(done: int, text: str) -> None:
    del done, text


def _values(item: Dimension, level: int) -> Sequence[Option]:
    """The values to try for an input when ``level`` inputs change: with one, all; with two, also short wide lists."""
    wide = item.wide if level == 1 or (level == _PAIRS and len(item.wide) <= _SHORT) else ()
    return [*item.options[1:], *wide]


class _Search:
    """One search: dimensions, the digests of candidates, and the candidates that were tried."""

    def __init__(
        self, inputs: LaunchInputs, answer: Answer, material: Material, limits: Limits, progress: Progress | None
    ) -> None:
        self.inputs, self.answer, self.limits = inputs, answer, limits
        self.progress = progress or _silent
        self.dimensions = alternatives.dimensions(inputs, material)
        self.candidates = Candidates(inputs)
        self.most = max(limits.vcpus, inputs.vcpus)

    def run(self) -> None:
        """Search level by level, and stop after the first level with a result."""
        for level in range(1, self.limits.changes + 1):
            self.progress(self.answer.tried, f"{level} changed input{'s' if level > 1 else ''}")
            matches = list(self._level(level))
            if not matches and level == _PAIRS:
                matches = list(self._deep())
            if matches:
                matches.sort(key=lambda changes: [change.input for change in changes])
                self.answer.found, *self.answer.others = matches
                return
            if not self.answer.complete:
                return
            self.answer.ruled_out.append(self._ruled_out(level))

    def _level(self, level: int) -> Iterator[list[Change]]:
        """All candidates with ``level`` changed inputs; the number of vCPUs is one of them, or is as given."""
        given = range(self.inputs.vcpus, self.inputs.vcpus + 1)
        for chosen in combinations(self.dimensions, level):
            yield from self._product(chosen, [_values(item, level) for item in chosen], given)
        counts = range(1, self.most + 1)
        for chosen in combinations(self.dimensions, level - 1):
            yield from self._product(chosen, [_values(item, level) for item in chosen], counts, self.inputs.vcpus)
        if level == _PAIRS:
            few = range(1, min(_FEW_VCPUS, self.most) + 1)
            for item in self.dimensions:
                if len(item.wide) > _SHORT:
                    yield from self._product((item,), [item.wide], few, self.inputs.vcpus)

    def _deep(self) -> Iterator[list[Change]]:
        """Try every value of an input with few bits, alone: rarer than two ordinary mistakes, likelier than three."""
        given = range(self.inputs.vcpus, self.inputs.vcpus + 1)
        for dimension in self.dimensions:
            self.progress(self.answer.tried, f"every {dimension.name}")
            for option in dimension.deep() if dimension.deep is not None else ():
                yield from self._one((dimension,), (option,), given, None)

    def _product(
        self,
        chosen: tuple[Dimension, ...],
        lists: Sequence[Sequence[Option]],
        counts: range,
        skip: int | None = None,
    ) -> Iterator[list[Change]]:
        if not all(lists):
            return
        if self.answer.tried + prod(map(len, lists)) * len(counts) > self.limits.candidates:
            self.answer.complete = False
            return
        for options in product(*lists):
            yield from self._one(chosen, options, counts, skip)
        self.progress(self.answer.tried, " and ".join(item.name for item in chosen) or "vcpus")

    def _one(
        self, chosen: tuple[Dimension, ...], options: tuple[Option, ...], counts: range, skip: int | None
    ) -> Iterator[list[Change]]:
        choice = {item.name: option.value for item, option in zip(chosen, options, strict=True)}
        skipped = {skip}
        if not _OF_SAVE_AREAS.isdisjoint(choice):
            skipped.add(0)  # without save areas these inputs have no effect
        for number, digest in self.candidates.digests(choice, counts):
            self.answer.tried += 1
            if digest == self.answer.expected and number not in skipped:
                changes = [
                    Change(item.name, item.options[0].label, option.label)
                    for item, option in zip(chosen, options, strict=True)
                ]
                yield [*changes, *self._count_change(number)]

    def _count_change(self, number: int) -> list[Change]:
        if number == self.inputs.vcpus or (number == 0 and self.inputs.mode is Mode.SEV):
            return []
        if number == 0:
            return [Change("mode", self.inputs.mode, Mode.SEV)]
        return [Change("vcpus", str(self.inputs.vcpus), str(number))]

    def _ruled_out(self, level: int) -> str:
        names = ", ".join(f"{item.name} ({len(item.options) + len(item.wide) - 1})" for item in self.dimensions)
        what = "any one" if level == 1 else f"any {level}"
        deep = [_DEEP[item.name] for item in self.dimensions if item.deep is not None]
        if level == _PAIRS and deep:
            what = f"every {' and '.join(deep)} alone, and {what}"
        return f"{what} of: {names}, vcpus (1 to {self.most})"
