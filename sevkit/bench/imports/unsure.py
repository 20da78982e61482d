"""Files that are not believed beside the others of their folder: copies of one run, and modes that a folder lends."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from sevkit.bench import names, twins
from sevkit.bench.imports import documents
from sevkit.bench.imports.given import Given, Reading, own_name
from sevkit.bench.model import Sample


def borrowed_modes(readings: Mapping[str, Reading], given: Given) -> list[tuple[str, str]]:
    """Files whose mode is known from a folder only, in which other files say theirs nearer.

    In ``sev-eval`` with ``native`` and ``sev``, the first word of the outer folder is no mode of what is in ``native``.
    """
    places = {name: names.place_of_mode(own_name(PurePath(name))) for name in readings}
    nearer: set[tuple[str, ...]] = set()
    for name, place in places.items():
        parts = PurePath(name).parts
        nearer |= {parts[: i + 1] for i in range(place or 0)}
    found = []
    for name, place in places.items():
        parts = PurePath(name).parts
        if given.mode is None and place is not None and place < len(parts) - 1 and parts[: place + 1] in nearer:
            folder = "/".join(parts[: place + 1])
            why = f"only the folder {folder} says a mode, and other files in it say theirs themselves: name each"
            found.append((name, why))
    return found


def copies(readings: Mapping[str, Reading], folder: Path) -> list[tuple[str, str]]:
    """Files that hold the run of another one. Under two modes neither is believed: which one ran, they do not say."""
    known: dict[object, list[str]] = {}
    for name, reading in readings.items():
        if not reading.derived:
            known.setdefault(_print(folder / name, reading.samples), []).append(name)
    found = []
    for key, alike in known.items():
        if key is None or len(alike) == 1:
            continue
        modes = {sample.mode for name in alike for sample in readings[name].samples}
        if all({sample.mode for sample in readings[name].samples} == modes for name in alike):
            found += [(name, f"a copy of {alike[0]}: one run is no repetition of itself") for name in alike[1:]]
            continue
        for name in alike:
            other = next(each for each in alike if each != name)
            found.append((name, f"the same run as {other}, which is called another mode: neither is believed"))
    return found


def _print(path: Path, samples: Sequence[Sample]) -> object:
    """What tells a run from all others; None where two runs may have given the same."""
    return twins.figures(samples) if twins.unique(samples) or documents.is_long(path) else None
