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
    prints = {name: _prints(folder / name, r.samples) for name, r in readings.items() if not r.derived}
    modes = {name: {sample.mode for sample in readings[name].samples} for name in prints}
    holders: dict[object, list[str]] = {}
    for name, keys in prints.items():
        for key in keys:
            holders.setdefault(key, []).append(name)
    found: list[tuple[str, str]] = []
    kept: dict[object, str] = {}
    for name, keys in prints.items():
        other = min((each for key in keys for each in holders[key] if modes[each] != modes[name]), default=None)
        if other is not None:
            found.append((name, f"the same run as {other}, which is called another mode: neither is believed"))
        elif first := min((kept[key] for key in keys if key in kept), default=None):
            found.append((name, f"a copy of {first}: one run is no repetition of itself"))
        else:
            kept |= dict.fromkeys(keys, name)
    return found


def _prints(path: Path, samples: Sequence[Sample]) -> set[object]:
    """What tells the runs of a file from all others: the figures, or all of the text where those may be chance."""
    found: set[object] = set()
    for run in twins.by_boot(samples).values():
        text = "" if twins.unique(run) else documents.digest(path)
        if text or twins.unique(run):
            found.add((twins.figures(run), text))
    return found
